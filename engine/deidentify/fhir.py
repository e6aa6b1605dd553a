"""FHIR R4 resources, element by element by a table (tables/fhir.csv). A string that no row names is free text.

Identifiers, references and the ids of resources are replaced wherever they stand (in conditional references and requests too), so that what
belonged together still does; a reference keeps no display, a code keeps its own. Narrative, content of attachments and extensions that
hold text go.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from engine.deidentify import policy as p
from engine.deidentify.dates import shifted_iso
from engine.deidentify.policy import Person, Policy
from engine.deidentify.traces import REMOVED, Traces
from engine.errors import Quarantined
from engine.formats import fhir

Body = dict[str, Any]
_KEPT_BY: Final = {"organisation": p.INSTITUTION, "device": p.DEVICE, "characteristic": p.CHARACTERISTICS}
_NO_DATE: Final = "1900-01-01T00:00:00Z"
_DICOM_UID: Final = "urn:dicom:uid"
_URIS: Final = "urn:ietf:rfc:3986"
_TYPED: Final = re.compile(r"((?:https?://[^?#]*/)?)([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]*)?")
_SUBJECTS: Final = ("subject", "patient", "beneficiary", "for", "individual")
_OPEN_VALUES: Final = frozenset(
    f"value{kind}"
    for kind in (
        *("String", "Markdown", "Uri", "Url", "Id", "Oid", "Uuid", "Base64Binary"),
        *("HumanName", "Address", "ContactPoint", "Attachment", "Annotation", "Signature"),
    )
)
_NUMBERS: Final = re.compile(r"[\d.\sEULeul+-]*")
_CLOCK: Final = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?")
_NOT_OF_PATIENTS: Final = frozenset(
    (
        *("Bundle", "MessageHeader", "Provenance", "Organization", "Practitioner"),
        *("PractitionerRole", "Location", "HealthcareService", "Endpoint", "Device"),
    )
)
_OF_PERSONS: Final = ("Patient", "RelatedPerson", "Person")


@cache
def table() -> dict[str, str]:
    """Type.element, or element, -> rule."""
    text = files("engine.deidentify").joinpath("tables/fhir.csv").read_text(encoding="utf-8")
    return {row["element"]: row["rule"] for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))}


def deidentify(body: bytes, policy: Policy) -> bytes:
    """A resource as it may leave. Raises ParseError, and Quarantined where it still holds what identifies a patient."""
    resource = fhir.parse(body)
    if "resourceType" not in resource:
        raise Quarantined("this is no FHIR resource: it has no resourceType")
    traces = _gather(resource)
    cleaned = _Cleaner(policy, traces, resource).resource(resource)
    for path, text in _strings(cleaned, ""):
        if traces.within(text):
            raise Quarantined("the result still holds what identifies the patient", location=path)
    return fhir.dump(cleaned)


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _strings(inner, f"{path}[{number}]")
    elif isinstance(value, str):
        yield path, value


def _resources(value: Any) -> Iterator[Body]:
    """Every resource, in bundles and contained."""
    if isinstance(value, dict):
        if "resourceType" in value:
            yield value
        for inner in value.values():
            yield from _resources(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _resources(inner)


def _listed(value: Any) -> list[Body]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _words(value: Any) -> list[str]:
    return [text for _, text in _strings(value, "")]


# --- who it is about -----------------------------------------------------------------------------


def _gather(resource: Body) -> Traces:
    traces = Traces()
    for one in _resources(resource):
        if one["resourceType"] in _OF_PERSONS:
            _gather_person(one, traces)
        if one["resourceType"] not in _NOT_OF_PATIENTS:
            for identifier in _identifiers(one):
                traces.identifier(str(identifier.get("value", "")))
    return traces


def _gather_person(person: Body, traces: Traces) -> None:
    for holder in (person, *_listed(person.get("contact"))):
        for name in _listed(holder.get("name")):
            given = name.get("given")
            traces.name(str(name.get("family", "")), *(str(one) for one in given if one) if isinstance(given, list) else ())
            traces.name(str(name.get("text", "")))
        for telecom in _listed(holder.get("telecom")):
            traces.telephone(str(telecom.get("value", "")))
        for address in _listed(holder.get("address")):
            traces.address(*(text for name in ("line", "text", "city") for text in _words(address.get(name))))
    if person["resourceType"] == "Patient":
        traces.date(str(person.get("birthDate", "")))
        traces.identifier(str(person.get("id", "")))


def _identifiers(value: Any) -> Iterator[Body]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if table().get(name) == "identifier":
                yield from _listed(inner)
            elif name != "resource" or "resourceType" not in value:
                yield from _identifiers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _identifiers(inner)


class _Cleaner:
    """For one resource, with what it holds."""

    def __init__(self, policy: Policy, traces: Traces, resource: Body) -> None:
        self._policy, self._traces = policy, traces
        self._nobody = policy.person("", "")
        self._persons: dict[str, Person] = {}
        patients = [self._know(one) for one in _resources(resource) if one["resourceType"] == "Patient"]
        for entry in _listed(resource.get("entry")):
            patient = entry.get("resource")
            if isinstance(patient, dict) and patient.get("resourceType") == "Patient":
                self._persons[str(entry.get("fullUrl", ""))] = self._by_identifier(patient)
        self._only = patients[0] if len(patients) == 1 else self._nobody
        self._several = len(patients) > 1
        self._person = self._only

    def _know(self, patient: Body) -> Person:
        person = self._by_identifier(patient)
        self._persons[f"Patient/{patient.get('id', '')}"] = self._persons[f"#{patient.get('id', '')}"] = person
        return person

    def _by_identifier(self, patient: Body) -> Person:
        for identifier in _listed(patient.get("identifier")):
            if value := str(identifier.get("value", "")).strip():
                return self._policy.person(self._policy.authorities.of_uri(str(identifier.get("system", ""))), value)
        return self._nobody

    def _person_of(self, resource: Body) -> Person:
        """Whom a resource is about: whose dates move with which others."""
        if resource["resourceType"] == "Patient":
            return self._by_identifier(resource)
        for name in _SUBJECTS:
            for reference in _listed(resource.get(name)):
                if person := self._referred(reference):
                    return person
        return self._nobody if self._several else self._only

    def _referred(self, reference: Body) -> Person | None:
        text = str(reference.get("reference", ""))
        if text in self._persons:
            return self._persons[text]
        kind, _, query = text.partition("?")
        system, bar, value = dict(parse_qsl(query)).get("identifier", "").rpartition("|")
        if kind == "Patient" and bar:
            return self._policy.person(self._policy.authorities.of_uri(system), value)
        if found := _TYPED.fullmatch(text):
            known = self._persons.get(f"{found[2]}/{found[3]}")
            return known or (self._policy.person(self._policy.authorities.of_uri(""), found[3]) if found[2] == "Patient" else None)
        return self._by_identifier({"identifier": reference["identifier"]}) if "identifier" in reference and not text else None

    # --- resources and elements ------------------------------------------------------------------

    def resource(self, resource: Body) -> Body:
        """Dates inside follow the patient that the resource is about."""
        kind = str(resource["resourceType"])
        if kind == "Binary":
            raise Quarantined("a Binary cannot be de-identified", location="Binary")
        before, self._person = self._person, self._person_of(resource)
        try:
            return self._object(resource, kind)
        finally:
            self._person = before

    def _contained(self, resource: Body) -> Body:
        """It is called by ``#id`` and not by its type."""
        made = self.resource(resource)
        return {**made, "id": self._uri(f"#{resource['id']}")[1:]} if "id" in resource else made

    def _object(self, value: Body, kind: str) -> Body:
        """An object of a resource type, or "" where it is an element of one."""
        out: Body = {}
        contained = "resourceType" not in value
        for name, inner in value.items():
            bare = name.removeprefix("_")
            rule = table().get(f"{kind}.{bare}") or table().get(bare, "")
            if name == "id" and not contained:
                rule = "resource id"
            made = self._element(inner, bare, rule, kind if not contained else "", name != bare)
            if made is not None and made not in ({}, []):
                out[name] = self._id(kind, inner) if rule == "resource id" else made
        return out

    def _element(self, value: Any, name: str, rule: str, kind: str, shadow: bool) -> Any:
        """What stands for an element's value, None where nothing does. `shadow`: what a primitive has beside its value (``_birthDate``)."""
        if rule == "remove" or (rule in _KEPT_BY and not self._policy.retains(_KEPT_BY[rule])):
            return None
        if name in ("extension", "modifierExtension"):
            return [made for one in _listed(value) if (made := self._extension(one)) is not None]
        if shadow:
            return self._shadow(value)
        if isinstance(value, list):
            each = [self._element(one, name, rule, kind, False) for one in value]
            return each[:1] if rule == "patient name" else [one for one in each if one is not None and one != {}]
        if rule == "patient name":
            return {"family": self._person.pseudonym} if self._person.pseudonym else None
        if isinstance(value, dict):
            return self._nested(value, name, rule)
        return self._string(value, name, rule) if isinstance(value, str) else value

    def _nested(self, value: Body, name: str, rule: str) -> Any:
        if "resourceType" in value:
            return self._contained(value) if name == "contained" else self.resource(value)
        if rule == "identifier":
            return self._identifier(value)
        if rule == "attachment":
            return {key: value[key] for key in ("contentType", "language") if key in value} or {"contentType": "application/octet-stream"}
        if name == "request" and "method" in value:
            return self._request(value)
        if name == "response" and "status" in value:
            return {"status": value["status"]}
        if value and (isinstance(value.get("reference"), str) or (value.keys() <= _REFERENCE and value.keys() & {"identifier", "display"})):
            return self._reference(value)
        if {"family", "given"} & value.keys():
            return None
        if isinstance(value.get("coding"), list) or (set(value) <= {"text", "id", "extension"} and "text" in value):
            return self._concept(value)
        if "div" in value:
            return None
        return self._object(value, _NESTED.get(name, ""))

    def _shadow(self, value: Any) -> Any:
        made = [self._object(one, "") if isinstance(one, dict) else None for one in (value if isinstance(value, list) else [value])]
        if not any(made):
            return None
        return made if isinstance(value, list) else made[0]

    def _extension(self, value: Body) -> Body | None:
        if _OPEN_VALUES & value.keys():
            return None
        made: Body = {"url": value.get("url"), **self._object({name: one for name, one in value.items() if name != "url"}, "")}
        return made if len(made) > 1 else None

    # --- kinds of values -------------------------------------------------------------------------

    def _string(self, text: str, name: str, rule: str) -> str | None:
        match rule:
            case "keep" | "organisation" | "device" | "characteristic" | "resource id":
                return text
            case "date" | "stamp":
                return self._date(text) or (_NO_DATE if rule == "stamp" else None)
            case "uid":
                return text if self._policy.retains(p.UIDS) else self._policy.pseudonyms.uid(text)
            case "id":
                return None
            case "url":
                return text if self._policy.retains(p.INSTITUTION) else "urn:removed"
            case "required text":
                return self._traces.cleaned(text) if self._policy.retains(p.DESCRIPTORS) else REMOVED
        if name == "fullUrl":
            return self._uri(text)
        if name == "data" and _NUMBERS.fullmatch(text):
            return text
        return self._traces.cleaned(text) if self._policy.retains(p.DESCRIPTORS) else None

    def _date(self, text: str) -> str:
        if _CLOCK.fullmatch(text) or not re.match(r"\d{4}", text):  # a time of day; a code, where one is allowed in its place
            return text if len(text) < 32 else ""
        return self._person.date(text, shifted_iso)

    def _identifier(self, value: Body) -> Body | None:
        if not value.get("value"):
            return None
        out = self._object({name: value[name] for name in ("use", "type", "period") if name in value}, "")
        system = value.get("system")
        return {**out, **({"system": system} if system else {}), "value": self._value(str(system or ""), str(value["value"]))}

    def _value(self, system: str, value: str) -> str:
        """An identifier's value. A UID is one in DICOM too, so it becomes what it becomes there."""
        if system in (_DICOM_UID, _URIS):
            return self._uri(value)
        return self._policy.pseudonyms.identifier(self._policy.authorities.of_uri(system), value)

    def _uri(self, uri: str) -> str:
        """A reference, an address of a resource, a URN."""
        pseudonyms = self._policy.pseudonyms
        if uri.startswith("#"):
            return f"#{pseudonyms.uuid(uri)}"
        if uri.startswith("urn:uuid:"):
            return f"urn:uuid:{pseudonyms.uuid(uri[9:].lower())}"
        if uri.startswith("urn:oid:"):
            return uri if self._policy.retains(p.UIDS) else f"urn:oid:{pseudonyms.uid(uri[8:])}"
        if "?" in uri:
            kind, _, query = uri.partition("?")
            return f"{kind}?{self._query(query)}"
        if found := _TYPED.fullmatch(uri):
            return f"{found[1]}{found[2]}/{self._id(found[2], found[3])}"
        return "urn:removed"

    def _id(self, kind: str, name: Any) -> str:
        return self._policy.pseudonyms.uuid(f"{kind}/{name}")

    def _query(self, query: str) -> str:
        made = []
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name != "identifier":
                raise Quarantined("a conditional reference or request searches for other than an identifier", location="request")
            system, bar, word = value.rpartition("|")
            made.append((name, f"{system}{bar}{self._value(system, word)}"))
        return urlencode(made, safe="|:/")

    def _reference(self, value: Body) -> Body:
        out: Body = {name: value[name] for name in ("type",) if name in value}
        if isinstance(value.get("reference"), str):
            out["reference"] = self._uri(value["reference"])
        if isinstance(value.get("identifier"), dict) and (identifier := self._identifier(value["identifier"])):
            out["identifier"] = identifier
        return out if out.keys() - {"type"} else {**out, "display": REMOVED}

    def _request(self, value: Body) -> Body:
        out: Body = {"method": value["method"]}
        if url := value.get("url"):
            out["url"] = self._uri(url) if "/" in url or "?" in url else url
        if query := value.get("ifNoneExist"):
            out["ifNoneExist"] = self._query(query)
        return out

    def _concept(self, value: Body) -> Body | None:
        """A CodeableConcept: codes stay with their own words; words alone are free text."""
        codings = [made for one in _listed(value.get("coding")) if (made := self._coding(one))]
        if codings:
            return {"coding": codings}
        text = str(value.get("text", ""))
        return {"text": self._traces.cleaned(text) if self._policy.retains(p.DESCRIPTORS) else REMOVED} if text else None

    def _coding(self, value: Body) -> Body:
        return (
            {name: value[name] for name in ("system", "version", "code", "display", "userSelected") if name in value}
            if "code" in value
            else {}
        )


_REFERENCE: Final = frozenset(("reference", "identifier", "display", "type", "id", "extension"))
_NESTED: Final = {"meta": "Meta"}
