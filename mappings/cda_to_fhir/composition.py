"""The header of a document -> Composition; its sections with their narrative."""

from __future__ import annotations

from typing import Any, Final

from engine.formats.cda import Element, attribute, children, first, id_of, text_of
from mappings.cda_to_fhir.entries import Entries
from mappings.cda_to_fhir.narrative import empty, listing, narrative
from mappings.cda_to_fhir.people import PROFESSIONAL
from mappings.cda_to_fhir.statements import About, Kit
from mappings.cda_to_fhir.values import null_flavor
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import Body, Draft, name_uuid

ABSENT: Final = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
RELATIONS: Final = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}
_ATTESTERS: Final = (("legalAuthenticator", "legal"), ("authenticator", "professional"))
_DEEPEST: Final = 10
_LISTED: Final = 500


class Header:
    """The Composition of one document."""

    def __init__(self, kit: Kit, entries: Entries) -> None:
        self._kit, self._source, self._entries = kit, kit.source, entries
        self._values, self._people = kit.values, kit.people
        self._root = kit.source.header.root

    # --- composition ------------------------------------------------------------------------------

    def composition(self, described: Body) -> Draft:
        """`described` is the DocumentReference: what both say is said the same way."""
        source, header = self._source, self._source.header
        draft = Draft("Composition", "put", "", [], {})
        draft.identify(name_uuid(f"Composition {source.key}"), source.key)
        body = draft.body
        source.set(body, "identifier", source.number, first(self._root, "id"))
        body["status"] = described.get("docStatus", "final")
        for name in ("type", "category"):
            if name in described:
                body[name] = described[name]
        body.setdefault("type", {"text": header.title or "unknown"})
        if source.patient is not None:
            body["subject"] = source.patient.ref
        if source.encounter is not None:
            body["encounter"] = source.encounter.ref
        at = self._values.time(first(self._root, "effectiveTime"))
        if at:
            source.set(body, "date", at, first(self._root, "effectiveTime"))
        else:
            body["_date"] = ABSENT
        body["author"] = source.authors or [described.get("custodian") or {"display": "unknown"}]
        body["title"] = described["content"][0]["attachment"].get("title") or header.code.code or "unknown"
        code = header.confidentiality.code
        if code in ("U", "L", "M", "N", "R", "V"):
            source.set(body, "confidentiality", code, first(self._root, "confidentialityCode"))
        if header.language:
            body["language"] = header.language
        self._attesters(body)
        if "custodian" in described:
            body["custodian"] = described["custodian"]
        self._related(body)
        self._events(body)
        sections = self._sections(first(self._root, "component", "structuredBody"), 0)
        loose = [made for one in children(self._root, "component") for made in self._section_of(one, 0)]
        if sections or loose:
            body["section"] = sections + loose
        source.claim(body, self._root)
        return source.tx.put(draft)

    def _attesters(self, body: Body) -> None:
        for name, mode in _ATTESTERS:
            for one in children(self._root, name):
                made: Body = {"mode": mode}
                time = first(one, "time")
                if (at := self._values.time(time)) is not None:
                    made["time"] = at
                if (who := self._people.who(first(one, "assignedEntity"), PROFESSIONAL)) is not None:
                    made["party"] = who
                if len(made) > 1:
                    self._source.add(body, "attester", made, one)

    def _related(self, body: Body) -> None:
        for one in children(self._root, "relatedDocument"):
            target = self._source.identifier(id_of(first(one, "parentDocument", "id")))
            code = RELATIONS.get(attribute(one, "typeCode"))
            if target is not None and code and target["value"]:
                self._source.add(body, "relatesTo", {"code": code, "targetIdentifier": target}, one)

    def _events(self, body: Body) -> None:
        for one in children(self._root, "documentationOf"):
            event = first(one, "serviceEvent")
            made: Body = {}
            if (code := self._values.concept(first(event, "code"))) is not None:
                made["code"] = [code]
            if period := self._values.period(first(event, "effectiveTime")):
                made["period"] = period
            self._source.add(body, "event", made, one)

    # --- sections ---------------------------------------------------------------------------------

    def _sections(self, container: Element | None, depth: int) -> list[Body]:
        return [made for one in children(container, "component") for made in self._section_of(one, depth)]

    def _section_of(self, component: Element, depth: int) -> list[Body]:
        found = []
        for section in children(component, "section"):
            if depth >= _DEEPEST:
                self._source.lost(section, "not carried: nested too deep")
            elif (made := self._section(section, depth)) is not None:
                found.append(made)
        return found

    def _section(self, section: Element, depth: int) -> Body | None:
        source, values = self._source, self._values
        code = first(section, "code")
        row = source.compiled.sections.get(attribute(code, "code"))
        title = text_of(first(section, "title")) or attribute(code, "displayName")
        made: Body = {}
        source.set(made, "title", title, first(section, "title"))
        source.set(made, "code", values.concept(code), code)
        for author in children(section, "author"):
            source.add(made, "author", self._people.practitioner(first(author, "assignedAuthor")), author)
        about = About(row["role"] if row else "", row["category"] if row else "", title=title)
        entries = self._entries.of_section(section, about)
        inner = self._sections(section, depth + 1)
        text = first(section, "text")
        told = narrative(text) if text is not None else None
        if told is not None and text is not None:
            source.set(made, "text", {"status": "additional", "div": told[0]}, text)
            if not told[1]:
                source.lost(text, "not carried: longer than a section may be")
        elif lines := self._lines(section):
            source.set(made, "text", {"status": "generated", "div": listing(lines)}, section)
        if entries:
            made["entry"] = entries
        if inner:
            made["section"] = inner
        if not any(name in made for name in ("text", "entry", "section")):
            if not made:
                return None
            made["text"] = {"status": "empty", "div": empty(title)}
            if null_flavor(section):
                made["emptyReason"] = {"coding": [coding(TERMINOLOGY + "list-empty-reason", "unavailable")]}
        source.claim(made, section)
        return made

    def _lines(self, section: Element) -> list[tuple[str, str]]:
        """Names and values of what a section without words holds (at most _LISTED)."""
        found: list[tuple[str, str]] = []
        for one in section.iter():
            if len(found) >= _LISTED:
                break
            if one.tag.rpartition("}")[2] != "value":
                continue
            statement = one.getparent()
            value: Any = self._values.readable(one)
            if statement is not None and value:
                found.append((self._kit.name(statement), value))
        return found
