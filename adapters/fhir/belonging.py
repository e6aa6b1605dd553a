"""Whose resources are: a party with patients of its own sends of them and of nobody else. Pure.

`own` are ``Patient/ID`` and ``SYSTEM|VALUE`` of identifiers. What a request says is compared with them and with nothing else, so that it
holds whatever the repository, or another server behind this one, has in store:

    a reference to a Patient, however deep, is to one of them: by its id, by identifier, or to an own Patient of the same Bundle
    an identifier that stands for a resource of a type not said, in a system that own patients have identifiers of, is one of those
    a Patient has no other identifiers, and no other id, where an id is more than a name within the request
    a resource that is about a patient (R4 gives it a subject, patient, beneficiary, candidate or for) says which; a Device need not
    what is changed or removed is found by a condition that names the patient, since of an id alone nobody knows whose it is
    nothing is read within a Bundle: its answers are those of the destination, which may have what others sent
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from adapters.fhir.entries import Request
from adapters.fhir.outcome import NotAllowed
from adapters.fhir.parameters import PARAMETERS

_LINKS: Final = frozenset({"subject", "patient", "individual"})
_UNSEARCHED: Final = {
    **dict.fromkeys(["Basic", "Contract", "DeviceUseStatement", "GuidanceResponse"], "subject"),
    **dict.fromkeys(["BodyStructure", "CoverageEligibilityRequest", "CoverageEligibilityResponse", "MolecularSequence"], "patient"),
    **{"Coverage": "beneficiary", "EnrollmentRequest": "candidate", "SupplyDelivery": "patient", "Task": "for"},
}
"""The links that no search parameter of adapters.fhir.parameters reads."""
_OF_REFERENCE: Final = frozenset({"reference", "type", "identifier", "display", "id", "extension"})
"""R4 2.3.0; by these, and no others, a Reference is told from what else has an identifier."""
_LOCAL: Final = ("urn:uuid:", "urn:oid:")
_OTHER: Final = "this names a patient that is not the party's own"


def check_belonging(requests: Sequence[Request], own: frozenset[str], *, ids_count: bool = False) -> None:
    """Raises NotAllowed with the place of the first that is not of an own patient. `ids_count`: resources are known by their ids as
    they are (those of a message), which a create would replace."""
    patients = {one.full_url for one in requests if one.full_url.startswith(_LOCAL) and one.resource_type == "Patient" and one.resource}
    patients.difference_update([one.full_url for one in requests if one.resource_type != "Patient"])
    for request in requests:
        found = _Belonging(request.location, own, patients)
        found.check(request)
        if ids_count or request.method == "PUT":
            found.check_id(request)


class _Belonging:
    """One request; `patients` are the fullUrls of the Bundle's own Patients, which are checked as requests themselves."""

    def __init__(self, location: str, own: frozenset[str], patients: set[str]) -> None:
        self._location, self._own, self._patients = location, own, patients
        self._systems = frozenset(one.rpartition("|")[0] for one in own if "|" in one)

    def check(self, request: Request) -> None:
        if request.method == "GET":
            raise self._refusal("a party with patients of its own reads nothing within a Bundle")
        for condition in (request.condition, request.if_none_exist):
            if condition is not None and not self._names_own(request.resource_type, condition.removeprefix("?")):
                raise self._refusal("a condition names an own patient, in patient, subject or a Patient's identifier")
        if request.resource_id and f"{request.resource_type}/{request.resource_id}" not in self._own:
            raise self._refusal("whose resource this id is cannot be told; find it by a condition that names the patient")
        if request.resource is not None:
            self._check_resource(request.resource, "resource", named=bool(request.resource_id))
            self._check_link(request.resource)

    def check_id(self, request: Request) -> None:
        """A Patient that is known by its id, or is made under it where a condition finds nothing, is none but an own one."""
        given = (request.resource or {}).get("id")
        local = given is None or request.full_url in [f"{scheme}{given}" for scheme in _LOCAL]
        if request.resource_type == "Patient" and not local and f"Patient/{given}" not in self._own:
            raise self._refusal(_OTHER, "resource.id")

    def _names_own(self, resource_type: str, condition: str) -> bool:
        pairs = parse_qsl(condition, keep_blank_values=True)
        if resource_type == "Patient":
            named = [value if name == "identifier" else f"Patient/{value}" for name, value in pairs if name in ("identifier", "_id")]
        elif _link_of(resource_type) is None:
            return False  # who does not know the parameter may leave it out
        else:
            named = [value if "/" in value else f"Patient/{value}" for name, value in pairs if name in ("patient", "subject")]
        return any(value in self._own for value in named)

    # --- resources -------------------------------------------------------------------------------

    def _check_resource(self, node: Any, path: str, *, named: bool) -> None:
        """`named`: an own id stands in its url already."""
        for place, found in _walk(node, path):
            if found.get("resourceType") == "Patient" and not self._is_own_patient(found, named=named and found is node):
                raise self._refusal("a Patient has an identifier, and only those of the party's own patients", place)
            if self._is_foreign(found):
                raise self._refusal(_OTHER, place)

    def _is_foreign(self, found: Mapping[str, Any]) -> bool:
        """Whether it is a Reference (R4 2.3.0) that names, or looks for, a patient that is not an own one."""
        reference = found.get("reference")
        if isinstance(reference, str):
            named = _target(reference) == "Patient" and not self._is_own_reference(reference)
            if named or self._looks_for_others(reference):
                return True
        identifier = found.get("identifier")
        return identifier is not None and self._may_be_patient(found, identifier) and not self._is_own_identifier(identifier)

    def _looks_for_others(self, reference: str) -> bool:
        """A conditional reference is a question: whether there is one of that patient."""
        path, asked, condition = reference.partition("?")
        name = path.rpartition("/")[2]
        return bool(asked) and _link_of(name) is not None and not self._names_own(name, condition)

    def _may_be_patient(self, found: Mapping[str, Any], identifier: Any) -> bool:
        """Where the type is not said the system of the identifier tells."""
        if found.get("type") is not None:
            return str(found["type"]).rpartition("/")[2] == "Patient"
        return _OF_REFERENCE.issuperset(found) and isinstance(identifier, dict) and identifier.get("system") in self._systems

    def _check_link(self, resource: Mapping[str, Any]) -> None:
        """It says of whom it is."""
        kind = resource["resourceType"]
        link = _link_of(kind)
        if link is None or (kind == "Device" and link not in resource):
            return
        said = resource.get(link)
        several = said if isinstance(said, list) and said else [said]
        if not all(isinstance(one, dict) and self._is_own_link(one, resource) for one in several):
            raise self._refusal("this does not say of which own patient it is", f"resource.{link}")

    def _is_own_link(self, said: Mapping[str, Any], resource: Mapping[str, Any]) -> bool:
        """A contained Patient has been looked at already."""
        reference = said.get("reference")
        if reference is None:
            return self._is_own_identifier(said.get("identifier"))
        if not isinstance(reference, str) or ("identifier" in said and not self._is_own_identifier(said["identifier"])):
            return False
        if reference.startswith("#"):
            contained = resource.get("contained")
            inside = [one for one in contained if isinstance(one, dict)] if isinstance(contained, list) else []
            return [one.get("resourceType") for one in inside if one.get("id") == reference[1:]] == ["Patient"]
        return self._is_own_reference(reference)

    def _is_own_reference(self, reference: str) -> bool:
        if reference in self._patients or reference.partition("/_history/")[0] in self._own:
            return True
        name, asked, condition = reference.partition("?")
        return bool(asked) and name == "Patient" and self._names_own("Patient", condition)

    def _is_own_patient(self, patient: Mapping[str, Any], *, named: bool) -> bool:
        identifiers = patient.get("identifier", [])
        return isinstance(identifiers, list) and all(map(self._is_own_identifier, identifiers)) and (bool(identifiers) or named)

    def _is_own_identifier(self, identifier: Any) -> bool:
        return isinstance(identifier, dict) and f"{identifier.get('system', '')}|{identifier.get('value', '')}" in self._own

    def _refusal(self, text: str, place: str = "") -> NotAllowed:
        return NotAllowed(text, location=".".join(filter(None, (self._location, place))))


def _link_of(resource_type: str) -> str | None:
    """The element by which a resource says of which patient it is, None where it has none."""
    elements = (parameter.element for parameter in PARAMETERS.get(resource_type, {}).values())
    return next((element for element in elements if element in _LINKS), _UNSEARCHED.get(resource_type))


def _target(reference: str) -> str:
    """The type of what is referred to, "" where the text does not say."""
    return "Patient" if "Patient" in unquote(reference).partition("?")[0].split("/") else ""


def _walk(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object, with its place."""
    waiting = [(path, node)]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, dict):
            yield place, one
            children = ((name if name.isalnum() else "?", value) for name, value in one.items() if isinstance(value, dict | list))
            waiting.extend((f"{place}.{name}", value) for name, value in children)
        elif isinstance(one, list):
            waiting.extend((f"{place}[{index}]", value) for index, value in enumerate(one) if isinstance(value, dict | list))
