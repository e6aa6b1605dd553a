"""Strict validation: hl7apy's verdicts as ours, its faults mended, no payload in what is said."""

import pytest

from engine.errors import ParseError, ValidationError
from engine.formats.hl7v2.conformance import validate


def message(kind: str, *segments: str, version: str = "2.5", msh2: str = "^~\\&") -> bytes:
    return "\r".join([f"MSH|{msh2}|A|B|C|D|20260101||{kind}|1|P|{version}", *segments, ""]).encode()


ORU = ["PID|||1^^^H||Doe^J", "OBR|1|||CBC", "OBX|1|NM|WBC||7.5||||||F"]


@pytest.mark.parametrize(
    "body",
    [
        message("ORU^R01^ORU_R01", *ORU),
        message("ORU^R01^ORU_R01", *ORU, "ZXX|anything"),
        message(
            "ORU^R01^ORU_R01",
            *ORU,
            'OBX|2|NM|WBC||""||||||F',
            "OBX|3|NM|WBC||-.5~+10.0||||||F",
            "OBX|4|DT|D||202601||||||F",
            "OBX|5|ST|D||x||||||F",
        ),
        message("ORU^R01^ORU_R01", *ORU, msh2="^~\\&#"),
        message("ADT^A08", "EVN||20260101", "PID|||1^^^H||Doe^J", "PV1||I"),
        message("ADT^A40^ADT_A39", "EVN||20260101", "PID|||1^^^H||Doe^J", "MRG|2"),
        message("ADT^A24^ADT_A24", "EVN||20260101", "PID|||1^^^H||Doe^J", "PID|||2^^^H||Doe^J"),
        message("ADT^A34", "EVN|A34|20260101", "PID|||1^^^H||Doe^J", "MRG|2", version="2.3"),
        message("ORM^O01^ORM_O01", "PID|||1^^^H||Doe^J", "ORC|NW", "OBR|1|||CBC"),
    ],
)
def test_what_the_standard_allows_passes(body: bytes) -> None:
    """Groups, Z segments, a truncation character, an event without structure, a choice, a segment that stands twice in a structure."""
    validate(body)


@pytest.mark.parametrize(
    ("body", "location", "code"),
    [
        (message("ADT^A01^ADT_A01", "EVN||20260101", "PID|1||||Doe^J", "PV1||I"), "PID-3", "101"),
        (message("ADT^A01^ADT_A01", "EVN||20260101", "PID|||1^^^H||Doe^J"), "PV1", "101"),
        (message("ORU^R01^ORU_R01", *ORU[:2], "OBX|1|NM|WBC||SECRET||||||F"), "OBX[1]-5", "102"),
        (message("ORU^R01^ORU_R01", *ORU, "OBX|2|TX|N||x||||SECRET||F"), "OBX[2]-9", "102"),
        (message("ORU^R01^ORU_R01", *ORU[:2], "OBX|1|DT|WBC||20261||||||F"), "OBX[1]-5", "102"),
        (message("ORU^R01^ORU_R01", ORU[0], "ACC|20260101", *ORU[1:]), "ACC", "100"),
        (message("ORU^R01^ORU_R01", *ORU, version="2.9"), "MSH-12", "203"),
        (message("XYZ^Q99^XYZ_Q99", *ORU), "MSH-9", "200"),
        (message("ORU^R01^ORU_R01", "PID|||1^^^H||Doe^J^^^^^^SECRET&x", *ORU[1:]), "PID[1]-5", "100"),
    ],
)
def test_what_does_not_conform_is_told_with_place_and_code(body: bytes, location: str, code: str) -> None:
    """Location and table 0357 code for the ERR segment; no value in the text."""
    with pytest.raises(ValidationError) as caught:
        validate(body)
    assert (caught.value.location, caught.value.hl7_code) == (location, code)
    assert "SECRET" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_tolerant_lets_unknown_elements_pass() -> None:
    """Where strict refuses a segment that the structure does not have."""
    body = message("ORU^R01^ORU_R01", *ORU, "ACC|20260101")
    with pytest.raises(ValidationError):
        validate(body)
    validate(body, level="tolerant")


def test_what_cannot_be_read_is_a_parse_error() -> None:
    """Before any validation; the channel's character set is used."""
    body = message("ORU^R01^ORU_R01", "PID|||1^^^H||张^三", *ORU[1:]).decode().encode("gb18030")
    with pytest.raises(ParseError):
        validate(body)
    validate(body, charset="GB 18030-2000")
