"""The compiled mapping: DICOM instances in, a FHIR transaction Bundle out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from engine.contracts import Gathered
from engine.formats.dicom import DataSet, read
from engine.formats.dicom.dictionary import keyword_of
from engine.formats.hl7v2.separators import STANDARD
from engine.message import DICOM, FHIR_JSON, Excerpt, Lineage, Rendition
from mappings.dicom_to_fhir import gathering
from mappings.dicom_to_fhir.context import DicomTransaction, View
from mappings.dicom_to_fhir.loading import Compiled, compile_all
from mappings.dicom_to_fhir.provenance import provenance
from mappings.dicom_to_fhir.report import is_document, report
from mappings.dicom_to_fhir.study import Study, checked
from mappings.hl7v2_to_fhir import bundle, times
from mappings.hl7v2_to_fhir.context import clean
from mappings.hl7v2_to_fhir.terminology import uri_part
from mappings.notes import Notes, written
from mappings.tables import Row

SOURCE_AE: Final = 0x00020016
STATION: Final = 0x00081010
INSTITUTION: Final = 0x00080080
OFFSET: Final = 0x00080201
SCHEMES: Final = 0x00080110
_CHARSET_TAG: Final = {
    "system": "urn:meridian:mapping",
    "code": "charset",
    "display": "Text of the source was not in the character set that it declares",
}
_WRITTEN: Final = frozenset((0x00080005, 0x00080201))
"""What says how an instance is written, not what it says."""


class DicomMapper:
    """engine.contracts.Mapper. Pure; pickles as the path of the site's mappings."""

    headers = True

    def __init__(self, site_mappings: Path | None, compiled: Compiled) -> None:
        self._site_mappings, self._compiled = site_mappings, compiled

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle for one instance or one study. Raises ParseError, UnsupportedError (no instance of a study), ValidationError (a UID
        is missing; two studies or patients in one)."""
        return self._map(body, charset, DicomTransaction())[0]

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element the attribute that it came from."""
        notes = Notes()
        tx = DicomTransaction(notes=notes, losses=[])
        rendition, instances = self._map(body, None, tx)
        lineage = [
            Lineage("Bundle.identifier", instances[0].path + "SOPInstanceUID", "the instance, or the study"),
            *written(tx, notes, Lineage("", instances[0].path + "SOPInstanceUID", "links and provenance of the message")),
            *notes.lost,
            *(Lineage("", what, why) for what, why in tx.losses or ()),
            *_uncarried(instances),
        ]
        return rendition, lineage

    def gather(self, files: Iterable[Path]) -> Iterator[Gathered]:
        """engine.contracts.Gathering: a study for each Study Instance UID."""
        return gathering.studies(files, self._told)

    def _told(self, one: DataSet) -> None:
        self._describe(DicomTransaction(), [one])

    def _map(self, body: bytes, charset: str | None, tx: DicomTransaction) -> tuple[Rendition, list[DataSet]]:
        document = read(body, charset)
        whole = document.content_type != DICOM
        instances = checked(document.data_sets)
        row = self._describe(tx, instances)
        if tx.notes is not None:
            for one in instances:
                one.root.read = set()
        study = Study(self._compiled, tx, instances, row["endpoint"] if row else "", whole=whole)
        unmapped = sum(report(study, self._compiled, tx, one) for one in instances if is_document(one))
        control_id = study.uid if whole else instances[0].text(0x00080018)
        digest = body.digest if isinstance(body, Excerpt) else sha256(body).hexdigest()
        tx.drafts.append(provenance(tx, self._compiled, instances, (control_id, digest), whole=whole))
        self._flag(tx, instances)
        identifier = {"system": f"urn:meridian:message:{uri_part(tx.sender)}", "value": control_id}
        made = bundle.bundle(tx, identifier, tx.drafts[-1].body.get("recorded"))
        return Rendition(orjson.dumps(made), FHIR_JSON, "Bundle", _order_keys(study), unmapped), instances

    def _describe(self, tx: DicomTransaction, instances: list[DataSet]) -> Row | None:
        """Who has sent these, and what the site says of that one."""
        view = View(instances)
        names = [clean(view.text(tag)) for tag in (SOURCE_AE, STATION, INSTITUTION)]
        senders = self._compiled.senders
        row = next((senders[name] for name in (*names, "*") if name and name in senders), None)
        if row is not None and row["charset"]:
            for one in instances:
                one.root.fallback = row["charset"]
                one.root.faults.clear()
                for tag in (STATION, INSTITUTION, 0x00100020):
                    if tag in one.elements:
                        one.elements[tag].cache = None
        house = clean(view.text(INSTITUTION))
        tx.facility = (row["facility"] if row else "") or self._compiled.v2.facilities.get(house, house)
        tx.patients, tx.orders = (row["patients"], row["orders"]) if row else ("", "")
        tx.sender = f"{names[0] or names[1]}|{tx.facility}"
        tx.unescape = partial(STANDARD.unescape, charset="utf-8")
        zones = self._compiled.v2.zones
        tx.zone = times.colon(view.text(OFFSET)) or zones.get(tx.facility) or zones.get("*", "")
        for one in instances:
            for item in one.items(SCHEMES):
                if uid := item.text(0x0008010C):
                    tx.schemes.setdefault(item.text(0x00080102), f"urn:oid:{uid}")
        return row

    def _flag(self, tx: DicomTransaction, instances: list[DataSet]) -> None:
        """Text that may be garbled is never passed on as if it were not."""
        if not any(one.root.faults for one in instances):
            return
        for draft in tx.drafts:
            draft.body["meta"] = {"tag": [_CHARSET_TAG]}
        if tx.notes is not None:
            for one in instances:
                tx.notes.lost += [Lineage("", where, f"character set: {fault}") for where, fault in one.root.faults.items()]


def _order_keys(study: Study) -> tuple[str, ...]:
    """Every identifier of the patient, the one that names the record first."""
    found = [f"{one.get('system', '')}|{one['value']}" for one in study.patient.body["identifier"]]
    named = study.patient.query.removeprefix("identifier=")
    return tuple(dict.fromkeys([*(one for one in found if one == named), *found]))


def _uncarried(instances: list[DataSet]) -> list[Lineage]:
    """Attributes with a value of which nothing was made; of several instances that have one, the first is named."""
    named: dict[str, Lineage] = {}
    for one in instances:
        read = one.root.read or set()
        for owner, tag, element in one.valued():
            if (id(owner), tag) in read:
                continue
            name = owner.path.removeprefix(one.path) + keyword_of(tag)
            protocol = tag >> 16 == 2 or tag in _WRITTEN
            bulk = element.vr in ("OB", "OD", "OF", "OL", "OV", "OW")
            rule = "not carried: protocol" if protocol else "not carried: bulk data" if bulk else "not carried"
            named.setdefault(name, Lineage("", owner.path + keyword_of(tag), rule))
    return list(named.values())


def _compile_again(site_mappings: Path | None) -> DicomMapper:
    return DicomMapper(site_mappings, compile_all(site_mappings))
