"""One document while it is mapped: its transaction, its tables, and where in it each element of a resource comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from engine.formats.cda import ClinicalDocument, Element, Id, attribute, children, first, id_of, is_no_number, local, text_of
from mappings.cda_to_fhir.context import FLAGS, CdaTransaction
from mappings.cda_to_fhir.loading import Compiled
from mappings.hl7v2_to_fhir.identifiers import CHINA_IDENTITY_CARD, is_identity_card
from mappings.hl7v2_to_fhir.identity import own_number
from mappings.hl7v2_to_fhir.references import query_of
from mappings.hl7v2_to_fhir.terminology import uri_part
from mappings.transaction import KEY_SYSTEM, Body, Draft, name_uuid

UNMAPPED: Final = {"system": FLAGS, "code": "unmapped-code", "display": "A code is of a coding system that nobody here knows"}
CUT: Final = {"system": FLAGS, "code": "cut", "display": "The document has more statements than are mapped"}
MOST: Final = 20_000
"""Statements of one document that are mapped; the text and the original are there all the same."""
_IN_PARTS: Final = frozenset(
    ("ClinicalDocument", "patientRole", "section", "observation", "organizer", "act", "substanceAdministration", "procedure", "encounter")
) | {"encompassingEncounter"}
NATIONAL: Final = "2.16.156.10011.2."
"""Value sets and data elements of the national standards, which have no other name than their OID."""


class Source:
    """What the rules know of the document at hand. `place` goes before every path of lineage."""

    def __init__(self, compiled: Compiled, tx: CdaTransaction, header: ClinicalDocument, digest: str, place: str = "") -> None:
        """`digest` is the SHA-256 of the document, which names it where its id says only of which kind it is."""
        self.compiled, self.tx, self.header, self.digest, self.place = compiled, tx, header, digest, place
        own = identifier(compiled, tx.facility, header.id)
        self.number: Body = own or {"system": "urn:meridian:sha256", "value": digest}
        self.key = query_of(self.number)
        self.patient: Draft | None = None
        self.encounter: Draft | None = None
        self.authors: list[Body] = []
        self.drafts: list[Draft] = []
        self.unknown: set[str] = set()
        self.marked: set[str] = set()
        self._texts: dict[str, Element] | None = None
        self._taken: dict[str, int] = {}
        self._paths: dict[Element, str] = {}
        self._places: dict[Element, dict[Element, int]] = {}
        self.statements = 0
        self._row = ""

    # --- lineage --------------------------------------------------------------------------------

    def path(self, element: Element) -> str:
        """`ClinicalDocument/component[1]/…`: an element by its names, numbered where there are several."""
        if not self._paths:
            self._name(self.header.root, self.place + local(self.header.root.tag))
        return self._paths[element]

    def _name(self, root: Element, path: str) -> None:
        """Note the path of every element, once: to look for each by itself would take as many steps as it has siblings."""
        todo = [(root, path)]
        while todo:
            element, path = todo.pop()
            self._paths[element] = path
            names = Counter(local(child.tag) for child in element)
            seen: Counter[str] = Counter()
            for child in element:
                name = local(child.tag)
                seen[name] += 1
                todo.append((child, f"{path}/{name}" if names[name] == 1 else f"{path}/{name}[{seen[name]}]"))

    def claim(self, body: Body, element: Element | None, rule: str = "") -> None:
        """While explaining: what nobody has claimed in `body` stems from `element`, which is thereby carried with all inside it, unless it
        is one whose parts are claimed one by one."""
        if self.tx.notes is None or element is None:
            return
        path = self.path(element)
        if local(element.tag) not in _IN_PARTS:
            self.marked.add(path)
        self.tx.notes.claim(body, path, self._row + (rule or local(element.tag)))
        self._row = ""

    def use(self, *elements: Element | None) -> None:
        """While explaining: these are carried, with all inside them."""
        if self.tx.notes is not None:
            self.marked.update(self.path(element) for element in elements if element is not None)

    def by_row(self, row: Any) -> None:
        """While explaining: the next claim is by a row of a table."""
        if row is not None and getattr(row, "site", False):
            self._row = f"{row.file.rpartition('/')[2]} (site): "

    def set(self, body: Body, name: str, value: Any, element: Element | None, rule: str = "") -> None:
        """Put an element that is not empty."""
        if value not in (None, "", [], {}):
            body[name] = value
            self.claim(body, element, rule)

    def add(self, body: Body, name: str, value: Any, element: Element | None, rule: str = "") -> None:
        """Add to a list, but nothing twice."""
        there = body.get(name, ())
        if value not in (None, "", [], {}) and (len(there) >= _COMPARED or value not in there):
            body.setdefault(name, []).append(value)
            self.claim(body, element, rule)
            self.use(element)

    def lost(self, element: Element, why: str) -> None:
        """While explaining: of `element` nothing was made, for this reason."""
        if self.tx.notes is not None:
            self.tx.lost(self.path(element), why)

    # --- what identifies ------------------------------------------------------------------------

    def identifier(self, one: Id, role: str = "") -> Body | None:
        """An II as Identifier, as the tables have its root; None for one that is no number (its root stands for a kind only)."""
        return identifier(self.compiled, self.tx.facility, one, role)

    def identifiers(self, element: Element | None, role: str = "") -> list[Body]:
        return distinct(self.identifier(one, role) for child in children(element, "id") if (one := id_of(child)))

    def draft(self, kind: str, element: Element, write: str = "put") -> Draft:
        """A resource made of a statement; `finish` puts it in."""
        draft = Draft(kind, write, "", [], {})
        draft.patient, draft.encounter = self.patient, self.encounter
        return draft

    def finish(self, draft: Draft, element: Element, part: str = "") -> Draft:
        """Give a resource of a statement its identity: the statement's own id, unless the document has used it for another one of this
        kind; else its place in the document. Then put it in. An id is the patient's: ids that begin at 1 in each document, or are those of
        the standard's samples, would else write one patient's problem over another's. Only a visit is known to all by its number."""
        body = draft.body
        own = [one for one in self.identifiers(element) if not part]
        query = query_of(own[0]) if own else ""
        if query and self._taken.setdefault(f"{draft.kind} {query}", id(draft)) != id(draft):
            query, own = "", own[1:]
        uuid = name_uuid(f"{draft.kind} {query}")
        if not query or draft.kind != "Encounter":
            patient = self.patient.query if self.patient is not None else ""
            place = f"{patient} {query}" if query else f"{self.key} {self.position(element)} {part}"
            uuid = name_uuid(f"{draft.kind} {place}")
            own = [*own, {"system": KEY_SYSTEM, "value": uuid}]
            query = query_of(own[-1])
        body["identifier"] = own
        draft.identify(uuid, query)
        self.drafts.append(draft)
        self.claim(body, element)
        self.use(*children(element, "id"))
        return self.tx.put(draft)

    def position(self, element: Element) -> str:
        """Where an element stands, as numbers."""
        steps = []
        parent = element.getparent()
        while parent is not None:
            places = self._places.get(parent)
            if places is None:
                places = self._places[parent] = {child: number for number, child in enumerate(parent)}
            steps.append(str(places[element]))
            element, parent = parent, parent.getparent()
        return ".".join(reversed(steps))

    def count(self, statement: Element) -> bool:
        """Whether one more statement may be mapped; a document with more than MOST is cut, and says so."""
        self.statements += 1
        if self.statements <= MOST:
            return True
        self.lost(statement, f"not carried: more than {MOST} statements")
        return False

    def flag(self) -> int:
        """Tag every resource of this document that has a code of an unknown coding system; how many such codes."""
        count = 0
        for draft in self.drafts:
            strange = sum(1 for one in _codings(draft.body) if one.get("system") in self.unknown)
            if strange:
                tags = draft.body.setdefault("meta", {}).setdefault("tag", [])
                if UNMAPPED not in tags:
                    tags.append(UNMAPPED)
                    self.claim(draft.body, self.header.root, "codes of an unknown coding system")
            count += strange
        return count + (1 if self.statements > MOST else 0)

    # --- narrative ------------------------------------------------------------------------------

    def text_at(self, reference: str) -> Element | None:
        """The part of a narrative that ``#ID`` points to."""
        if self._texts is None:
            self._texts = {}
            for element in self.header.root.iter():
                name = element.get("ID")
                if name:
                    self._texts.setdefault(name, element)
        return self._texts.get(reference.removeprefix("#"))

    def words(self, element: Element | None) -> str:
        """The text of an ED or ST: its own, or of the narrative that it refers to."""
        if element is None:
            return ""
        reference = attribute(first(element, "reference"), "value")
        if reference.startswith("#"):
            target = self.text_at(reference)
            return text_of(target) if target is not None else ""
        return text_of(element)


