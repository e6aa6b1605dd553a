"""The header of a clinical document, paths into it, and whether it is what its envelope says."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import registry
from engine.errors import ParseError, UnsupportedError
from engine.formats.cda import Claimed, Code, Id, Related, cross_check, read
from engine.formats.xml import Limits
from engine.message import CDA, Excerpt
from tests.support import cda

CCD = cda.continuity_of_care()
SUMMARY = cda.discharge_summary()


def test_the_header_as_the_standard_writes_it() -> None:
    """C-CDA: identifiers and versions are attributes, names have parts."""
    header = read(CCD)
    assert header.id == Id("11110000-aaaa-4bbb-8ccc-000000000001")
    assert (header.code.code, header.code.system) == ("34133-9", "2.16.840.1.113883.6.1")
    assert (header.title, header.effective_time, header.language) == ("Continuity of Care Document", "20260314092653-0500", "en-US")
    assert (header.set_id, header.version) == (Id("1.2.3.4.5", "S-1"), "1")
    assert header.patient_ids == (Id("2.16.840.1.113883.19.5.99", "MRN-77"),)
    assert (header.patient_name, header.patient_gender.code, header.patient_birth) == ("Ada M Bell", "F", "19700501")
    assert header.confidentiality == Code("N", "2.16.840.1.113883.5.25")
    assert [one.person.name for one in header.authors] == ["Dr Iris Cole", "Scribe 4"]
    assert header.authors[0].organization.name == header.custodian.name == "Good Clinic"
    assert header.encounter is not None
    assert (header.encounter.ids, header.encounter.start, header.encounter.end) == (
        (Id("1.2.3.4.5.6", "V-9"),), "202603140900-0500", "202603140930-0500",
    )  # fmt: skip
    assert header.template_ids[1] == Id("2.16.840.1.113883.10.20.22.1.2", "2015-08-01")


def test_the_header_as_the_national_documents_write_it() -> None:
    """WS/T 500: set, version and the replaced document are texts of their elements."""
    header = read(SUMMARY)
    assert header.id == Id("2.16.156.10011.1.1", "D0000000000000000000000000000C0053")
    assert (header.set_id, header.version) == (Id("", "SET-0C0053"), "2")
    assert header.related == (Related("RPLC", Id("", "D0000000000000000000000000000C0052")),)
    assert header.patient_ids == (Id("2.16.156.10011.1.12", "ZY0000123"), Id("2.16.156.10011.1.3", "110101198001011232"))
    assert header.custodian.ids == (Id("2.16.156.10011.1.5", "12110000400686421X"),)


def test_a_body_that_is_no_xml_is_told() -> None:
    body = read(cda.scanned()).non_xml_body
    assert body is not None
    assert body.media_type == "application/pdf"
    assert read(CCD).non_xml_body is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("code/@code", "34133-9"),
        ("title", "Continuity of Care Document"),
        ("recordTarget/patientRole/patient/name/given[2]", "M"),
        ("recordTarget/patientRole/id[2]/@nullFlavor", "NI"),
        ("component/structuredBody/component[2]/section/title", "Medications"),
        ("recordTarget/patientRole/id[3]/@root", None),
        ("title/@missing", None),
        ("missing/code/@code", None),
    ],
)
def test_channels_read_it_by_path(path: str, text: str | None) -> None:
    codec = registry.codec(CDA)
    assert codec is not None
    codec.check_path(path)
    assert codec.decode(CCD).get(path) == text


@pytest.mark.parametrize("path", ["", "/code", "code/@", "code[0]", "code//@code", "@code/code", "a b"])
def test_what_can_never_be_a_path_is_refused(path: str) -> None:
    codec = registry.codec(CDA)
    assert codec is not None
    with pytest.raises(ValueError, match="is not a path"):
        codec.check_path(path)


def test_other_xml_is_no_document() -> None:
    with pytest.raises(UnsupportedError) as told:
        read(b"<Bundle/>")
    assert told.value.hl7_code == "200"


def test_a_document_is_bounded(tmp_path: Path) -> None:
    """By size before it is read from its file; by depth and elements while it is parsed."""
    deep = b"<ClinicalDocument>" + b"<section>" * 120 + b"</section>" * 120 + b"</ClinicalDocument>"
    with pytest.raises(ParseError, match="nested deeper"):
        read(deep)
    with pytest.raises(ParseError, match="more than 10 elements"):
        read(CCD, Limits(elements=10))
    whole = tmp_path / "body"
    whole.write_bytes(CCD)
    assert read(Excerpt(CCD[:100], "d", whole)).title == "Continuity of Care Document"
    with pytest.raises(ParseError, match="more than 1000 bytes"):
        read(Excerpt(CCD[:100], "d", whole), Limits(size=1000))


def fields(claimed: Claimed, document: bytes = CCD) -> list[str]:
    return [one.field for one in cross_check(read(document), claimed)]


def test_an_envelope_that_says_nothing_contradicts_nothing() -> None:
    assert fields(Claimed()) == []


@pytest.mark.parametrize(
    ("claimed", "same"),
    [
        (Id("11110000-aaaa-4bbb-8ccc-000000000001"), True),
        (Id("", "11110000-AAAA-4BBB-8CCC-000000000001"), True),
        (Id("", "urn:uuid:11110000-aaaa-4bbb-8ccc-000000000001"), True),
        (Id("11110000-aaaa-4bbb-8ccc-000000000001", "1"), False),
        (Id("11110000-aaaa-4bbb-8ccc-000000000002"), False),
    ],
)
def test_the_id_is_the_documents(claimed: Id, same: bool) -> None:
    assert fields(Claimed(id=claimed)) == ([] if same else ["id"])


def test_an_id_without_its_root_is_compared_by_its_extension() -> None:
    assert fields(Claimed(id=Id("", "D0000000000000000000000000000C0053")), SUMMARY) == []
    assert fields(Claimed(id=Id("", "D0000000000000000000000000000C0052")), SUMMARY) == ["id"]


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ((Id("2.16.840.1.113883.19.5.99", "MRN-77"),), []),
        ((Id("", "mrn-77"),), []),
        ((Id("1.2.3", "X"), Id("2.16.840.1.113883.19.5.99", "MRN-77")), []),
        ((Id("2.16.840.1.113883.19.5.99", "MRN-78"),), ["patient"]),
        ((Id("", "MRN-78"),), ["patient"]),
        ((Id("1.2.3", "MRN-77"),), ["patient-unproven"]),
    ],
)
def test_the_patient_is_the_documents(ids: tuple[Id, ...], found: list[str]) -> None:
    assert fields(Claimed(patient_ids=ids)) == found


def test_one_number_that_differs_outweighs_one_that_agrees() -> None:
    """Same inpatient number, another identity card: one of them is wrong, and nobody knows which."""
    ids = (Id("2.16.156.10011.1.12", "ZY0000123"), Id("2.16.156.10011.1.3", "110101199001011234"))
    found = cross_check(read(SUMMARY), Claimed(patient_ids=ids))
    assert [(one.field, one.grave) for one in found] == [("patient", True)]


@pytest.mark.parametrize(
    ("time", "same"),
    [
        ("20260314092653-0500", True),
        ("20260314142653+0000", True),
        ("202603141426+0000", True),
        ("20260314", True),
        ("20260314092653", True),
        ("20260314152653+0000", False),
        ("20260316", False),
        ("2025", False),
        ("20261399", False),
        ("yesterday", False),
    ],
)
def test_the_time_is_the_documents_to_the_precision_of_both(time: str, same: bool) -> None:
    assert fields(Claimed(time=time)) == ([] if same else ["time"])


def test_type_and_title() -> None:
    assert fields(Claimed(type=Code("34133-9"), title="Continuity  of\nCare Document")) == []
    assert fields(Claimed(type=Code("34133-9", "2.16.840.1.113883.6.1"))) == []
    assert fields(Claimed(type=Code("34133-9", "1.2.3"), title="Discharge")) == ["type", "title"]
