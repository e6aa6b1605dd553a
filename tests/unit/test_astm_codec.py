"""Records of ASTM E1394 / LIS02-A2: delimiters, escapes, addresses."""

from __future__ import annotations

import pytest

from engine.errors import ParseError
from engine.formats.astm import codec, delimiters_of
from tests.support.astm_instrument import content


def test_fields_are_addressed_as_the_standard_numbers_them() -> None:
    message = codec.decode(content())
    assert message.get("H-5") == "cobas^6000"
    assert message.get("H-2") == "\\^&"
    assert message.get("P-6.2") == "小明"
    assert message.get("R-3.4") == "GLU"
    assert message.get("R[2]-3") is None
    assert message.get("O-99") is None


def test_delimiters_are_the_headers() -> None:
    """GeneXpert's, and a three-character declaration without an escape."""
    message = codec.decode(b"H@^\\|@@x\rP@1@@A\\B^C\r")
    assert (message.get("P-4.2"), message.get("P-4[2]")) == ("B", "C")
    assert delimiters_of("H|\\^|x").escape == ""


def test_repetitions_and_escapes() -> None:
    message = codec.decode(b"H|\\^&\rC|1|I|a&F&b&S&c&R&d&E&e&X41&&Z&\\second|G\r")
    assert message.get("C-4") == "a|b^c\\d&eA&Z&"
    assert message.get("C-4[2]") == "second"


def test_a_trail_byte_that_equals_a_delimiter_is_none() -> None:
    """GB18030: 倈 ends in the byte of |, 俕 in that of \\."""
    message = codec.decode_with("H|\\^&\rP|1|||倈俕^乗\r".encode("gb18030"), "gb18030")
    assert (message.get("P-5.1"), message.get("P-5.2")) == ("倈俕", "乗")


@pytest.mark.parametrize("body", [b"", b"P|1\r", b"H\r", b"H||||\r", b"Habcd\r", b"H|\\^&\rX|1\r"])
def test_what_is_no_message_is_refused_with_its_place(body: bytes) -> None:
    with pytest.raises(ParseError) as found:
        codec.decode(body)
    assert found.value.location


def test_bytes_of_another_character_set_are_refused_without_showing_them() -> None:
    with pytest.raises(ParseError, match="utf-8"):
        codec.decode(b"H|\\^&\rP|1|||\xcd\xf5\r")


@pytest.mark.parametrize("path", ["PID-3", "R", "R-0", "R3", "X-1", "R-3.4.5"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="R"):
        codec.check_path(path)
