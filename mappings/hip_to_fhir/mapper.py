"""The compiled mapping: a message of the hospital platform in, a FHIR transaction Bundle out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from engine.errors import ValidationError
from engine.formats.hip.services import local_name
from engine.formats.hl7v2.separators import STANDARD
from engine.message import FHIR_JSON, Excerpt, Lineage, Rendition
from mappings.hip_to_fhir.completion import complete, unite
from mappings.hip_to_fhir.context import HipTransaction, place
from mappings.hip_to_fhir.documents import register
from mappings.hip_to_fhir.identity import settle
from mappings.hip_to_fhir.loading import Compiled, compile_all
from mappings.hip_to_fhir.provenance import message_identifier, people_behind, provenance
from mappings.hip_to_fhir.reading import Message, read
from mappings.hip_to_fhir.routes import walk
from mappings.hl7v2_to_fhir import bundle, times
from mappings.notes import Notes, written
from mappings.transaction import Draft

_NEEDED: Final = {
    "patient": ("Patient", "patient/id"),
    "encounter-card": ("Patient", "patient/id"),
    "inpatient": ("Encounter", "encounterEvent/id"),
    "outpatient": ("Encounter", "encounterEvent/id"),
    "discharge": ("Encounter", "encounterEvent/id"),
    "transfer": ("Encounter", "encounterEvent/id"),
    "terminology": ("CodeSystem", "valueSet"),
    "organization": ("Organization", "assignedEntity"),
    "practitioner": ("Practitioner", "healthCareProvider"),
}
"""What a message of a subject is nothing without: a resource with an identifier, and where that stands."""
_STRUCTURE: Final = frozenset(
    ("classCode", "moodCode", "typeCode", "determinerCode", "contextControlCode", "contextConductionInd", "codeSystem", "codeSystemName",
     "ITSVersion", "root", "scope", "capabilities", "use")
)  # fmt: skip
"""Attributes that say how an element is to be read."""
_WRAPPER: Final = frozenset(
    ("id", "creationTime", "interactionId", "processingCode", "processingModeCode", "acceptAckCode", "receiver", "sender")
)


class HipMapper:
    """engine.contracts.Mapper. Pure; pickles as the path of the site's mappings."""

    headers = True

    def __init__(self, site_mappings: Path | None, compiled: Compiled) -> None:
        self._site_mappings, self._compiled = site_mappings, compiled

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle for one message. Raises ParseError, UnsupportedError (a query), ValidationError (nothing that could be identified)."""
        return self._map(body, charset, HipTransaction())[0]

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element where it came from."""
        notes = Notes()
        tx = HipTransaction(notes=notes, losses=[], read=set())
        rendition, message = self._map(body, None, tx)
        otherwise = Lineage("", f"{local_name(message.element)}/id/@extension", "links and provenance of the message")
        if not message.header.id:
            otherwise = Lineage("", local_name(message.element), "links and provenance of the message")
        lineage = [
            Lineage("Bundle.identifier", otherwise.source, "the message's number"),
            *written(tx, notes, otherwise),
            *notes.lost,
            *(Lineage("", otherwise.source, f"{what}: {why}") for what, why in tx.losses or ()),
            *_uncarried(message.element, tx.read or set()),
        ]
        return rendition, lineage

    def _map(self, body: bytes, charset: str | None, tx: HipTransaction) -> tuple[Rendition, Message]:
        message = read(body, charset or "", self._compiled.actions)
        self._describe(tx, message)
        elements = list(message.element.iter())  # keeps what lxml made for each element, so that one is the same one each time
        digest = body.digest if isinstance(body, Excerpt) else sha256(body).hexdigest()
        drafts = walk(self._compiled.routes.get(message.service.name, ()), message.element, tx, partial(settle, tx=tx))
        for draft in drafts:
            if "reference" in draft.ref:
                tx.put(draft)
        if message.service.subject == "document":
            register(self._compiled, tx, message, drafts)
        _check(message, drafts, tx.drafts)
        agents = people_behind(tx, self._compiled, message.header, message.element)
        unite(tx)
        for one in tx.drafts:
            complete(one, self._compiled.defaults, tx)
        tx.drafts.append(provenance(tx, message.service, message.header, agents, digest))
        made = bundle.bundle(tx, message_identifier(tx), times.instant(message.header.created, tx.zone))
        del elements
        return Rendition(orjson.dumps(made), FHIR_JSON, "Bundle", _order_keys(tx), tx.unmapped), message

    def _describe(self, tx: HipTransaction, message: Message) -> None:
        """Who has sent this, and what the site says of that one."""
        sender = message.header.sender
        row = self._compiled.senders.get(sender) or self._compiled.senders.get("*")
        tx.facility = (row["facility"] if row else "") or self._compiled.v2.facilities.get(sender, sender)
        tx.authorities = {role: row[f"{role}s"] for role in ("patient", "order", "visit")} if row else {}
        tx.sender, tx.control_id = f"{sender}|{tx.facility}", message.header.id
        tx.unescape = partial(STANDARD.unescape, charset="utf-8")
        zones = self._compiled.v2.zones
        tx.zone = times.offset_of(message.header.created) or zones.get(tx.facility) or zones.get("*", "")


