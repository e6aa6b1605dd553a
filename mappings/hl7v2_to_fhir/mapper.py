"""The compiled mapping: HL7 v2 bytes in, a FHIR transaction Bundle out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from engine.errors import UnsupportedError, ValidationError
from engine.formats import hl7v2
from engine.formats.hl7v2.separators import STANDARD, Separators
from engine.message import FHIR_JSON, Lineage, Rendition
from mappings.conditions import NULL
from mappings.hl7v2_to_fhir import bundle, loading, times
from mappings.hl7v2_to_fhir.context import V2Transaction, first
from mappings.hl7v2_to_fhir.lineage import FieldTrace
from mappings.hl7v2_to_fhir.structure import Segments, Walk
from mappings.hl7v2_to_fhir.terminology import uri_part
from mappings.transaction import Transaction, name_uuid

INSTRUMENT: Final = "R22"
"""The event of what an instrument reports itself."""
LOINC: Final = "http://loinc.org"
UNMAPPED: Final = {"system": "urn:meridian:mapping", "code": "unmapped-test", "display": "The test has no LOINC code in the site's tables"}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class V2Mapper:
    """engine.contracts.Mapper. Pure; pickles as the path of the site's mappings."""

    def __init__(self, site_mappings: Path | None, compiled: loading.Compiled) -> None:
        self._site_mappings = site_mappings
        self._compiled = compiled
        self._organization = compiled.vocabulary.converter("Organization.HD", "")
        self._device = compiled.vocabulary.converter("Device.HD", "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle for one message. Raises ParseError, UnsupportedError (MSH-9), ValidationError (no PID; nothing to merge)."""
        tx = V2Transaction()
        segments = self._read(body, charset, tx)
        self.walk(segments, tx)
        return self.rendition(tx, segments, body)

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element where it came from."""
        trace = FieldTrace()
        tx = V2Transaction(trace=trace, losses=[])
        segments = self._read(body, None, tx)
        self.walk(segments, tx)
        return self.rendition(tx, segments, body), trace.lineage(tx, segments)

    def _read(self, body: bytes, charset: str | None, tx: V2Transaction) -> Segments:
        message = hl7v2.decode(body, charset=charset)
        tx.unescape = _unescape(message.separators, message.charset)
        return prepared([segment.fields for segment in message.segments if segment.name.strip()], message.separators)

    def walk(self, segments: Segments, tx: V2Transaction) -> None:
        """Draft the resources; nothing has its identity yet. `segments` are as `prepared` gives them, and `tx` has its `unescape`."""
        msh = segments[0]
        kind = msh[9].split("^")
        event = "^".join(kind[:2])
        family = self._compiled.events.get(event)
        if family is None:
            known = ", ".join(sorted(self._compiled.events))
            code = "201" if any(name.startswith(kind[0] + "^") for name in self._compiled.events) else "200"
            raise UnsupportedError(f"this message type is not mapped; mapped are {known}", location="MSH-9", hl7_code=code)
        if family == "ADT":
            _check(event, segments)
        self._describe(tx, msh, kind)
        Walk(self._compiled.routes, family, tx).all(segments)

    def _describe(self, tx: V2Transaction, msh: list[str], kind: list[str]) -> None:
        sent = tx.text(first(msh[4]))
        tx.facility = self._compiled.facilities.get(sent, sent)
        tx.sender = f"{tx.text(first(msh[3]))}|{tx.facility}"
        tx.control_id = tx.text(msh[10]) if msh[10] != NULL else ""
        tx.event = kind[1] if len(kind) > 1 else ""
        zones = self._compiled.zones
        tx.zone = times.offset_of(msh[7]) or zones.get(tx.facility) or zones.get("*", "")

    def rendition(self, tx: V2Transaction, segments: Segments, body: bytes) -> Rendition:
        """Identities, defaults, Provenance: the Bundle of what was walked. `body` is the message as it came."""
        msh = segments[0]
        unmapped = _flag_unmapped(tx) if tx.event == INSTRUMENT else 0
        bundle.finish(tx)
        for draft in tx.drafts:
            for element, put, value in self._compiled.defaults.get(draft.kind, ()):
                if element not in draft.body and "_" + element not in draft.body:
                    put(draft, value, tx, 0)
        source = bundle.provenance(tx, msh, body, self._organization, self._device)
        source.identify(name_uuid(f"Provenance {tx.sender} {tx.control_id}"), "")
        if "recorded" not in source.body:
            source.body["_recorded"] = {"extension": [loading.ABSENT]}
        tx.drafts.append(source)
        identifier = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": tx.control_id or "unknown"}
        made = bundle.bundle(tx, identifier, times.instant(first(msh[7]), tx.zone))
        return Rendition(orjson.dumps(made), FHIR_JSON, "Bundle", order_keys(tx), unmapped)


def _check(event: str, segments: Segments) -> None:
    """What an ADT message cannot do without. A merge that does not say what is merged would pass for an update, and the old record
    live on unnoticed (HL7 v2.5.1 §3.3.40, §3.4.10.1: MRG-1 is required)."""
    if not any(fields[0] == "PID" for fields in segments):
        raise ValidationError("an ADT message needs a PID segment", location="PID", hl7_code="100")
    if event == "ADT^A40" and not any(fields[0] == "MRG" and len(fields) > 1 and fields[1].strip('^~&"') for fields in segments):
        raise ValidationError("a merge (ADT^A40) needs the identifier of the record that is merged", location="MRG-1", hl7_code="101")


def prepared(segments: Segments, separators: Separators) -> Segments:
    """The segments as the rules want them: standard delimiters, no control characters, MSH with the fields that are read always."""
    if (separators.component, separators.repetition, separators.escape, separators.subcomponent) != ("^", "~", "\\", "&"):
        table = _translation(separators)
        segments = [
            fields[:3] + [one.translate(table) for one in fields[3:]] if fields[0] == "MSH" else [one.translate(table) for one in fields]
            for fields in segments
        ]
    cleaned = []
    for fields in segments:
        text = "|".join(fields)
        cleaned.append([_CONTROL.sub(" ", one) for one in fields] if _CONTROL.search(text) else fields)
    msh = [*cleaned[0], *[""] * (13 - len(cleaned[0]))]
    for fields in cleaned:
        fields[0] = fields[0].strip().upper()
    return [msh, *cleaned[1:]]


def _unescape(own: Separators, charset: str) -> Callable[[str], str]:
    """What undoes the escapes of a message whose delimiters, but the field separator, were made the standard ones. ``\\X..\\`` is in
    the message's character set (HL7 v2.5 clause 2.7.6); where that is plain ASCII, in UTF-8, which contains it."""
    separators = STANDARD if own == STANDARD else replace(STANDARD, field=own.field, truncation=own.truncation)
    return partial(separators.unescape, charset="utf-8" if charset == "ascii" else charset)


def _translation(separators: Separators) -> dict[int, str]:
    table = {ord(mark): f"\\{letter}\\" for mark, letter in (("^", "S"), ("~", "R"), ("&", "T"), ("\\", "E"))}
    for own, mark in (
        (separators.component, "^"),
        (separators.repetition, "~"),
        (separators.escape, "\\"),
        (separators.subcomponent, "&"),
    ):
        if own:
            table[ord(own)] = mark
    return table


def order_keys(tx: Transaction) -> tuple[str, ...]:
    """Every identifier of every patient, the one that names the record first."""
    keys: dict[str, None] = {}
    for draft in tx.drafts:
        if draft.kind == "Patient":
            found = [f"{one.get('system', '')}|{one['value']}" for one in draft.body.get("identifier", ())]
            named = draft.query.removeprefix("identifier=")
            keys.update(dict.fromkeys([*(one for one in found if one == named), *found]))
    return tuple(keys)


def _flag_unmapped(tx: V2Transaction) -> int:
    """Tag each result whose test has no LOINC code, so that whoever uses it sees that it means what only its instrument knows; how many."""
    results = [draft for draft in tx.drafts if draft.kind == "Observation"]
    unmapped = [draft for draft in results if LOINC not in (one.get("system") for one in draft.body.get("code", {}).get("coding", ()))]
    for draft in unmapped:
        draft.body.setdefault("meta", {}).setdefault("tag", []).append(UNMAPPED)
    return len(unmapped)


def _compile_again(site_mappings: Path | None) -> V2Mapper:
    return V2Mapper(site_mappings, loading.compile_all(site_mappings))
