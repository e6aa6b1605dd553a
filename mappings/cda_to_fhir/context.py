"""One Bundle under construction that takes clinical documents in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.formats.cda import NO_ID, ClinicalDocument, Code, Id
from engine.message import Lineage
from mappings.hl7v2_to_fhir.context import V2Transaction
from mappings.notes import Notes
from mappings.transaction import Body, Draft

FLAGS: Final = "urn:meridian:mapping"
"""Code system of the tags that say what is doubtful about a resource."""


@dataclass(slots=True)
class CdaTransaction(V2Transaction):
    """A V2Transaction (`facility`, `sender`, `zone`, `control_id` are the envelope's matter) in which resources are found again by what
    identifies them: what is put in twice is one. `notes` is there while explaining."""

    known: dict[str, Draft] = field(default_factory=dict)
    notes: Notes | None = None

    def put(self, draft: Draft) -> Draft:
        """Take a draft in that has its identity. If it is there already, that one takes what it lacks from it, and is given back."""
        there = self.known.setdefault(draft.ref["reference"], draft)
        if there is draft:
            self.drafts.append(draft)
            return draft
        for name, value in draft.body.items():
            there.body.setdefault(name, value)
        draft.ref["reference"] = there.ref["reference"]
        return there

    def claim(self, body: Body, source: str, rule: str) -> None:
        """While explaining: what is in `body` and nobody has claimed stems from `source`."""
        if self.notes is not None:
            self.notes.claim(body, source, rule)

    def lost(self, source: str, why: str) -> None:
        """While explaining: what is at `source` is not carried."""
        if self.notes is not None:
            self.notes.lost.append(Lineage("", source, why))


@dataclass(frozen=True, slots=True)
class Described:
    """What an envelope says of a document, for what the document does not say itself (one that is not CDA says nothing). Times are HL7
    times (TS); patient and authors are resources already put in, or None and empty."""

    id: Id = NO_ID
    set_id: Id = NO_ID
    title: str = ""
    time: str = ""
    type: Body | None = None
    category: Sequence[Body] = ()
    security: Sequence[Body] = ()
    language: str = ""
    patient: Draft | None = None
    authors: Sequence[Body] = ()
    custodian: Body | None = None
    encounter: Body | None = None
    status: str = "current"
    description: str = ""
    format: Body | None = None
    extra: Body = field(default_factory=dict)
    """Further elements of the DocumentReference as they are (relatesTo, context); what the document says itself goes before them."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """One document taken in. `reference` points to its DocumentReference; `flags` are discrepancies (engine.formats.cda) that did not
    stop it; `unmapped` counts codes that no table knew, and the flags."""

    reference: Body
    document: Draft
    patient: Draft | None
    header: ClinicalDocument | None
    unmapped: int
    flags: tuple[str, ...] = ()


__all__ = ["FLAGS", "CdaTransaction", "Code", "Described", "Mapped"]
