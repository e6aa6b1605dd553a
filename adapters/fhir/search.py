"""Search parameters: what is indexed of a resource, and how a query reads (R4 3.1.1).

The table below is the whole truth of what can be searched; the index, the queries and the CapabilityStatement come from it.
A query with anything else is refused, since a parameter silently ignored would return other patients' resources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from adapters.fhir.instants import comparison
from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.resource_types import ID, RESOURCE_TYPES


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
_SUBJECT: Final = """Account AdverseEvent CarePlan CareTeam ChargeItem ClinicalImpression Communication CommunicationRequest Composition Condition
    DeviceRequest DiagnosticReport DocumentManifest DocumentReference Encounter Flag Goal ImagingStudy Invoice List MeasureReport Media
    MedicationAdministration MedicationDispense MedicationRequest MedicationStatement Observation Procedure QuestionnaireResponse
    RequestGroup RiskAssessment ServiceRequest Specimen""".split()
_PATIENT: Final = """AllergyIntolerance Claim ClaimResponse Consent DetectedIssue Device EpisodeOfCare ExplanationOfBenefit FamilyMemberHistory
    Immunization ImmunizationEvaluation ImmunizationRecommendation NutritionOrder RelatedPerson ResearchSubject
    VisionPrescription""".split()
_ENCOUNTER: Final = """CarePlan CareTeam ClinicalImpression Communication CommunicationRequest Composition Condition DeviceRequest
    DiagnosticReport Flag ImagingStudy List Media MedicationRequest NutritionOrder Observation Procedure QuestionnaireResponse RequestGroup
    RiskAssessment ServiceRequest VisionPrescription""".split()
_BASED_ON: Final = """CarePlan Communication CommunicationRequest DeviceRequest DiagnosticReport ImagingStudy Media Observation Procedure
    QuestionnaireResponse ServiceRequest""".split()
_CODE: Final = """AllergyIntolerance Basic ChargeItem Condition DetectedIssue DiagnosticReport Flag List Medication MedicationAdministration
    MedicationDispense MedicationRequest MedicationStatement Observation Procedure ServiceRequest Substance""".split()
_CODE_ELEMENTS: Final = {"MedicationAdministration", "MedicationDispense", "MedicationRequest", "MedicationStatement"}
_WITHOUT_IDENTIFIER: Final = """AuditEvent Binary CapabilityStatement CompartmentDefinition GraphDefinition ImplementationGuide Linkage
    MedicationKnowledge MedicinalProductContraindication MedicinalProductIndication MedicinalProductInteraction
    MedicinalProductManufactured MedicinalProductUndesirableEffect MessageHeader NamingSystem OperationDefinition OperationOutcome
    Parameters Provenance SearchParameter Subscription SubstanceNucleicAcid SubstancePolymer SubstanceProtein
    SubstanceReferenceInformation SubstanceSourceMaterial TerminologyCapabilities VerificationResult""".split()


_TARGETS: Final = {"patient": "Patient", "encounter": "Encounter", "specimen": "Specimen"}


def _rows() -> Iterator[tuple[str, str, Kind, str]]:
    for name in sorted(RESOURCE_TYPES.difference(_WITHOUT_IDENTIFIER)):
        yield name, "identifier", Kind.TOKEN, "identifier"
    for name in _CODE:
        yield name, "code", Kind.TOKEN, "medicationCodeableConcept" if name in _CODE_ELEMENTS else "code"
    for name in _SUBJECT:
        yield name, "subject", Kind.REFERENCE, "subject"
    for name in _PATIENT:
        yield name, "patient", Kind.REFERENCE, "individual" if name == "ResearchSubject" else "patient"
    for name in _ENCOUNTER:
        yield name, "encounter", Kind.REFERENCE, "encounter"
    for name in _BASED_ON:
        yield name, "based-on", Kind.REFERENCE, "basedOn"
    yield "DiagnosticReport", "result", Kind.REFERENCE, "result"
    yield "DiagnosticReport", "specimen", Kind.REFERENCE, "specimen"
    yield "Observation", "specimen", Kind.REFERENCE, "specimen"
    yield "Provenance", "target", Kind.REFERENCE, "target"


def _table() -> dict[str, dict[str, Parameter]]:
    table: dict[str, dict[str, Parameter]] = {name: {} for name in RESOURCE_TYPES}
    for resource_type, name, kind, element in _rows():
        table[resource_type][name] = Parameter(name, kind, element, f"{resource_type}.{name}", _TARGETS.get(name, ""))
    for resource_type in _SUBJECT:  # `patient` is `subject` where that is a Patient; both read the same index rows
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


# --- queries -------------------------------------------------------------------------------------

DEFAULT_COUNT: Final = 50
MOST: Final = 1000


class Term(NamedTuple):
    """One parameter of a query: any of `alternatives` (value, system; None = any system) matches."""

    key: str
    alternatives: tuple[tuple[str, str | None], ...]


class Query(NamedTuple):
    """A search that can be carried out: all of it must match. Times in microseconds UTC, low <= t < high."""

    resource_type: str
    terms: tuple[Term, ...] = ()
    ids: tuple[str, ...] | None = None
    updated: tuple[tuple[int, int], ...] = ()
    most: int = DEFAULT_COUNT
    after: int = 0
    count_only: bool = False


def parse_query(resource_type: str, query: str, *, condition: bool = False, lenient: bool = False) -> Query:
    """Read a query string. A `condition` (If-None-Exist, a conditional reference or URL) must restrict and may not page.

    Raises FhirRefusal 400 for what is not supported; with `lenient` (Prefer: handling=lenient, R4 3.1.1.3.1) unknown names are ignored.
    """
    terms: list[Term] = []
    ids: tuple[str, ...] | None = None
    updated: list[tuple[int, int]] = []
    result: dict[str, Any] = {}
    known = PARAMETERS[resource_type]
    for name, value in _pairs(query):
        if name in known:
            terms.append(_term(known[name], value))
        elif name == "_id":
            ids = tuple(value.split(","))
        elif name == "_lastUpdated":
            updated.append(comparison(value))
        elif name in _RESULT and not condition:
            result.update(_RESULT[name](value))
        elif not lenient or condition:
            raise _unsupported(name, resource_type)
    if condition and not terms and ids is None:
        raise FhirRefusal(412, "a condition needs at least one search parameter", issue="required")
    return Query(resource_type, tuple(terms), ids, tuple(updated), **result)


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name:
            yield name, unquote_plus(value) if "%" in value or "+" in value else value


def _unsupported(name: str, resource_type: str) -> FhirRefusal:
    known = ", ".join(sorted({*PARAMETERS[resource_type], "_id", "_lastUpdated", "_count"}))
    shown = name if name.replace("-", "").replace("_", "").replace(":", "").replace(".", "").isalnum() else "this parameter"
    return FhirRefusal(400, f"search by {shown} is not supported for {resource_type}; supported: {known}", issue="not-supported")


def _term(parameter: Parameter, value: str) -> Term:
    if not value:
        raise FhirRefusal(400, f"search parameter {parameter.name} has no value", issue="value")
    read = _token_value if parameter.kind is Kind.TOKEN else _reference_value
    return Term(parameter.key, tuple(read(parameter, part) for part in _split(value)))


def _split(value: str) -> list[str]:
    """The alternatives of a value: commas part them, ``\\,`` ``\\|`` ``\\$`` ``\\\\`` are escaped (R4 3.1.1.4.0.1)."""
    if "\\" not in value:
        return value.split(",")
    parts, part, escaped = [], "", False
    for character in value:
        if escaped or character not in "\\,":
            part, escaped = part + character, False
        elif character == "\\":
            escaped = True
        else:
            parts.append(part)
            part = ""
    return [*parts, part]


def _token_value(parameter: Parameter, part: str) -> tuple[str, str | None]:
    system, bar, value = part.partition("|") if "|" in part else ("", "", part)
    if not value:
        raise FhirRefusal(400, f"search parameter {parameter.name} needs a value, not a system alone", issue="not-supported")
    return value, system if bar else None


def _reference_value(parameter: Parameter, part: str) -> tuple[str, str | None]:
    if "/" in part or part.startswith("urn:"):
        return part, None
    if parameter.target and ID.fullmatch(part):
        return f"{parameter.target}/{part}", None
    raise FhirRefusal(400, f"search parameter {parameter.name} needs a reference such as Patient/123", issue="value")


def _count(value: str) -> dict[str, Any]:
    if not value.isdecimal():
        raise FhirRefusal(400, "_count needs a whole number", issue="value")
    number = int(value)
    return {"most": min(number, MOST), "count_only": number == 0}


def _summary(value: str) -> dict[str, Any]:
    if value not in ("count", "false"):
        raise FhirRefusal(400, "_summary is supported as count or false", issue="not-supported")
    return {"count_only": value == "count"}


def _after(value: str) -> dict[str, Any]:
    if not value.isdecimal():
        raise FhirRefusal(400, "_after is made by this server's next links only", issue="value")
    return {"after": int(value)}


_RESULT: Final = {"_count": _count, "_summary": _summary, "_after": _after, "_format": lambda _: {}, "_pretty": lambda _: {}}
