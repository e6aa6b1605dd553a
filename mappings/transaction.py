"""A FHIR transaction under construction: resources, the references between them, and how each is written.

Two sorts of resources go in. A `Draft` is built element by element by the rules; what identifies it is known only
when it is complete, so every reference to it is one shared dict that gets its value at the end. A `Ready` is a
whole small resource made from one field (a practitioner, an organization, a place); it is made once and shared
between messages, so it is never changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Final

Body = dict[str, Any]

ORIGINAL_TEXT: Final = "http://hl7.org/fhir/StructureDefinition/originalText"
ALTERNATE_CODES: Final = "http://hl7.org/fhir/StructureDefinition/alternate-codes"
KEY_SYSTEM: Final = "urn:meridian:key"
"""Identifier system of keys that Meridian derives where a resource has no business identifier of its own."""

_NAMESPACE: Final = bytes.fromhex("6f1f5d0c4f0e5c6a9d0b6a3f5e7c2b81")


def name_uuid(name: str) -> str:
    """The version 5 UUID of `name` in Meridian's own namespace (RFC 4122 §4.3)."""
    digest = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


class Unfit:
    """A primitive that its element cannot hold. What was sent goes along in an extension of that element."""

    __slots__ = ("extension", "text")

    def __init__(self, text: str, coding: Body | None = None) -> None:
        self.text = text
        self.extension: Body = {"url": ORIGINAL_TEXT, "valueString": text}
        if coding:
            self.extension = {"url": ALTERNATE_CODES, "valueCodeableConcept": {"coding": [coding]}}


class Defaulted(Unfit):
    """As Unfit, but the element takes the table's default beside what was sent."""

    __slots__ = ("value",)

    def __init__(self, value: Any, text: str, coding: Body | None = None) -> None:
        super().__init__(text, coding)
        self.value = value


@dataclass(frozen=True, slots=True)
class Ready:
    """A complete resource with its `url` (urn:uuid) and the conditional `query` that finds it at the receiver."""

    url: str
    kind: str
    body: Body
    query: str


class Absent(Unfit):
    """A required primitive that nobody knows."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("unknown")
        self.extension = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}


class Draft:
    """A resource that rules are still writing. `fields` and `view` are what its identity is later read from."""

    __slots__ = ("body", "children", "encounter", "fields", "kind", "order", "patient", "query", "ref", "source", "view", "write")

    def __init__(self, kind: str, write: str, source: str, fields: list[str], view: Mapping[str, list[str]]) -> None:
        self.kind = kind
        self.body: Body = {"resourceType": kind}
        self.ref: Body = {}
        self.write = write
        self.source = source
        self.fields = fields
        self.view = view
        self.query = ""
        self.patient: Draft | None = None
        self.encounter: Draft | None = None
        self.order: Draft | None = None
        self.children: list[Draft] = []

    def identify(self, uuid: str, query: str) -> None:
        """Settle what this resource is: `uuid` names it in the Bundle, `query` finds it at the receiver."""
        self.query = query
        self.ref["reference"] = "urn:uuid:" + uuid


@dataclass(slots=True)
class Transaction:
    """Everything that one message becomes. `items` remembers labelled list items while segment number `turn` is read."""

    drafts: list[Draft] = field(default_factory=list)
    entries: dict[str, Ready] = field(default_factory=dict)
    items: dict[tuple[int, str, int, int], Body] = field(default_factory=dict)
    turn: int = 0
    owned: set[str] = field(default_factory=set)
    trace: Any = None
    """While explaining: what applies maps in their stead, and notes what each rule did (mappings.rules.Trace)."""
    losses: list[tuple[str, str]] | None = None
    """While explaining: (what was not carried as a code or value, why)."""

    def refer(self, ready: Ready) -> Body:
        """Put a ready resource in (filling gaps of the one that is there already) and give a reference to it."""
        there = self.entries.get(ready.url)
        if there is None:
            self.entries[ready.url] = ready
        elif there.body is not ready.body:
            missing = {name: value for name, value in ready.body.items() if name not in there.body}
            if missing:
                self.amend(ready.url).update(missing)
        return {"reference": ready.url}

    def amend(self, url: str) -> Body:
        """The body of a ready resource for adding to: a copy of its own in this transaction."""
        there = self.entries[url]
        if url in self.owned:
            return there.body
        self.owned.add(url)
        body = {name: list(value) if isinstance(value, list) else value for name, value in there.body.items()}
        self.entries[url] = Ready(url, there.kind, body, there.query)
        return body

    def child(self, container: Body, kind: str, parent: Draft) -> Draft:
        """A new resource that `container` (a reference element) points to."""
        draft = Draft(kind, "create", parent.source, parent.fields, parent.view)
        draft.patient, draft.encounter, draft.order = parent.patient, parent.encounter, parent.order
        container["reference"] = ""
        if kind in ("EpisodeOfCare", "RelatedPerson") and parent.patient is not None:
            draft.body["patient"] = parent.patient.ref
        self.drafts.append(draft)
        parent.children.append(draft)
        return draft

    def lose(self, what: str, why: str) -> None:
        if self.losses is not None:
            self.losses.append((what, why))