_COMPARED: Final = 100
"""How long a list may be in which nothing stands twice."""


def distinct(identifiers: Iterable[Body | None]) -> list[Body]:
    """Each identifier once, in their order."""
    return list({(one.get("system"), one["value"]): one for one in reversed([*identifiers]) if one is not None}.values())[::-1]


def _codings(value: Any) -> Iterator[Body]:
    if isinstance(value, dict):
        if "code" in value and "system" in value:
            yield value
        for inner in value.values():
            yield from _codings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _codings(inner)


def identifier(compiled: Compiled, facility: str, one: Id, role: str = "") -> Body | None:
    """See Source.identifier."""
    one = Id(one.root) if is_no_number(one.extension) else one
    row = compiled.identifiers.get(one.root)
    if row is not None and role and row["role"] != role:
        return None
    if not one.extension and (row is not None or (role == "patient" and "-" not in one.root)):
        return None
    made: Body = {}
    if row is not None and row["type"]:
        known = compiled.v2.vocabulary.terms.codes["identifier-type"].targets.get(row["type"])
        kind = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": row["type"]}
        made["type"] = {"coding": [{**kind, "display": known["display"]} if known and known["display"] else kind]}
    if row is not None and row["system"]:
        made["system"] = row["system"].replace("{facility}", uri_part(facility or "unknown"))
    elif one.root and one.extension:
        made["system"] = compiled.v2.vocabulary.terms.assigners.system("", one.root, "", "", facility)
    elif one.root:
        return {"system": "urn:ietf:rfc:3986", "value": _uri(one.root)}
    else:
        made["system"] = f"urn:meridian:ns:{uri_part(facility or 'unknown')}:{role or 'id'}"
    if made["system"] == CHINA_IDENTITY_CARD and role == "patient":
        return _card(made, one.extension)
    return {**made, "value": one.extension}


def _card(made: Body, number: str) -> Body:
    """One that fails its own check is kept under no system: it would make two people one."""
    number = number.upper().replace(" ", "")
    system = {"system": made["system"]} if is_identity_card(number) else {}
    return {"type": made["type"], **system, "value": number}


def _uri(root: str) -> str:
    if root.lower().startswith("urn:"):
        return root
    return f"urn:uuid:{root.lower()}" if "-" in root else f"urn:oid:{root}"


def main_number(identifiers: list[Body]) -> Body | None:
    """The identifier that names the record: the facility's own number for the patient, the medical record number before others."""
    records = [one for one in identifiers if one.get("type", {}).get("coding", [{}])[0].get("code") == "MR"]
    return records[0] if records else own_number(identifiers)
