"""The compiled mapping: a record (application/rows+json) in, a FHIR transaction Bundle out."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from engine.errors import MappingError, ParseError, UnsupportedError
from engine.formats.fhir import parse
from engine.formats.hl7v2.separators import STANDARD
from engine.formats.rows import Record, is_record, record_of
from engine.message import FHIR_JSON, Lineage, Rendition
from mappings.hl7v2_to_fhir import bundle
from mappings.hl7v2_to_fhir.lineage import leaves
from mappings.hl7v2_to_fhir.loading import ABSENT
from mappings.hl7v2_to_fhir.mapper import order_keys
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding, uri_part
from mappings.rows_to_fhir.compiling import Rule, apply
from mappings.rows_to_fhir.converters import UNMAPPED, RowTransaction
from mappings.rows_to_fhir.definitions import choice
from mappings.rows_to_fhir.identity import Instance, merged, row_key, settle
from mappings.rows_to_fhir.loading import Compiled, RulesFile, compile_file, compile_site
from mappings.rows_to_fhir.objects import flattened, matches, object_record
from mappings.rows_to_fhir.views import View, plain
from mappings.transaction import Draft, name_uuid

_PARTICIPANT: Final = TERMINOLOGY + "provenance-participant-type"
_MOST_DETAILS: Final = 10_000


class RowsMapper:
    """engine.contracts.Mapper. Pure; pickles as the paths of what it was compiled from."""

    def __init__(self, site_mappings: Path | None, file: Path | None, compiled: Compiled) -> None:
        self._site_mappings, self._file, self._compiled = site_mappings, file, compiled

    def __reduce__(self) -> tuple[Any, ...]:
        return compile_again, (self._site_mappings, self._file)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle of one record. Raises ParseError, UnsupportedError (no rules for its table or its change), MappingError (nothing of
        it becomes a resource)."""
        return self._map(body, explaining=False)[0]

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element the column that it came from and the line of the rule."""
        return self._map(body, explaining=True)

    def _map(self, body: bytes, *, explaining: bool) -> tuple[Rendition, list[Lineage]]:
        record, rules = self._chosen(parse(body))
        tx = RowTransaction(unescape=partial(STANDARD.unescape, charset="utf-8"), facility=rules.settings.facility)
        tx.sender = f"{rules.settings.sender or record.origin}|{rules.settings.facility}"
        instances = _Drafting(rules, record, tx, explaining=explaining).instances()
        if not instances:
            raise MappingError("nothing of this row becomes a resource by the rules", location="row")
        tx.drafts = [one.draft for one in instances]
        for one in instances:
            _flag(one)
            self._complete(one, tx)
        digest = sha256(body).hexdigest()
        tx.drafts.append(_provenance(tx, record, digest))
        identifier = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": row_key(record)}
        made = bundle.bundle(tx, identifier, None)
        unmapped = sum(one.unmapped for one in instances)
        rendition = Rendition(orjson.dumps(made), FHIR_JSON, "Bundle", order_keys(tx), unmapped)
        return rendition, list(_lineage(instances, tx, record, rules)) if explaining else []

    def _chosen(self, content: dict[str, Any]) -> tuple[Record, RulesFile]:
        """A record, or any JSON object as one. Raises ParseError, UnsupportedError, MappingError."""
        if is_record(content) or not self._compiled.objects:
            if "row" not in content:
                text = "this JSON is no record of a row, and no rules say `json`, which takes any other object"
                raise ParseError(text, location="json")
            record = record_of(content)
            rules = self._rules(record)
            if self._file is not None and record.origin == "file":
                self._check_heading(record, rules)
            return record, rules
        whole = flattened(content)
        for rules in self._compiled.objects:
            if matches(whole, rules.settings.json):
                return object_record(content, whole, rules.settings), rules
        known = "; ".join(sorted(rules.name for rules in self._compiled.objects))
        raise UnsupportedError(f"no rules are for such an object: json.when of {known}", location="json", hl7_code="200")

    @staticmethod
    def _check_heading(record: Record, rules: RulesFile) -> None:
        """Of a tabular file every row has every column of its heading: one that the rules read and it lacks is a wrong name. Those that
        may be missing are listed in `columns`."""
        for name in sorted(rules.reads - record.row.keys() - set(rules.settings.columns)):
            nearest = get_close_matches(name, record.row, 1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise MappingError(f"the rules read the column {name!r}, and the file has none such{hint}", location=name)

    def _rules(self, record: Record) -> RulesFile:
        tables = self._compiled.tables
        rules = tables.get(record.table) or tables.get("")
        if rules is None:
            known = ", ".join(sorted(tables)) or "none; they belong into the site's mappings/rows-to-fhir/"
            raise UnsupportedError(f"there are no rules for rows of this table; there are for {known}", location="table", hl7_code="200")
        if record.change not in rules.settings.changes:
            text = f"a row that comes as {record.change!r} is not mapped; mapped are {', '.join(rules.settings.changes)}"
            raise UnsupportedError(text, location="change", hl7_code="201")
        return rules

    def _complete(self, one: Instance, tx: RowTransaction) -> None:
        """What a resource must have and no column said."""
        for element, put, value in self._compiled.shared.defaults.get(one.made.kind, ()):
            if element not in one.draft.body and "_" + element not in one.draft.body:
                put(one.draft, value, tx, 0)


class _Drafting:
    """Makes the resources of one record."""

    def __init__(self, rules: RulesFile, record: Record, tx: RowTransaction, *, explaining: bool) -> None:
        self._rules, self._record, self._tx, self._explaining = rules, record, tx, explaining
        self._by_name: dict[str, list[Instance]] = {}

    def instances(self) -> list[Instance]:
        """Settled, in the order of the file, patients first."""
        found = [one for made in self._rules.resources for one in self._said(made)]
        for one in found:
            for rule in one.made.rules:
                if rule.to:
                    self._refer(one, rule)
        for one in sorted(found, key=lambda one: one.made.kind != "Patient"):
            settle(one, self._tx.facility)
        return merged(found)

    def _said(self, made: Any) -> Iterator[Instance]:
        """Those of which a column says something."""
        for view in self._views(made.each):
            if made.when is not None and not made.when(view):
                continue
            self._tx.turn += 1
            one = Instance(made, view, Draft(made.kind, made.write, made.name, [], {}))
            self._tx.unmapped, said = 0, False
            for rule in made.rules:
                if not rule.to:
                    said = self._apply(rule, one) or said
            one.unmapped = self._tx.unmapped
            if said or all(rule.constant or rule.to for rule in made.rules):
                self._by_name.setdefault(made.name, []).append(one)
                yield one

    def _views(self, each: str | None) -> list[View]:
        if each is None:
            return [View(self._record)]
        details = self._record.details.get(each, ())
        if len(details) > _MOST_DETAILS:
            raise MappingError(f"more than {_MOST_DETAILS} details", location=f"details.{each}")
        return [View(self._record, detail, number) for number, detail in enumerate(details)]

    def _apply(self, rule: Rule, one: Instance) -> bool:
        family = choice(one.made.kind, rule.target)
        if family != rule.target and any(name != rule.target and choice(one.made.kind, name) == family for name in one.draft.body):
            return False  # a value of another type is there: of the rules whose `when` holds the first is taken
        if not self._explaining:
            return apply(rule, one.view, one.draft, self._tx)
        before = {path for path, _ in leaves(one.draft.body)}
        said = apply(rule, one.view, one.draft, self._tx)
        for path, _ in leaves(one.draft.body):
            if path not in before:
                one.lineage[path] = (self._source(rule, one, path), self._rule(rule))
        return said

    def _source(self, rule: Rule, one: Instance, path: str) -> str:
        if rule.constant or not rule.sources:
            return one.place
        number = _index(path) if rule.each is not None else one.view.number
        return rule.sources[0].replace("[*]", f"[{number}]")

    def _rule(self, rule: Rule) -> str:
        return f"{self._rules.name}:{rule.line} {rule.target} (site)"

    def _refer(self, one: Instance, rule: Rule) -> None:
        """To the one of the same detail where there is one, else to the first; where the element repeats, to all."""
        there = self._by_name.get(rule.to, [])
        same = [other for other in there if other.made.each and other.made.each == one.made.each and other.view.number == one.view.number]
        if not same:
            same = there if rule.target.endswith("[]") else there[:1]
        for number, view in rule.views(one.view):
            for other in same if rule.each is None else [other for other in there if other.view.number == view.number]:
                before = {path for path, _ in leaves(one.draft.body)} if self._explaining else set()
                other.draft.ref.setdefault("reference", "")
                rule.put(one.draft, other.draft.ref, self._tx, number)
                if self._explaining:
                    new = [path for path, _ in leaves(one.draft.body) if path not in before]
                    one.lineage |= dict.fromkeys(new, (other.place, self._rule(rule)))


def _index(path: str) -> int:
    """The first index in a path of FHIR: of what a rule repeats over."""
    digits = path.partition("[")[2].partition("]")[0]
    return int(digits) if digits.isdecimal() else 0


def _flag(one: Instance) -> None:
    """Tag a resource with a code that no table knew, so that whoever uses it sees that it means what only its source knows."""
    if one.unmapped:
        tags = one.draft.body.setdefault("meta", {}).setdefault("tag", [])
        at = len(tags)
        tags.append(UNMAPPED)
        one.lineage |= {f"meta.tag[{at}].{name}": (one.place, "no row in a table of codes") for name in UNMAPPED}


def _provenance(tx: RowTransaction, record: Record, digest: str) -> Draft:
    """Where all of this comes from: the row by its key and the SHA-256 of the message. Each state of a row is a source of its own."""
    draft = Draft("Provenance", "put", "row", [], {})
    draft.body["target"] = [other.ref for other in tx.drafts] + [{"reference": url} for url in tx.entries]
    draft.body["_recorded"] = {"extension": [ABSENT]}
    draft.body["activity"] = {"text": f"row - {record.change}"}
    draft.body["agent"] = [
        {"type": {"coding": [coding(_PARTICIPANT, "author", "Author")]}, "who": {"display": tx.sender.strip("|")}},
        {"type": {"coding": [coding(_PARTICIPANT, "assembler", "Assembler")]}, "who": {"display": "Meridian"}},
    ]
    message = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": row_key(record)}
    draft.body["entity"] = [
        {"role": "source", "what": {"identifier": message, "display": f"row of {record.table}"}},
        {"role": "source", "what": {"identifier": {"system": "urn:meridian:sha256", "value": digest}}},
    ]
    draft.identify(name_uuid(f"Provenance {tx.sender} {row_key(record)} {digest}"), "")
    return draft


def _lineage(instances: list[Instance], tx: RowTransaction, record: Record, rules: RulesFile) -> Iterator[Lineage]:
    yield Lineage("Bundle.identifier", "key", "the row's key")
    for number, draft in enumerate(tx.drafts):
        one = instances[number] if number < len(instances) else None
        for path, _ in leaves(draft.body):
            if path in ("resourceType", "id"):
                continue
            known = one.lineage.get(path) if one is not None else ("row", "provenance of the message")
            source, rule = known or (one.place if one else "row", f"default of {draft.kind}.{path.partition('.')[0].lstrip('_')}")
            yield Lineage(f"entry[{number}].{draft.kind}.{path}", source, rule)
    yield from _uncarried(instances, record)


def _uncarried(instances: list[Instance], record: Record) -> Iterator[Lineage]:
    """Columns that say something, and no element is made of them."""
    read = {source for one in instances for rule in one.made.rules for source in rule.sources}
    read |= {source for one in instances for source in one.made.key_sources}
    for column, value in record.row.items():
        if plain(value) and not {f"row.{column}", f"key.{column}"} & read:
            yield Lineage("", f"row.{column}", "not carried")
    for name, details in record.details.items():
        for number, detail in enumerate(details):
            for column, value in detail.items():
                if plain(value) and f"details.{name}[*].{column}" not in read:
                    yield Lineage("", f"details.{name}[{number}].{column}", "not carried")


def compile_again(site_mappings: Path | None, file: Path | None) -> RowsMapper:
    """Raises ConfigError."""
    return RowsMapper(site_mappings, file, compile_file(file, site_mappings) if file is not None else compile_site(site_mappings))
