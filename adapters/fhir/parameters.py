"""Search parameters (R4 3.1.1): what of a resource is indexed.

The table below is the whole truth of what can be searched: the index, the queries and the CapabilityStatement come from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from adapters.fhir.resource_types import RESOURCE_TYPES


class Kind(StrEnum):
    """How a parameter matches (R4 3.1.1.4)."""

    TOKEN = "token"  # noqa: S105
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One indexed parameter of one type. `key` names it in the index (``Observation.subject``), `element` is the top-level
    element it reads; a reference given as a bare id is one to `target`."""

    name: str
    kind: Kind
    element: str
    key: str
    target: str = ""


# Types whose subject, patient, encounter … can be searched: R4's own SearchParameter list for them.
_SUBJECT: Final = """
    Account AdverseEvent CarePlan CareTeam ChargeItem ClinicalImpression Communication CommunicationRequest Composition
    Condition DeviceRequest DiagnosticReport DocumentManifest DocumentReference Encounter Flag Goal ImagingStudy Invoice
    List MeasureReport Media MedicationAdministration MedicationDispense MedicationRequest MedicationStatement
    Observation Procedure QuestionnaireResponse RequestGroup RiskAssessment ServiceRequest Specimen
"""
_PATIENT: Final = """
    AllergyIntolerance Claim ClaimResponse Consent DetectedIssue Device EpisodeOfCare ExplanationOfBenefit
    FamilyMemberHistory Immunization ImmunizationEvaluation ImmunizationRecommendation NutritionOrder RelatedPerson
    ResearchSubject VisionPrescription
"""
_ENCOUNTER: Final = """
    CarePlan CareTeam ClinicalImpression Communication CommunicationRequest Composition Condition DeviceRequest
    DiagnosticReport Flag ImagingStudy List Media MedicationRequest NutritionOrder Observation Procedure
    QuestionnaireResponse RequestGroup RiskAssessment ServiceRequest VisionPrescription
"""
_BASED_ON: Final = """
    CarePlan Communication CommunicationRequest DeviceRequest DiagnosticReport ImagingStudy Media Observation Procedure
    QuestionnaireResponse ServiceRequest
"""
_CODE: Final = """
    AllergyIntolerance Basic ChargeItem Condition DetectedIssue DiagnosticReport Flag List Medication
    MedicationAdministration MedicationDispense MedicationRequest MedicationStatement Observation Procedure
    ServiceRequest Substance
"""
_CODE_ELEMENTS: Final = {"MedicationAdministration", "MedicationDispense", "MedicationRequest", "MedicationStatement"}
_WITHOUT_IDENTIFIER: Final = """
    AuditEvent Binary CapabilityStatement CompartmentDefinition GraphDefinition ImplementationGuide Linkage
    MedicationKnowledge MedicinalProductContraindication MedicinalProductIndication MedicinalProductInteraction
    MedicinalProductManufactured MedicinalProductUndesirableEffect MessageHeader NamingSystem OperationDefinition
    OperationOutcome Parameters Provenance SearchParameter Subscription SubstanceNucleicAcid SubstancePolymer
    SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial TerminologyCapabilities VerificationResult
"""


_TARGETS: Final = {"patient": "Patient", "encounter": "Encounter", "specimen": "Specimen"}


def _rows() -> Iterator[tuple[str, str, Kind, str]]:
    for name in sorted(RESOURCE_TYPES.difference(_WITHOUT_IDENTIFIER.split())):
        yield name, "identifier", Kind.TOKEN, "identifier"
    for name in _CODE.split():
        yield name, "code", Kind.TOKEN, "medicationCodeableConcept" if name in _CODE_ELEMENTS else "code"
    for name in _SUBJECT.split():
        yield name, "subject", Kind.REFERENCE, "subject"
    for name in _PATIENT.split():
        yield name, "patient", Kind.REFERENCE, "individual" if name == "ResearchSubject" else "patient"
    for name in _ENCOUNTER.split():
        yield name, "encounter", Kind.REFERENCE, "encounter"
    for name in _BASED_ON.split():
        yield name, "based-on", Kind.REFERENCE, "basedOn"
    yield "DiagnosticReport", "result", Kind.REFERENCE, "result"
    yield "DiagnosticReport", "specimen", Kind.REFERENCE, "specimen"
    yield "Observation", "specimen", Kind.REFERENCE, "specimen"
    yield "Provenance", "target", Kind.REFERENCE, "target"


def _table() -> dict[str, dict[str, Parameter]]:
    table: dict[str, dict[str, Parameter]] = {name: {} for name in RESOURCE_TYPES}
    for resource_type, name, kind, element in _rows():
        table[resource_type][name] = Parameter(name, kind, element, f"{resource_type}.{name}", _TARGETS.get(name, ""))
    for resource_type in _SUBJECT.split():  # `patient` is `subject` where that is a Patient; both read the same index rows
        if resource_type != "AdverseEvent":
            table[resource_type]["patient"] = Parameter("patient", Kind.REFERENCE, "", f"{resource_type}.subject", "Patient")
    return table


PARAMETERS: Final[Mapping[str, Mapping[str, Parameter]]] = _table()

_INDEXED: Final = {
    name: tuple((parameter.key, parameter.element, parameter.kind is Kind.TOKEN) for parameter in by_name.values() if parameter.element)
    for name, by_name in PARAMETERS.items()
}

IndexRow = tuple[str, str, str]
"""Parameter key, value (a token's code or a reference), system."""


def tokens(resource: Mapping[str, Any]) -> list[IndexRow]:
    """The token rows of a resource's index: of each Identifier, CodeableConcept or code; what has another shape is not indexed."""
    rows: list[IndexRow] = []
    for key, element, is_token in _INDEXED[resource["resourceType"]]:
        if not is_token or (value := resource.get(element)) is None:
            continue
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict):
                codings = item.get("coding")
                rows += _codings(key, codings, "code") if isinstance(codings, list) else _codings(key, (item,), "value")
    return rows


def _codings(key: str, codings: Sequence[Any], member: str) -> list[IndexRow]:
    found = [(coding.get(member), coding.get("system")) for coding in codings if isinstance(coding, dict)]
    return [(key, value, system if isinstance(system, str) else "") for value, system in found if isinstance(value, str)]


def references(resource: Mapping[str, Any], resolved: Mapping[str, str]) -> list[IndexRow]:
    """The reference rows of a resource's index; `resolved` gives what a reference of the Bundle has become."""
    rows: list[IndexRow] = []
    for key, element, is_token in _INDEXED[resource["resourceType"]]:
        if not is_token and (value := resource.get(element)) is not None:
            for item in value if isinstance(value, list) else (value,):
                reference = item.get("reference") if isinstance(item, dict) else None
                if isinstance(reference, str):
                    rows.append((key, resolved.get(reference, reference).partition("/_history/")[0], ""))
    return rows
