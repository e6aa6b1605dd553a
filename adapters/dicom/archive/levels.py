"""The levels of the query/retrieve information models (PS3.4 C.6.1, C.6.2), and which attributes are known at each."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydicom.datadict import tag_for_keyword

from adapters.dicom.archive.elements import Elements


class Level(StrEnum):
    """(0008,0052)"""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


LEVELS: Final = tuple(Level)


def tag(keyword: str) -> str:
    """Eight hex digits."""
    found = tag_for_keyword(keyword)
    assert found is not None, keyword
    return f"{found:08X}"


PATIENT_ID: Final = tag("PatientID")
PATIENT_NAME: Final = tag("PatientName")
ISSUER: Final = tag("IssuerOfPatientID")
STUDY_UID: Final = tag("StudyInstanceUID")
SERIES_UID: Final = tag("SeriesInstanceUID")
SOP_UID: Final = tag("SOPInstanceUID")
SOP_CLASS: Final = tag("SOPClassUID")
MODALITY: Final = tag("Modality")
MODALITIES: Final = tag("ModalitiesInStudy")
SOP_CLASSES: Final = tag("SOPClassesInStudy")
ACCESSION: Final = tag("AccessionNumber")
STUDY_DATE: Final = tag("StudyDate")
LEVEL: Final = tag("QueryRetrieveLevel")
CHARACTER_SET: Final = tag("SpecificCharacterSet")
AVAILABLE_SYNTAX: Final = tag("AvailableTransferSyntaxUID")

UNIQUE: Final = {Level.PATIENT: PATIENT_ID, Level.STUDY: STUDY_UID, Level.SERIES: SERIES_UID, Level.IMAGE: SOP_UID}
"""The unique key of each level (C.6.1.1, type U)."""

_PATIENT: Final = (
    "PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence PatientBirthDate PatientBirthTime "
    "PatientSex OtherPatientIDs OtherPatientIDsSequence OtherPatientNames EthnicGroup PatientComments PatientSpeciesDescription "
    "PatientBreedDescription ResponsiblePerson"
)
_STUDY: Final = (
    "StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence StudyID StudyInstanceUID ReferringPhysicianName StudyDescription "
    "ProcedureCodeSequence NameOfPhysiciansReadingStudy PhysiciansOfRecord AdmittingDiagnosesDescription AdmissionID PatientAge "
    "PatientSize PatientWeight Occupation AdditionalPatientHistory ReferencedStudySequence TimezoneOffsetFromUTC"
)
_SERIES: Final = (
    "Modality SeriesNumber SeriesInstanceUID SeriesDescription SeriesDescriptionCodeSequence SeriesDate SeriesTime BodyPartExamined "
    "Laterality PatientPosition ProtocolName OperatorsName PerformingPhysicianName PerformedProcedureStepStartDate "
    "PerformedProcedureStepStartTime PerformedProcedureStepID PerformedProcedureStepDescription RequestAttributesSequence StationName "
    "InstitutionName InstitutionAddress InstitutionalDepartmentName Manufacturer ManufacturerModelName DeviceSerialNumber "
    "SoftwareVersions FrameOfReferenceUID ReferencedPerformedProcedureStepSequence"
)
_COUNTED: Final = {
    Level.PATIENT: "NumberOfPatientRelatedStudies NumberOfPatientRelatedSeries NumberOfPatientRelatedInstances",
    Level.STUDY: "ModalitiesInStudy SOPClassesInStudy NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances",
    Level.SERIES: "NumberOfSeriesRelatedInstances",
    Level.IMAGE: "AvailableTransferSyntaxUID",
}

STORED: Final[dict[Level, frozenset[str]]] = {
    Level.PATIENT: frozenset(map(tag, _PATIENT.split())),
    Level.STUDY: frozenset(map(tag, _STUDY.split())),
    Level.SERIES: frozenset(map(tag, _SERIES.split())),
}
"""What is taken from the newest instance for each level. At the IMAGE level every attribute of the instance's header is known."""

COUNTED: Final[dict[Level, tuple[str, ...]]] = {level: tuple(map(tag, names.split())) for level, names in _COUNTED.items()}
"""What is worked out from what is held (PS3.4 C.3.4), whatever the instances say."""

_ALL_COUNTED: Final = frozenset(name for names in COUNTED.values() for name in names)


def above(level: Level) -> tuple[Level, ...]:
    """`level` and all above it, from PATIENT down."""
    return LEVELS[: LEVELS.index(level) + 1]


def known(level: Level) -> frozenset[str]:
    """The attributes that matching and answers support at a level, those of the levels above among them (IMAGE: and any other)."""
    return frozenset(name for one in above(level) for name in (*STORED.get(one, ()), *COUNTED[one], UNIQUE[one])) | (
        {SOP_CLASS} if level is Level.IMAGE else frozenset()
    )


def pick(elements: Elements, level: Level) -> Elements:
    """What of an instance is kept for one level."""
    return {name: element for name, element in elements.items() if name in STORED[level]}


def of_instance(elements: Elements) -> Elements:
    """What an instance itself is known by: its data set without what is counted, and without the patient's, study's and series' own."""
    above_it = STORED[Level.PATIENT] | STORED[Level.STUDY] | STORED[Level.SERIES] | _ALL_COUNTED | {CHARACTER_SET}
    return {name: element for name, element in elements.items() if name not in above_it and not name.startswith("0002")}