def _check(message: Message, drafts: Sequence[Draft], kept: Sequence[Draft]) -> None:
    """Refuse what names nothing that it could be about."""
    kind, location = _NEEDED.get(message.service.subject, ("", ""))
    if kind and not any(draft.kind == kind and _numbered(draft) for draft in drafts):
        raise ValidationError(f"{message.service.name} needs an identifier of its {kind}", location=location, hl7_code="101")
    if message.service.name == "PatientInfoMerge":
        _check_merge([draft for draft in drafts if draft.kind == "Patient"])
    if not any(draft.write == "put" for draft in kept):
        raise ValidationError(f"{message.service.name} says nothing of what it is about", location=message.service.root, hl7_code="101")


def _check_merge(patients: list[Draft]) -> None:
    """A merge that does not say what is merged, and into what, would retire a record that nobody finds again."""
    prior = [draft for draft in patients if draft.body.get("link")]
    if not prior:
        raise ValidationError(
            "a merge needs the identifier of the record that is merged", location="priorRegisteredRole/id", hl7_code="101"
        )
    if len(patients) < 2 or any(
        link.get("other", {}).get("reference") in (None, one.ref["reference"]) for one in prior for link in one.body["link"]
    ):
        raise ValidationError("a merge needs another record to merge into", location="patient/id", hl7_code="101")


def _numbered(draft: Draft) -> bool:
    return "url" in draft.body or any(one.get("system") != "urn:meridian:key" for one in draft.body.get("identifier", ()))


def _order_keys(tx: HipTransaction) -> tuple[str, ...]:
    """Every identifier of every patient, the one that names the record first."""
    keys: dict[str, None] = {}
    for draft in tx.drafts:
        if draft.kind == "Patient":
            found = [f"{one['system']}|{one['value']}" for one in draft.body.get("identifier", ()) if "system" in one]
            named = draft.query.removeprefix("identifier=")
            keys.update(dict.fromkeys([*(one for one in found if one == named), *found]))
    return tuple(keys)


def _uncarried(root: Any, read: set[tuple[Any, str]]) -> list[Lineage]:
    """Attributes and texts of which nothing was made."""
    found = []
    for element in root.iter():
        said = [name for name, text in element.attrib.items() if text.strip() and "}" not in name and name not in _STRUCTURE]
        for name in [*said, *([""] if (element.text or "").strip() else [])]:
            if (element, name) not in read:
                where = place((element, name))
                wrapped = (where.split("/")[1:2] or [""])[0] in _WRAPPER
                found.append(Lineage("", where, "not carried: protocol" if wrapped else "not carried"))
    return found


def _compile_again(site_mappings: Path | None) -> HipMapper:
    return HipMapper(site_mappings, compile_all(site_mappings))
