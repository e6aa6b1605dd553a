"""Addressing, reading and changing an HL7 v2 message."""

from sys import getrefcount

import pytest

from engine.errors import ParseError
from engine.formats.hl7v2 import NULL, Separators, codec, decode, parse_path, read_header

ORU = (
    b"MSH|^~\\&|LAB^1.2.3^ISO|MAIN|EHR|REF|20260419101500||ORU^R01^ORU_R01|MSG00002|P|2.5.1||||AL||UNICODE UTF-8\r"
    b'PID|1||MRN12345^^^HOSP&1.2&ISO^MR~P2^^^CITY||Doe^John||""|M|\r'
    b"OBX|1|NM|WBC^White^LN||7.5\rOBX|2|TX|N||a\\T\\b\\.br\\c\r\rOBX|3|NM|X"
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-3", "LAB^1.2.3^ISO"),
        ("MSH-3.2", "1.2.3"),
        ("MSH-9.1", "ORU"),
        ("MSH-18", "UNICODE UTF-8"),
        ("PID-3", "MRN12345^^^HOSP&1.2&ISO^MR"),
        ("PID-3.1", "MRN12345"),
        ("PID.3.1", "MRN12345"),
        ("PID-3[1].4", "HOSP&1.2&ISO"),
        ("PID-3.4.1", "HOSP"),
        ("PID-3[1].4.3", "ISO"),
        ("PID-3[2].4.1", "CITY"),
        ("PID-3[2].1", "P2"),
        ("PID[1]-3[2].1", "P2"),
        ("PID-3[3]", None),
        ("PID-3.9", None),
        ("PID-3.2", ""),
        ("PID-4", ""),
        ("PID-4.1", ""),
        ("PID-4.2", None),
        ("PID-7", NULL),
        ("PID-9", ""),
        ("PID-10", None),
        ("PID[2]-3", None),
        ("OBX[2]-5", "a&b\nc"),
        ("OBX[3]-3", "X"),
        ("OBX[4]-1", None),
        ("ZZZ-1", None),
        ("OBX-5.1.1", "7.5"),
    ],
)
def test_a_path_reads_what_the_standard_numbers(path: str, expected: str | None) -> None:
    """Absent is None, empty is "", null is two quotation marks; leaves are unescaped."""
    assert decode(ORU).get(path) == expected


@pytest.mark.parametrize(
    "path", ["", "PID", "pid-3", "PID-0", "PID-3[0]", "PID-3.0", "OBX[0]-5", "PID-3-1", "PID-3.1.1.1", "PIDX-3", "PID-3 ", "PID-³"]
)
def test_an_impossible_path_is_refused(path: str) -> None:
    """ValueError from the message and from the codec that `meridian check` asks."""
    for ask in (parse_path, decode(ORU).get, codec.check_path):
        with pytest.raises(ValueError, match=r"path|counted"):
            ask(path)


def test_segments_by_name_and_in_order() -> None:
    """A blank line is no segment."""
    message = decode(ORU)
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "OBX", "OBX", "OBX"]
    assert [segment.field(1) for segment in message.all("OBX")] == ["1", "2", "3"]
    assert message.first("NTE") is None
    assert message.first("PID") is message.segments[1]


def test_msh_counts_its_separator() -> None:
    """MSH-1 is the field separator and MSH-2 the others; PID-1 is the first field."""
    message = decode(ORU)
    msh, pid = message.segments[:2]
    assert (msh.field(1), msh.field(2), msh.field(4), msh.repetitions(2)) == ("|", "^~\\&", "MAIN", ["^~\\&"])
    assert (pid.field(1), pid.field(99), pid.repetitions(4)) == ("1", "", [])
    assert pid.repetitions(3) == ["MRN12345^^^HOSP&1.2&ISO^MR", "P2^^^CITY"]
    assert msh.text.encode() == ORU.split(b"\r")[0]


def test_only_what_was_set_changes() -> None:
    """Parts that are missing are filled with empty ones; every other byte stays."""
    message = decode(ORU)
    message.set("PID-3[2].4.2", "1|2")
    message.set("OBX[3]-5", "9\n8")
    message.set("PID-8", NULL)
    expected = ORU.replace(b"P2^^^CITY", b"P2^^^CITY&1\\F\\2").replace(b"|M|\r", b'|""|\r') + b"||9\\.br\\8"
    assert message.encode() == expected
    assert decode(expected).get("OBX[3]-5") == "9\n8"


@pytest.mark.parametrize(
    ("path", "value"),
    [("MSH-1", "#"), ("MSH-2", "^~"), ("ZZZ-1", "x"), ("MSH-18", "GBK~X"), ("MSH-18", "EBCDIC")],
)
def test_what_cannot_be_set(path: str, value: str) -> None:
    """ValueError, and the message is as it was."""
    message = decode(ORU)
    with pytest.raises(ValueError, match=r"-|segment"):
        message.set(path, value)
    assert message.encode() == ORU


def test_a_character_outside_of_the_character_set_is_refused_without_payload() -> None:
    """The error names the place and the set, not the value."""
    message = decode(ORU.replace(b"UNICODE UTF-8", b"8859/1"))
    with pytest.raises(ValueError, match=r"PID-5: .* iso8859_1") as caught:
        message.set("PID-5.1", "张三丰")
    assert "张" not in str(caught.value)


def test_msh_18_can_be_corrected_only_to_what_the_bytes_are() -> None:
    """ASCII text may be declared as anything that contains ASCII; other bytes are not relabelled."""
    message = decode(ORU)
    message.set("MSH-18", "GB 18030-2000")
    message.set("PID-5.1", "倈")
    assert decode(message.encode()).get("PID-5.1") == "倈"
    chinese = decode(ORU.replace(b"Doe", "张".encode()))
    with pytest.raises(ValueError, match="MSH-18"):
        chinese.set("MSH-18", "GB 18030-2000")


