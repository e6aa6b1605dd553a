"""Whose resources are: a party with patients of its own sends of them and of nobody else. Pure.

`own` are ``Patient/ID`` and ``SYSTEM|VALUE`` of identifiers. What a request says is compared with them and with nothing else, so that it
holds whatever the repository, or another server behind this one, has in store:

    a reference to a Patient, however deep, is to one of them: by its id, by identifier, or to an own Patient of the same Bundle
    a Patient has no other identifiers, and no other id
    a resource that is about a patient (R4 gives it a subject or patient) says which; a Device need not
    what is changed or removed is found by a condition that names the patient, since of an id alone nobody knows whose it is
    nothing is read
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from adapters.fhir.entries import Request
from adapters.fhir.outcome import NotAllowed
from adapters.fhir.parameters import PARAMETERS

_LINKS: Final = frozenset({"subject", "patient", "individual"})
_OTHER: Final = "this names a patient that is not the party's own"


def check_belonging(requests: Sequence[Request], own: frozenset[str]) -> None:
    """Raises NotAllowed with the place of the first that is not of an own patient."""
    patients = {one.full_url for one in requests if one.full_url and one.resource_type == "Patient" and one.resource is not None}
    for request in requests:
        _Belonging(request.location, own, patients).check(request)


class _Belonging:
    """One request; `patients` are the fullUrls of the Bundle's own Patients, which are checked as requests themselves."""

    def __init__(self, location: str, own: frozenset[str], patients: set[str]) -> None:
        self._location, self._own, self._patients = location, own, patients

    def check(self, request: Request) -> None:
        if request.method == "GET":
            raise self._refusal("a party with patients of its own does not read")
        for condition in (request.condition, request.if_none_exist):
            if condition is not None and not self._names_own(request.resource_type, condition.removeprefix("?")):
                raise self._refusal("a condition names an own patient, in patient, subject or a Patient's identifier")
        if request.resource_id and not self._is_own_id(request):
            raise self._refusal("whose resource this id is cannot be told; find it by a condition that names the patient")
        if request.resource is not None:
            self._check_resource(request.resource, "resource", named=bool(request.resource_id))
            self._check_link(request.resource)

    def _is_own_id(self, request: Request) -> bool:
        if request.resource_type == "Patient":
            return f"Patient/{request.resource_id}" in self._own
        return _link_of(request.resource_type) is None

    def _names_own(self, resource_type: str, condition: str) -> bool:
        pairs = parse_qsl(condition, keep_blank_values=True)
        if resource_type == "Patient":
            named = [value if name == "identifier" else f"Patient/{value}" for name, value in pairs if name in ("identifier", "_id")]
        else:
            named = [value if "/" in value else f"Patient/{value}" for name, value in pairs if name in ("patient", "subject")]
        return any(value in self._own for value in named)

    # --- resources -------------------------------------------------------------------------------

    def _check_resource(self, node: Any, path: str, *, named: bool) -> None:
        """`named`: an own id stands in its url already."""
        for place, found in _walk(node, path):
            if found.get("resourceType") == "Patient" and not self._is_own_patient(found, named=named and found is node):
                raise self._refusal("a Patient has an identifier, and only those of the party's own patients", place)
            reference = found.get("reference")
            if isinstance(reference, str) and _target(reference) == "Patient" and not self._is_own_reference(reference):
                raise self._refusal(_OTHER, place)
            typed = str(found.get("type", "")).rpartition("/")[2] == "Patient" and "identifier" in found
            if typed and not self._is_own_identifier(found["identifier"]):
                raise self._refusal(_OTHER, place)

    def _check_link(self, resource: Mapping[str, Any]) -> None:
        """It says of whom it is."""
        kind = resource["resourceType"]
        link = _link_of(kind)
        if link is None or (kind == "Device" and link not in resource):
            return
        place, said = f"resource.{link}", resource.get(link)
        if not isinstance(said, dict) or not self._is_own_link(said, resource):
            raise self._refusal("this does not say of which own patient it is", place)

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
    return next((element for element in elements if element in _LINKS), None)


def _target(reference: str) -> str:
    """The type of what is referred to, "" where the text does not say."""
    path = unquote(reference).partition("?")[0].partition("/_history")[0].rstrip("/")
    parts = path.split("/")
    return "Patient" if parts[-1] == "Patient" or parts[-2:-1] == ["Patient"] else ""


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
