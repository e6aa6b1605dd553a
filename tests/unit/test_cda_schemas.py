"""Every document type of WS/T 500: its schema compiles, documents made from it are valid, and each becomes a valid FHIR Bundle."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle
from lxml import etree

from engine import registry
from engine.formats.cda import V3, read
from engine.message import CDA
from tests.support import cda
from tests.support.cda_schemas import FOLDER, Generator, schemas

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the schemas of WS/T 846 are not at hand")
SCHEMAS = [path.stem for path in schemas()]


@cache
def schema(name: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(FOLDER / f"{name}.xsd")))


def faults(name: str, document: bytes) -> list[str]:
    schema(name).validate(etree.fromstring(document))
    return [fault.message for fault in schema(name).error_log]


def test_there_are_as_many_as_the_standard_has() -> None:
    assert [f"C{number:04}" for number in range(1, 54)] == SCHEMAS


@pytest.mark.parametrize("full", [False, True], ids=["least", "most"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_document_of_each_schema_becomes_a_valid_bundle(name: str, full: bool) -> None:
    """The least and the most that the schema allows; every code is known, and who it is about and what it is are there."""
    document = Generator(Path(FOLDER / f"{name}.xsd"), full=full).document()
    assert faults(name, document) == []
    mapper = registry.mapping("cda-to-fhir").compile(None)
    rendition = mapper.map(document)
    bundle = orjson.loads(rendition.body)
    Bundle.model_validate(bundle)
    found = {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}
    assert {"Patient", "DocumentReference", "Composition", "Binary", "Provenance"} <= set(found)
    header = read(document)
    assert found["DocumentReference"]["type"]["coding"][0]["code"] == header.code.code == name
    assert found["DocumentReference"]["type"]["coding"][0]["display"] == header.title
    assert found["Composition"]["title"] == header.title
    assert not full or found["Composition"]["section"]
    assert found["Patient"]["identifier"]
    assert rendition.order_keys
    assert mapper.explain(document)[0] == rendition
    codec = registry.codec(CDA)
    assert codec is not None
    assert codec.decode(document).get("code/@code") == name


def spliced(name: str, sample: bytes) -> bytes:
    """The header that the schema wants, with the sections of a sample."""
    made = etree.fromstring(Generator(FOLDER / f"{name}.xsd", full=False).document())
    own = etree.fromstring(sample)
    path = f"{{{V3}}}component/{{{V3}}}structuredBody"
    body, sections = made.find(path), own.find(path)
    assert body is not None
    assert sections is not None
    body[:] = list(sections)
    return etree.tostring(made)


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("C0002", cda.clinic_record()),
        ("C0004", cda.prescription(total=False)),
        ("C0007", cda.laboratory_report()),
        ("C0020", cda.vital_signs()),
        ("C0053", cda.discharge_summary()),
    ],
)
def test_the_sections_of_our_samples_are_the_schemas(name: str, sample: bytes) -> None:
    assert faults(name, spliced(name, sample)) == []
