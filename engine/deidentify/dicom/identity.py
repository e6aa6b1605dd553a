"""Who a data set is about, and the proof that the result does not say it: the header is read again, as text and as bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

from engine.deidentify.dicom.codes import WRITTEN
from engine.deidentify.dicom.elements import Encoding
from engine.deidentify.traces import Traces
from engine.errors import Quarantined

_NAMES: Final = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ResponsiblePerson",
    "PersonNamesToUseSequence",
)
_IDENTIFIERS: Final = (
    *("PatientID", "OtherPatientIDs", "AccessionNumber", "AdmissionID", "ServiceEpisodeID", "MedicalRecordLocator"),
    *("InsurancePlanIdentification", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    *("ClinicalTrialSubjectID", "SpecimenIdentifier", "SpecimenAccessionNumber"),
)
_TELEPHONES: Final = ("PatientTelephoneNumbers", "PatientTelecomInformation")
_SOUGHT: Final = frozenset(("AE", "AS", "CS", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_DATES: Final = frozenset(("DA", "DT"))
_BYTES: Final = frozenset(("OB", "UN"))
_SHORT: Final = 1024
"""In longer ones only words of five bytes and more are sought: shorter ones are in any noise."""
_ALWAYS: Final = ("utf-8", "gb18030", "utf-16-le")
_OUR_CODES: Final = re.compile(rb"1131(?:0\d|1[0-2])")


def gather(dataset: Any) -> tuple[Traces, list[str]]:
    """What identifies the patient, wherever it stands, and the character sets that the instance uses."""
    traces, codecs = Traces(), list(_ALWAYS)
    for keyword, values, owner in _identifying(dataset):
        for value in values:
            if keyword in _NAMES:
                traces.name(str(value))
            elif keyword in _IDENTIFIERS:
                traces.identifier(str(value))
            elif keyword == "PatientBirthDate":
                traces.date(str(value))
            elif keyword in _TELEPHONES:
                traces.telephone(str(value))
            else:
                traces.address(str(value))
        codecs += _codecs(owner)
    return traces, codecs


_KEYWORDS: Final = (*_NAMES[:-1], *_IDENTIFIERS, *_TELEPHONES, "PatientBirthDate", "PatientAddress")


def _identifying(dataset: Any) -> Iterator[tuple[str, list[Any], Any]]:
    for keyword in _KEYWORDS:
        if keyword in dataset and (element := dataset[keyword]).VR != "SQ" and element.value:
            yield keyword, (list(element.value) if element.VM > 1 else [element.value]), dataset
    for item in _items(dataset):
        yield from _identifying(item)


def _items(dataset: Any) -> Iterator[Any]:
    for tag in list(dataset.keys()):
        if dataset.get_item(tag).VR in ("SQ", "UN", None) and (element := dataset[tag]).VR == "SQ":
            yield from element.value


def _codecs(dataset: Any) -> list[str]:
    from pydicom.charset import python_encoding

    declared = dataset.get("SpecificCharacterSet") or []
    words = [declared] if isinstance(declared, str) else list(declared)
    return [python_encoding.get(word, "latin-1") for word in words]


def verify(header: bytes, encoding: Encoding, traces: Traces, codecs: list[str], dates: str) -> None:
    """Raises Quarantined naming the attribute that still holds what identifies the patient."""
    from pydicom.filereader import read_dataset

    _Search(traces, codecs, dates).through(read_dataset(BytesIO(header), encoding.implicit, encoding.little), "")
    if traces.in_bytes(_OUR_CODES.sub(b"", header), codecs, dates == "remove"):
        raise Quarantined("the result still holds what identifies the patient, in bytes that are not text", location="data set")


class _Search:
    """Through every attribute, as text; bytes that may be text (an implicit VR does not tell) are read as text in each character set."""

    def __init__(self, traces: Traces, codecs: list[str], dates: str) -> None:
        self._traces, self._codecs = traces, list(dict.fromkeys(codecs))
        self._texts = _SOUGHT | _DATES if dates == "remove" else _SOUGHT

    def through(self, dataset: Any, above: str) -> None:
        for tag in list(dataset.keys()):
            if tag in WRITTEN and not above:
                continue
            element = dataset[tag]
            where = above + (element.keyword or f"({tag.group:04X},{tag.element:04X})")
            if element.VR == "SQ":
                for number, item in enumerate(element.value, 1):
                    self.through(item, f"{where}[{number}].")
            elif any(self._traces.within(text) for text in self._texts_of(element)):
                raise Quarantined("the result still holds what identifies the patient", location=where)

    def _texts_of(self, element: Any) -> Iterator[str]:
        if element.VR in self._texts:
            yield from (str(value) for value in (element.value if element.VM > 1 else [element.value]))
        elif element.VR in _BYTES and isinstance(element.value, bytes) and len(element.value) <= _SHORT:
            yield from (element.value.rstrip(b"\0 ").decode(codec, "replace") for codec in self._codecs)
