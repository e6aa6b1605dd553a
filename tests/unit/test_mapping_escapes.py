"""Escape sequences on their way through the mapping: in the character set and with the delimiters of their own message."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from engine import registry

MAPPER = registry.mapping("hl7v2-to-fhir").compile(None)


def family_name(name: str, charset: str, f: str = "|") -> Any:
    """What becomes of PID-5.1 in a message that declares `charset`; `name` with ``|`` for the field separator `f`."""
    body = (
        f"MSH|^~\\&|HIS|COUNTY|M|C|20261123||ADT^A01^ADT_A01|X1|P|2.5||||||{charset}\rEVN|A01|20261123\rPID|1||P1^^^H^MR||{name}\rPV1|1|I\r"
    ).replace("|", f)
    bundle = orjson.loads(MAPPER.map(body.encode()).body)
    (patient,) = (one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Patient")
    return patient["name"][0]["family"]


@pytest.mark.parametrize(
    ("charset", "escaped"), [("GB 18030-2000", "\\XD6DC\\"), ("UNICODE UTF-8", "\\XE591A8\\"), ("", "\\XE591A8\\"), ("BIG-5", "\\XA950\\")]
)
def test_hex_is_in_the_messages_character_set(charset: str, escaped: str) -> None:
    """HL7 v2.5 clause 2.7.6; in an ASCII message it is taken for UTF-8."""
    assert family_name(f"{escaped}A", charset) == "周A"


def test_the_same_escape_in_another_character_set_is_another_text() -> None:
    """Nothing that was remembered of one message goes into the next."""
    assert [family_name("\\XC4E3\\", charset) for charset in ("GB 18030-2000", "BIG-5", "GB 18030-2000")] == ["你", "斕", "你"]


@pytest.mark.parametrize(("separator", "name"), [("|", r"A\F\B"), ("#", r"A\F\B")])
def test_the_field_separator_is_the_messages_own(separator: str, name: str) -> None:
    assert family_name(name, "", separator) == f"A{separator}B"
