"""Persons that a data set names: Practitioners, by the rules of hl7v2-to-fhir, with every writing of the name."""

from __future__ import annotations

from typing import Any, Final

from engine.formats.dicom import DataSet
from engine.formats.dicom.dictionary import keyword_of, tag_of
from mappings.dicom_to_fhir.context import DicomTransaction, Found
from mappings.dicom_to_fhir.converters import CODE_VALUE, SCHEME, groups, xcn, xpn
from mappings.hl7v2_to_fhir.context import clean
from mappings.transaction import Body

PERSON_CODES: Final = 0x00401101
"""Person Identification Code Sequence (PS3.3 table 10-1)."""
_SEQUENCES: Final = {
    "ReferringPhysicianName": "ReferringPhysicianIdentificationSequence",
    "PhysiciansOfRecord": "PhysiciansOfRecordIdentificationSequence",
    "PerformingPhysicianName": "PerformingPhysicianIdentificationSequence",
    "NameOfPhysiciansReadingStudy": "PhysiciansReadingStudyIdentificationSequence",
    "OperatorsName": "OperatorIdentificationSequence",
    "RequestingPhysician": "RequestingPhysicianIdentificationSequence",
    "VerifyingObserverName": "VerifyingObserverIdentificationCodeSequence",
    "PersonName": "PersonIdentificationCodeSequence",
}
"""Where the codes of a named person stand: items that hold them, or the codes themselves."""


class People:
    """The converters for PN attributes."""

    def __init__(self, vocabulary: Any) -> None:
        self._practitioner = vocabulary.converter("Practitioner", "")
        self._name = vocabulary.converter("XPN", "")

    def named(self, found: Found, tx: DicomTransaction) -> Body | None:
        """One of the names of an attribute; the code that stands at the same place identifies the person."""
        holder, tag, value = found
        number, authority = self._code(holder, tag, value)
        return self.person(value, number, authority, tx)

    def person(self, name: str, number: str, authority: str, tx: DicomTransaction) -> Body | None:
        """A reference to a Practitioner."""
        if not groups(name) and not number:
            return None
        reference: Body | None = self._practitioner(xcn(clean(name), clean(number), clean(authority)), tx)
        writings = [made for text in xpn(clean(name)) if (made := self._name(text, tx))]
        if reference is not None and len(writings) > 1:
            tx.amend(reference["reference"])["name"] = writings
        return reference

    def _code(self, holder: DataSet, tag: int, value: str) -> tuple[str, str]:
        """(number, coding scheme) of the person that `value` names."""
        names = holder.values(tag)
        at = names.index(value) if value in names else 0
        sequence = tag_of(_SEQUENCES.get(keyword_of(tag), ""))
        items = holder.items(sequence) if sequence is not None else ()
        if at >= len(items):
            return "", ""
        item = next(iter(items[at].items(PERSON_CODES)), items[at])
        return item.text(CODE_VALUE), item.text(SCHEME)
