"""A study's instances -> ImagingStudy, with the Patient, equipment, endpoint and orders that it refers to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from engine.errors import UnsupportedError, ValidationError
from engine.formats.dicom import DataSet
from mappings.dicom_to_fhir.context import DicomTransaction, View
from mappings.dicom_to_fhir.converters import is_uid
from mappings.dicom_to_fhir.loading import Compiled
from mappings.hl7v2_to_fhir.context import clean
from mappings.hl7v2_to_fhir.identity import own_number
from mappings.hl7v2_to_fhir.references import query_of, ready
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import KEY_SYSTEM, Body, Draft, name_uuid

PATIENT_ID: Final = 0x00100020
STUDY_UID: Final = 0x0020000D
SERIES_UID: Final = 0x0020000E
SERIES_NUMBER: Final = 0x00200011
INSTANCE_NUMBER: Final = 0x00200013
SOP_CLASS: Final = 0x00080016
SOP_UID: Final = 0x00080018
REQUEST_ATTRIBUTES: Final = 0x00400275
RETRIEVE_URL: Final = 0x00081190
STUDY_INSTANCES: Final = 0x00201208
SERIES_INSTANCES: Final = 0x00201209
STUDY_SERIES: Final = 0x00201206
_ABSENT: Final = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
_CONNECTION: Final = TERMINOLOGY + "endpoint-connection-type"
_NO_STUDY: Final = ("1.2.840.10008.3.1.2.3.", "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.31", "1.2.840.10008.1.3.10")
"""Performed procedure steps, storage commitment, worklist entries, directories: not what an ImagingStudy is made of."""


def checked(data_sets: Sequence[DataSet]) -> list[DataSet]:
    """The instances in the order of the study, each once. Raises UnsupportedError and ValidationError: no study, or of two patients."""
    for one in data_sets:
        sop_class = one.text(SOP_CLASS) or one.text(0x00020002)
        if sop_class.startswith(_NO_STUDY) or (not one.text(STUDY_UID) and not one.text(SERIES_UID)):
            raise UnsupportedError("this is no instance of a study", location=one.path + "SOPClassUID", hl7_code="200")
        for tag, name in ((STUDY_UID, "StudyInstanceUID"), (SERIES_UID, "SeriesInstanceUID"), (SOP_UID, "SOPInstanceUID")):
            if not is_uid(one.text(tag)):
                raise ValidationError("an instance needs this UID", location=one.path + name, hl7_code="101")
    _same(data_sets, STUDY_UID, "StudyInstanceUID", "the instances are of more than one study")
    _same(data_sets, PATIENT_ID, "PatientID", "the instances are of more than one patient")
    once = {one.text(SOP_UID): one for one in reversed(data_sets)}
    return sorted(once.values(), key=_order)


def _same(data_sets: Sequence[DataSet], tag: int, name: str, text: str) -> None:
    values = {clean(one.text(tag)): one for one in reversed(data_sets) if one.text(tag)}
    if len(values) > 1:
        raise ValidationError(text, location=next(iter(values.values())).path + name, hl7_code="207")


def _order(one: DataSet) -> tuple[Any, ...]:
    return _number(one, SERIES_NUMBER), one.text(SERIES_UID), _number(one, INSTANCE_NUMBER), one.text(SOP_UID)


def _number(one: DataSet, tag: int) -> int:
    text = one.text(tag)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1 << 31


class Study:
    """Builds the drafts of one study. `whole` says that these are all of its instances, as far as they have arrived."""

    def __init__(self, compiled: Compiled, tx: DicomTransaction, instances: Sequence[DataSet], endpoint: str, *, whole: bool) -> None:
        self._compiled, self._tx, self._instances, self._endpoint, self._whole = compiled, tx, instances, endpoint, whole
        self._view = View(instances)
        self.uid = instances[0].text(STUDY_UID)
        self.patient = self._patient()
        self.orders = self._orders()
        self.study = self._study()

    def draft(self, kind: str, write: str, source: str) -> Draft:
        made = Draft(kind, write, source, [], {})
        self._tx.drafts.append(made)
        return made

    def apply(self, name: str, view: View, draft: Draft) -> None:
        self._compiled.maps[name].apply(view, draft, self._tx)

    def claim(self, body: Body, source: str, rule: str) -> None:
        if self._tx.notes is not None:
            self._tx.notes.claim(body, self._instances[0].path + source, rule)

    # --- resources -------------------------------------------------------------------------------

    def _patient(self) -> Draft:
        draft = self.draft("Patient", "create", "PatientID")
        self.apply("Patient", self._view, draft)
        identifiers = draft.body.get("identifier", [])
        identifier = own_number(identifiers)
        if identifier is None:
            uuid = name_uuid(f"Patient {self.uid}")
            identifier = {"system": KEY_SYSTEM, "value": uuid}
            draft.body["identifier"] = [*identifiers, identifier]
        for point in draft.body.get("telecom", ()):
            point.setdefault("system", "phone")
        self.claim(draft.body, "StudyInstanceUID", "derived key")
        _identified(draft, query_of(identifier))
        return draft

    def _orders(self) -> list[Body]:
        """References to the orders that the study was made for: a ServiceRequest where the placer's number names it, which is how HL7 v2
        names it too; by its filler's or accession number else. Images may come before their order, and an order made by another number
        than its own would then be there twice."""
        items = [View([item, one]) for one in self._instances for item in one.items(REQUEST_ATTRIBUTES)]
        found: dict[str, Body] = {}
        for view in items or [self._view]:
            draft = Draft("ServiceRequest", "create", "AccessionNumber", [], {})
            self.apply("ServiceRequest", view, draft)
            identifiers = draft.body["identifier"] = _distinct(draft.body.get("identifier", ()))
            query = query_of(identifiers[0]) if identifiers else ""
            if query and query not in found:
                found[query] = self._placed(draft, query) if _code(identifiers[0]) == "PLAC" else self._numbered(identifiers[0])
        return list(found.values())

    def _placed(self, draft: Draft, query: str) -> Body:
        draft.body |= {"status": "unknown", "intent": "order", "subject": self.patient.ref}
        _identified(draft, query)
        self.claim(draft.body, "StudyInstanceUID", "default of ServiceRequest")
        self._tx.drafts.append(draft)
        return draft.ref

    def _numbered(self, identifier: Body) -> Body:
        reference = {"type": "ServiceRequest", "identifier": identifier}
        source = "AccessionNumber" if _code(identifier) == "ACSN" else "FillerOrderNumberImagingServiceRequest"
        self.claim(reference, source, "reference to the order by its number")
        return reference

    def _study(self) -> Draft:
        draft = self.draft("ImagingStudy", "put" if self._whole else "create", "StudyInstanceUID")
        body = draft.body
        self.apply("ImagingStudy", self._view, draft)
        body.setdefault("status", "available")
        body["subject"] = self.patient.ref
        if self.orders:
            body["basedOn"] = self.orders
        if endpoint := self._address():
            body["endpoint"] = [endpoint]
        series = self._all_series()
        modalities = {one["modality"].get("code", ""): one["modality"] for one in series if "code" in one["modality"]}
        if modalities:
            body["modality"] = list(modalities.values())
        self._counts(body, "numberOfSeries", len(series), STUDY_SERIES, self._view)
        self._counts(body, "numberOfInstances", len(self._instances), STUDY_INSTANCES, self._view)
        self.claim(body, "StudyInstanceUID", "the study's instances")
        body["series"] = series
        _identified(draft, query_of(body["identifier"][0]))
        return draft

    def _counts(self, body: Body, name: str, counted: int, tag: int, view: View) -> None:
        """How many there are. A single instance knows that only where somebody has told it."""
        said = view.text(tag)
        if self._whole:
            body[name] = counted
        elif said.isascii() and said.isdigit() and len(said) < 9:
            body[name] = int(said)

    def _all_series(self) -> list[Body]:
        grouped: dict[str, list[DataSet]] = {}
        for one in self._instances:
            grouped.setdefault(one.text(SERIES_UID), []).append(one)
        return [self._series(View(instances)) for instances in grouped.values()]

    def _series(self, view: View) -> Body:
        draft = _part()
        self.apply("Series", view, draft)
        body = draft.body
        if "code" not in body.get("modality", {}):
            body["modality"] = _ABSENT
        self._counts(body, "numberOfInstances", len(view.data_sets), SERIES_INSTANCES, view)
        if performers := [one for one in body.pop("performer", ()) if "actor" in one]:
            body["performer"] = performers
        if device := self._device(view):
            body.setdefault("performer", []).append({"actor": device})
        if self._tx.notes is not None:
            self._tx.notes.claim(body, view.first.path + "SeriesInstanceUID", "the series' instances")
        body["instance"] = [self._instance(one) for one in view.data_sets]
        return body

    def _instance(self, one: DataSet) -> Body:
        draft = _part()
        self.apply("Instance", View([one]), draft)
        draft.body.setdefault("sopClass", _ABSENT)
        if self._tx.notes is not None:
            self._tx.notes.claim(draft.body, one.path + "SOPInstanceUID", "absent")
        return draft.body

    def _device(self, view: View) -> Body | None:
        """The equipment that has made a series."""
        draft = _part()
        before = set(self._tx.entries)
        self.apply("Device", view, draft)
        body = draft.body
        named = [one["name"] for one in body.get("deviceName", ())]
        if not named and "serialNumber" not in body and "identifier" not in body and "manufacturer" not in body:
            return None
        known = " ".join([body.get("manufacturer", ""), body.get("serialNumber") or "", *named])
        made = ready("Device", body, f"{self._tx.facility} {known}")
        reference = self._tx.refer(made)
        if self._tx.notes is not None:
            self._tx.notes.made([made.url, *(url for url in self._tx.entries if url not in before)], _equipment(view), "Device")
        return reference

    def _address(self) -> Body | None:
        """Where the images can be fetched (PS3.18): what the site says of the sender, else what came with the instances."""
        url = clean(self._view.text(RETRIEVE_URL)).partition("/studies/")[0]
        address = self._endpoint or (url if url.startswith(("http://", "https://")) else "")
        if not address:
            return None
        made = ready(
            "Endpoint",
            {
                "status": "active",
                "connectionType": coding(_CONNECTION, "dicom-wado-rs", "DICOM WADO-RS"),
                "payloadType": [{"text": "DICOM"}],
                "payloadMimeType": ["application/dicom", "application/dicom+json"],
                "address": address,
            },
            address,
        )
        if self._tx.notes is not None:
            self._tx.notes.made(
                [made.url], self._instances[0].path + "StudyInstanceUID", "senders.csv" if self._endpoint else "Retrieve URL"
            )
        return self._tx.refer(made)


def _part() -> Draft:
    """Something that becomes a part of a resource."""
    draft = Draft("", "", "", [], {})
    del draft.body["resourceType"]
    return draft


def _identified(draft: Draft, query: str) -> None:
    draft.identify(name_uuid(f"{draft.kind} {query}"), query)


def _code(identifier: Body) -> str:
    """The code of an identifier's type (table 0203)."""
    return str(identifier["type"]["coding"][0]["code"])


def _distinct(identifiers: Iterable[Body]) -> list[Body]:
    """One number that stands under two names (an accession number that is the filler's) is one identifier."""
    found: dict[tuple[str, str], Body] = {}
    for one in identifiers:
        if "value" in one:
            found.setdefault((one.get("system", ""), one["value"]), one)
    return list(found.values())


def _equipment(view: View) -> str:
    """A place that stands for the equipment module."""
    for tag, name in (
        (0x00080070, "Manufacturer"),
        (0x00081010, "StationName"),
        (0x00181000, "DeviceSerialNumber"),
        (0x00081090, "ManufacturerModelName"),
    ):
        found = view.find((tag,))
        if found:
            return found[0][0].path + name
    return view.first.path + "SeriesInstanceUID"
