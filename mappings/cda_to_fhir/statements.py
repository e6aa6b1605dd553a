"""What the statements of a section have in common: who made them, when, about whom, whether they are denied or only planned."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engine.formats.cda import Element, attribute, children, first, local, text_of
from mappings.cda_to_fhir.people import PROFESSIONAL, People
from mappings.cda_to_fhir.source import Source
from mappings.cda_to_fhir.values import Values
from mappings.tables import Row
from mappings.transaction import Body, Draft

DATA_ELEMENTS: Final = "2.16.156.10011.2.2.1"
"""Code system of the data elements of WS/T 363."""
LOINC_OID: Final = "2.16.840.1.113883.6.1"
STATEMENTS: Final = frozenset(("observation", "organizer", "act", "substanceAdministration", "procedure", "supply", "encounter"))
PLANNED: Final = frozenset(("INT", "RQO", "PRP", "PRMS", "ARQ", "APT"))
WITHDRAWN: Final = "entered-in-error"
_RELATIONS: Final = ("entryRelationship", "component")
_DEEPEST: Final = 12
"""Levels of statements in statements; documents have three or four."""


@dataclass(frozen=True, slots=True)
class About:
    """What a statement inherits: the role and observation category of its section, what its concern says (`status`), the time of its
    group, whether an act around it is denied or withdrawn, how deep it is."""

    role: str = ""
    category: str = ""
    status: str = ""
    when: tuple[str, Any] | None = None
    denied: bool = False
    withdrawn: bool = False
    title: str = ""
    depth: int = 0

    def within(self, **changes: Any) -> About:
        return replace(self, depth=self.depth + 1, **changes)

    @property
    def too_deep(self) -> bool:
        return self.depth > _DEEPEST


class Kit:
    """What every rule for statements works with."""

    def __init__(self, source: Source, values: Values, people: People) -> None:
        self.source, self.values, self.people = source, values, people

    # --- what a statement is ------------------------------------------------------------------------

    def element_row(self, statement: Element) -> Row | None:
        """The row for a statement that is a data element."""
        code = first(statement, "code")
        if attribute(code, "codeSystem") != DATA_ELEMENTS:
            return None
        return self.source.compiled.elements.get(attribute(code, "code"))

    def template_role(self, statement: Element) -> str:
        for one in children(statement, "templateId"):
            row = self.source.compiled.templates.get(attribute(one, "root"))
            if row is not None:
                return row["role"]
        return ""

    def role(self, statement: Element, about: About) -> str:
        """Data element, template, section, in this order. A data element is what its row says, whatever section it is in."""
        if attribute(first(statement, "code"), "codeSystem") == DATA_ELEMENTS:
            row = self.element_row(statement)
            return row["role"] if row is not None else "observation"
        return self.template_role(statement) or about.role

    # --- parts of it --------------------------------------------------------------------------------

    def related(self, statement: Element, *kinds: str) -> Iterator[tuple[Element, Element]]:
        """(the relationship, the statement in it) of what a statement holds; `kinds` are typeCodes, all where none is given."""
        for name in _RELATIONS:
            for relation in children(statement, name):
                if kinds and attribute(relation, "typeCode") not in kinds:
                    continue
                for inner in relation:
                    if local(inner.tag) in STATEMENTS:
                        yield relation, inner

    def part(self, statement: Element, role: str) -> Element | None:
        """The first statement inside whose template has a role."""
        return next((inner for _, inner in self.related(statement) if self.template_role(inner) == role), None)

    def parts(self, statement: Element, role: str) -> list[Element]:
        return [inner for _, inner in self.related(statement) if self.template_role(inner) == role]

    @staticmethod
    def denied(statement: Element, about: About) -> bool:
        return (attribute(statement, "negationInd") in ("true", "1")) != about.denied

    @staticmethod
    def status(statement: Element, about: About, words: Mapping[str, str], unsaid: str) -> tuple[str, Element]:
        """(the status by `words`, the element that tells it); what is in an act that is withdrawn is too. ActStatus of another word is
        unknown, and never final."""
        element = first(statement, "statusCode")
        word = "nullified" if about.withdrawn else attribute(element, "code").lower()
        return (words.get(word, "unknown") if word else unsaid), element if element is not None else statement

    def when(self, statement: Element, about: About) -> tuple[str, Any] | None:
        for time in children(statement, "effectiveTime"):
            if (found := self.values.when(time)) is not None:
                return found
        return about.when

    def put_when(self, body: Body, name: str, statement: Element, about: About) -> None:
        found = self.when(statement, about)
        if found is not None:
            own = first(statement, "effectiveTime")
            self.source.set(body, name + found[0], found[1], own if own is not None else statement)

    def subject(self, draft: Draft, element: str = "subject", *, encounter: str = "encounter") -> None:
        """About whom, and when they were seen."""
        source = self.source
        if source.patient is not None:
            draft.body[element] = source.patient.ref
        if encounter and source.encounter is not None:
            draft.body[encounter] = source.encounter.ref

    def performers(self, statement: Element) -> list[tuple[Element, Body]]:
        return [
            (one, found)
            for one in children(statement, "performer")
            if (found := self.people.who(first(one, "assignedEntity"), PROFESSIONAL)) is not None
        ]

    def author(self, statement: Element, kinds: Collection[str] = PROFESSIONAL) -> tuple[Element, Body | None, str | None] | None:
        """(the element, who, when) of the first author of a statement."""
        element = first(statement, "author")
        if element is None:
            return None
        return element, self.people.who(first(element, "assignedAuthor"), kinds), self.values.time(first(element, "time"))

    def notes(self, body: Body, statement: Element) -> None:
        """Comments inside, and what somebody wrote beside the codes."""
        for comment in self.parts(statement, "comment"):
            text = self.source.words(first(comment, "text"))
            self.source.add(body, "note", {"text": text} if text else None, comment)

    def remark(self, body: Body, inner: Element) -> None:
        """A data element that the resource has no place for, as a note in words."""
        name = self.name(inner)
        value = self.values.readable(first(inner, "value"))
        if value:
            self.source.add(body, "note", {"text": f"{name}: {value}" if name else value}, inner)

    def name(self, statement: Element) -> str:
        """What a statement is called in the document."""
        code = first(statement, "code")
        return (
            attribute(code, "displayName")
            or self.source.words(first(code, "originalText"))
            or attribute(code, "code")
            or text_of(first(statement, "text"))[:200]
        )

    def reasons(self, body: Body, statement: Element) -> None:
        """Indications as reasonCode."""
        for inner in self.parts(statement, "indication"):
            value = first(inner, "value")
            self.source.add(body, "reasonCode", self.values.concept(value), value)
            self.source.use(inner)