def test_raw_fields_may_not_break_the_segment() -> None:
    """set_field takes components and repetitions as such, but no field separator and no line end."""
    message = decode(ORU)
    pid = message.first("PID")
    assert pid is not None
    pid.set_field(5, "Roe^Jane~R^J")
    assert message.get("PID-5[2].1") == "R"
    for raw in ("a|b", "a\rb", "a\nb"):
        with pytest.raises(ValueError, match="PID-5"):
            pid.set_field(5, raw)


def test_a_message_is_free_when_it_is_let_go() -> None:
    """Its segments do not hold it, so that a busy node leaves no circles to the garbage collector."""
    message = decode(ORU)
    before = getrefcount(message)
    kept = [(segment, segment.fields) for segment in message.segments]
    assert (getrefcount(message), len(kept)) == (before, 5)


def test_a_repr_shows_no_payload() -> None:
    """Segments end up in assertion messages and logs."""
    assert "MRN" not in repr(decode(ORU).segments)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\\F\\\\S\\\\T\\\\R\\\\E\\\\P\\", "|^&~\\#"),
        ("\\X41\\\\X0D0A\\", "A\r\n"),
        ("\\XE5BCA0\\", "张"),
        ("\\XE5\\", "\\XE5\\"),
        ("\\X4\\", "\\X4\\"),
        ("a\\.br\\b\\.sp2\\c\\.ce\\d\\.sk3\\e", "a\nb\n\nc\nd   e"),
        ("\\.in+3\\\\.ti-2\\\\.fi\\\\.nf\\x", "x"),
        ("\\H\\big\\N\\", "big"),
        ("\\Z99\\F\\x", "\\Z99\\F\\x"),
        ("\\C2842\\\\M824041\\", "\\C2842\\\\M824041\\"),
        ("C:\\temp\\lab", "C:\\temp\\lab"),
        ("5\\", "5\\"),
        ("\\\\", "\\\\"),
        ("\\.xx9\\", "\\.xx9\\"),
    ],
)
def test_escape_sequences(text: str, plain: str) -> None:
    """Clause 2.7: what has a meaning as text gets it, what has none stays as it is written."""
    assert Separators().unescape(text) == plain


def test_hex_is_in_the_character_set_of_the_message() -> None:
    """The same bytes mean another character in GB18030."""
    raw = ORU.replace(b"UNICODE UTF-8", b"GB 18030-2000").replace(b"Doe", b"\\XD5C5\\")
    assert decode(raw).get("PID-5.1") == "张"


def test_what_would_break_a_frame_is_escaped() -> None:
    """0B and 1C in hex, so that no value can end an MLLP frame."""
    assert Separators().escape_text("\x0b|\x1c\r\n") == "\\X0B\\\\F\\\\X1C\\\\.br\\"


def test_without_an_escape_character_delimiters_cannot_be_written() -> None:
    """ValueError rather than a broken message."""
    bare = Separators("|", "^", "~", "", "", "")
    assert bare.escape_text("plain & simple") == "plain & simple"
    with pytest.raises(ValueError, match="no escape character"):
        bare.escape_text("a^b")


@pytest.mark.parametrize(
    "msh", ["MSH|", "MSH|^~|^&|", "MSH|^^~&|", "MSH|ab&\\|", "MSH^ ~\\&^", "MSH|^~\\&#!|", "MSHX^~\\&X", 'MSH|^~\\"|', "MSH|é~\\&|"]
)
def test_unusable_delimiters_are_refused(msh: str) -> None:
    """Each must be a different ASCII punctuation character; at least the component separator is needed."""
    if msh == "MSH|^~|^&|":  # MSH-2 is ^~: allowed, no escape character
        assert Separators.of(msh) == Separators("|", "^", "~", "", "")
        return
    with pytest.raises(ParseError):
        Separators.of(msh)


def test_the_header_has_the_facts_of_the_msh() -> None:
    """Everything that verdicts, duplicates and acknowledgments need, and the patient identifiers of PID-3."""
    header = read_header(ORU.replace(b"LAB^1.2.3", b"^1.2.3"))
    assert (header.message_type, header.structure, header.control_id, header.version) == ("ORU^R01", "ORU_R01", "MSG00002", "2.5.1")
    assert (header.sender, header.receiver, header.datetime) == ("1.2.3|MAIN", "EHR|REF", "20260419101500")
    assert (header.processing_id, header.sequence_number, header.charset) == ("P", "", "UNICODE UTF-8")
    assert (header.accept_ack, header.application_ack, header.enhanced) == ("", "AL", True)
    assert header.patient_ids == ("MRN12345", "P2")


def test_the_content_is_the_same_whatever_the_msh_says() -> None:
    """content_offset lets a caller compare two messages without their MSH."""
    other = ORU.replace(b"20260419101500", b"20260419101502").replace(b"\r", b"\r\n", 1)
    assert ORU[read_header(ORU).content_offset :] == other[read_header(other).content_offset :]


@pytest.mark.parametrize(
    ("pid", "ids"), [(b'PID|1||A^^^H~~B~""', ("A", "B")), (b"PID|1", ()), (b"PIDX||1|2", ()), (b"PID|1||A\\T\\B", ("A&B",))]
)
def test_patient_identifiers(pid: bytes, ids: tuple[str, ...]) -> None:
    """Empty and null repetitions are none; escapes are undone."""
    assert read_header(b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|1|P|2.5\r" + pid).patient_ids == ids
