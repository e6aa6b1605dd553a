"""Compiles what a rules file says of a resource into closures: column -> element, checked against what FHIR has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import Fault
from engine.formats.fhir_r4 import Element
from engine.options import Settings
from mappings import paths
from mappings.conditions import Unreadable, condition
from mappings.hl7v2_to_fhir.terminology import Codes
from mappings.rows_to_fhir.converters import Beside, Convert, Options, RowTransaction, clean, measured
from mappings.rows_to_fhir.definitions import choice, element_at, elements, lacking
from mappings.rows_to_fhir.options import ELEMENT
from mappings.rows_to_fhir.views import Columns, Read, View, fault_of
from mappings.rules import constant
from mappings.transaction import Draft, Unfit

Holds = Callable[[View], bool]


@dataclass(frozen=True)
class Rule:
    """One element. `value` gives what a view puts there (None = nothing); `to` names the resource that it refers to instead. `each` is
    what it repeats over. `constant` says that no column has a part in it."""

    target: str
    line: int
    put: paths.Put
    value: Callable[[View, RowTransaction], Any]
    sources: tuple[str, ...]
    to: str = ""
    each: str | None = None
    when: Holds | None = None
    constant: bool = False

    def views(self, view: View) -> Iterator[tuple[int, View]]:
        """Those that it is applied to, numbered."""
        if self.each is None:
            found = [(0, view)]
        else:
            details = view.record.details.get(self.each, ())
            found = [(number, View(view.record, detail, number)) for number, detail in enumerate(details)]
        return ((number, one) for number, one in found if self.when is None or self.when(one))


@dataclass(frozen=True)
class Made:
    """One resource of a rules file. `key` reads what identifies it, where its rules say that."""

    name: str
    kind: str
    each: str | None
    when: Holds | None
    key: tuple[Read, ...]
    key_sources: tuple[str, ...]
    write: str
    rules: tuple[Rule, ...]
    line: int


class Vocabulary:
    """What rules name: code tables, lookups, extensions, types. mappings.rules.Vocabulary as far as constants need it."""

    def __init__(
        self,
        convert: Mapping[str, Convert],
        codes: Mapping[str, Codes],
        lookups: Mapping[str, Mapping[str, Mapping[str, str]]],
        urls: Mapping[str, str],
        coding_system: Callable[[str], str],
    ) -> None:
        self.convert, self.codes, self.lookups, self.urls = convert, codes, lookups, urls
        self.coding_system = coding_system

    def converter(self, name: str, codes: str) -> Any:
        raise LookupError(f"there is no map {name!r}", (), name)

    def special(self, name: str) -> Any:
        raise LookupError(f"there is no rule {name!r}", (), name)


class Compiler:
    """Of one rules file. What cannot be compiled is a fault."""

    def __init__(self, file: str, settings: Settings, columns: Columns, vocabulary: Vocabulary, faults: list[Fault]) -> None:
        self._file, self._settings, self._columns, self._vocabulary, self._faults = file, settings, columns, vocabulary, faults

    def resources(self) -> list[Made]:
        return [made for name in self._settings.resources if (made := self._resource(name, self._settings.resources[name])) is not None]

    def _resource(self, name: str, one: Settings) -> Made | None:
        line = one.lines.get("resource", 0)
        before = len(self._faults)
        try:
            self._check_each(one.each)
            when = self._condition(one.when, one.each)
            key = tuple(self._columns.reader(column, one.each) for column in one.key)
            key_sources = tuple(self._columns.source(column, one.each) for column in one.key)
        except (Unreadable, LookupError) as error:
            self._faults.append(fault_of(error, self._file, line, f"resource {name}"))
            return None
        rules = [
            rule
            for target in one.set
            for settings in one.set[target]
            if (rule := self._rule(target, settings, one, one.lines.get("set", line))) is not None
        ]
        if len(self._faults) == before and one.each and not one.key and not any(rule.target.startswith("identifier") for rule in rules):
            text = f"resource {name}: one of several needs an identifier, or `key`: the columns by which it is known again"
            self._faults.append(Fault(self._file, line, text))
        if len(self._faults) == before:
            self._check_parts(one.resource, rules)
        return Made(name, one.resource, one.each, when, key, key_sources, one.write, tuple(rules), line)

    def _check_parts(self, kind: str, rules: list[Rule]) -> None:
        """A part that lacks what it must have would make the whole resource invalid; so would two types of one value."""
        paths_of = [paths.steps(rule.target, self._vocabulary.urls) for rule in rules]
        noted: set[tuple[str, str]] = set()
        chosen: dict[str, tuple[Rule, str]] = {}
        for rule, path in zip(rules, paths_of, strict=True):
            inside = path[-2].path.rstrip(".") if len(path) > 1 else ""
            holder = element_at(kind, path[:-1]).kind if len(path) > 1 else kind
            key = f"{inside}.{choice(holder, path[-1].name)}"
            other, name = chosen.setdefault(key, (rule, path[-1].name))
            if name != path[-1].name and not (other.when and rule.when):
                text = f"{rule.target}: there is {other.target} already; a resource has one of them, so that both need `when`"
                self._faults.append(Fault(self._file, rule.line, text))
        for which, part, name in lacking(kind, paths_of):
            if (part, name) not in noted:
                noted.add((part, name))
                hint = f"; share the item by a name: {part[:-1]}x].{name}" if part.endswith("[]") else ""
                self._faults.append(Fault(self._file, rules[which].line, f"{rules[which].target}: {part} needs {name!r}{hint}"))

    def _condition(self, text: str | None, each: str | None) -> Holds | None:
        return None if text is None else condition(text, lambda name: self._columns.reader(name, each))

    def _check_each(self, each: str | None) -> None:
        if each is not None and self._columns.details and each not in self._columns.details:
            raise LookupError(f"`columns` has no details {each!r}", self._columns.details, each)

    def _rule(self, target: str, settings: Settings, resource: Settings, line: int) -> Rule | None:
        line = settings.lines.get("from") or settings.lines.get("to") or line
        try:
            return self._compiled(target, settings, resource, line)
        except (Unreadable, LookupError) as error:
            self._faults.append(fault_of(error, self._file, line, target))
            return None

    def _compiled(self, target: str, settings: Settings, resource: Settings, line: int) -> Rule:
        steps = paths.steps(target, self._vocabulary.urls)
        if any_value(resource.resource, steps):
            return self._any_value(target, settings, resource, line)
        element = element_at(resource.resource, steps)
        if steps[-1].label and not elements(element.kind):
            raise Unreadable(f"{target!r} is a list of plain values: write []")
        if settings.each is not None:
            if resource.each is not None:
                raise Unreadable("`each` within a resource that is itself made for each of several")
            self._check_each(settings.each)
            if not any(step.label is not None for step in steps):
                raise Unreadable(f"`each` needs something that repeats in {target!r}")
        each = settings.each or resource.each
        when = self._condition(settings.when, each)
        put = paths.compile_put(steps)
        if settings.to is not None:
            self._check_reference(settings.to, element)
            return Rule(target, line, put, _nothing, (), settings.to, settings.each, when)
        if settings["from"].startswith("="):
            value = self._constant(settings["from"], element)
            return Rule(target, line, put, lambda view, tx: value, ("row",), each=settings.each, when=when, constant=True)
        convert, sources = self._converted(settings, element, each)
        return Rule(target, line, put, convert, sources, each=settings.each, when=when)

    def _any_value(self, target: str, settings: Settings, resource: Settings, line: int) -> Rule:
        """``value``: a quantity where it is a number; else what a code table makes of it, or text."""
        if settings["from"] is None or settings["from"].startswith("="):
            raise Unreadable("`value` is for what comes from a column; a constant says its type: valueString, valueQuantity …")
        read, _ = self._columns.text(settings["from"], settings.each or resource.each)
        other = "valueCodeableConcept" if settings.codes is not None else "valueString"
        plain = {**settings, "codes": None}
        quantity = self._compiled(target[:-5] + "valueQuantity", Settings(ELEMENT, plain, settings.lines), resource, line)
        text = self._compiled(target[:-5] + other, settings, resource, line)

        def value(view: View, tx: RowTransaction) -> Any:
            chosen = quantity if measured(read(view)) else text
            made = chosen.value(view, tx)
            return None if made is None else (chosen.put, made)

        def put(draft: Draft, made: Any, transaction: Any, repetition: int) -> None:
            made[0](draft, made[1], transaction, repetition)

        return replace(text, target=target, put=put, value=value, sources=quantity.sources)

    def _check_reference(self, name: str, element: Element) -> None:
        resources = self._settings.resources
        if name not in resources:
            raise LookupError(f"there is no resource {name!r} in this file", list(resources), name)
        if element.kind != "Reference":
            raise Unreadable(f"is of type {element.kind}, no reference")
        kind = resources[name].resource
        if element.targets and kind not in element.targets:
            raise LookupError(f"cannot refer to {'an' if kind[0] in 'AEIO' else 'a'} {kind}", element.targets, kind)

    def _constant(self, text: str, element: Element) -> Any:
        value = constant(text, self._vocabulary)
        if isinstance(value, dict):
            if element.kind == "CodeableConcept":
                return {"coding": [value]}
            if element.kind != "Coding":
                raise Unreadable(f"is of type {element.kind}, no Coding")
            return value
        if isinstance(value, bool) and element.kind != "boolean":
            value = text[1:]
        options = Options(allowed=element.codes)
        if element.codes and value not in element.codes:
            raise LookupError(f"there is no code {value!r}", element.codes, str(value))
        if isinstance(value, bool):
            return value
        made = self._converter(element)(str(value), options, Beside(), RowTransaction())
        if made is None or isinstance(made, Unfit):
            raise Unreadable(f"{value!r} is no {element.kind}")
        return made

    def _converter(self, element: Element) -> Convert:
        found = self._vocabulary.convert.get(element.kind)
        if found is None:
            parts = ", ".join(list(elements(element.kind))[:12])
            raise Unreadable(f"is of type {element.kind}, which no single column makes; say its parts: {parts}")
        return found

    def _converted(
        self, settings: Settings, element: Element, each: str | None
    ) -> tuple[Callable[[View, RowTransaction], Any], tuple[str, ...]]:
        convert = self._converter(element)
        options = self._options(settings, element)
        read, sources = self._columns.text(settings["from"], each)
        display, unit = self._beside(settings.display, each), self._beside(settings.unit, each)
        sources += tuple(source for _, source in (display, unit) if source)
        look = self._lookup(settings.lookup)

        def value(view: View, tx: RowTransaction) -> Any:
            text = look(read(view), tx)
            if not clean(text):
                return None
            return convert(text, options, Beside(display[0](view), unit[0](view)), tx)

        return value, sources

    def _beside(self, written: str | None, each: str | None) -> tuple[Read, str]:
        if written is None:
            return (lambda view: ""), ""
        if written.startswith("="):
            return (lambda view: written[1:]), ""
        return self._columns.reader(written, each), self._columns.source(written, each)

    def _options(self, settings: Settings, element: Element) -> Options:
        codes = None
        if settings.codes is not None:
            codes = self._vocabulary.codes.get(settings.codes)
            if codes is None:
                raise LookupError(f"there is no code table {settings.codes!r}", sorted(self._vocabulary.codes), settings.codes)
            if element.kind not in ("code", "Coding", "CodeableConcept"):
                raise Unreadable(f"is of type {element.kind}, which no code table makes")
            if element.kind == "code":
                self._check_targets(codes, element)
        return Options(
            codes,
            settings.system or "",
            settings.authority or "",
            settings.type or "",
            settings.use or "",
            settings.zone or self._settings.zone,
            settings.format,
            element.codes,
        )

    def _check_targets(self, codes: Codes, element: Element) -> None:
        for code, target in codes.targets.items():
            if element.codes and target["to"] and target["to"] not in element.codes:
                raise LookupError(
                    f"codes/{codes.name}.csv makes {target['to']!r} of {code!r}, which is no such code", element.codes, target["to"]
                )

    def _lookup(self, written: str | None) -> Callable[[str, RowTransaction], str]:
        if written is None:
            return lambda text, tx: text
        name, _, column = written.partition(".")
        table = self._vocabulary.lookups.get(name)
        if table is None:
            raise LookupError(f"there is no lookup {name!r}", sorted(self._vocabulary.lookups), name)
        known = next(iter(table.values()), {})
        if column not in known:
            raise LookupError(f"the lookup {name!r} has no column {column!r}", list(known), column)

        def look(text: str, tx: RowTransaction) -> str:
            if not text:
                return ""
            found = table.get(text.strip())
            if found is None:
                tx.unmapped += 1
                return ""
            return found[column]

        return look


def any_value(resource: str, steps: list[paths.Step]) -> bool:
    """Whether the path ends in ``value`` where FHIR has a choice of types."""
    if steps[-1].name != "value" or steps[-1].label is not None:
        return False
    kind = element_at(resource, steps[:-1]).kind if steps[:-1] else resource
    known = elements(kind)
    return "value" not in known and {"valueQuantity", "valueString", "valueCodeableConcept"} <= set(known)


def _nothing(view: View, tx: RowTransaction) -> Any:
    return None


def apply(rule: Rule, view: View, draft: Draft, tx: RowTransaction) -> bool:
    """Whether it has put something that a column said."""
    said = False
    for number, one in rule.views(view):
        value = rule.value(one, tx)
        if value is not None:
            rule.put(draft, value, tx, number)
            said = said or not rule.constant
    return said
