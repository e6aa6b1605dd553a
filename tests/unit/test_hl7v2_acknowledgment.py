"""Acknowledgments worded and read (HL7 v2.5 clauses 2.9.2, 2.9.3, 2.15)."""

import pytest

from engine.errors import ParseError
from engine.formats.hl7v2 import acknowledge, decode, read_header
from engine.formats.hl7v2.acknowledgment import Acknowledgement, no_data_found, read, wanted
from engine.message import ACCEPTED, Judgement, Verdict

NOW = 1_793_491_200_000_000  # 2026-11-01 00:00:00 UTC
REFUSED = Judgement(Verdict.REFUSED, "not for this channel", "200", "MSH-9.1")
INVALID = Judgement(Verdict.INVALID, "no | patient", "101", "PID-3[2].4.1")
FULL = Judgement(Verdict.UNAVAILABLE, "the store is full; try again later", "207")


def msh(version: str = "2.5", msh9: str = "ADT^A01^ADT_A01", msh18: str = "", app: str = "HIS") -> bytes:
    codec = {"GB 18030-2000": "gb18030", "": "gb18030"}.get(msh18, "utf-8")
    return f"MSH|^~\\&|{app}|HOSP|PLAT|CITY|2026||{msh9}|C\\T\\1|T|{version}||||||{msh18}\rPID|1\r".encode(codec)


def ack(raw: bytes, judgement: Judgement = ACCEPTED, *, enhanced: bool = False) -> bytes:
    return acknowledge(read_header(raw), judgement, enhanced=enhanced, control_id="N1", now=NOW)


def test_a_positive_acknowledgment() -> None:
    """The parties swapped, a control id of its own, the original one in MSA-2, type ACK^A01^ACK, version and processing id as sent."""
    assert ack(msh()) == b"MSH|^~\\&|PLAT|CITY|HIS|HOSP|20261101000000+0000||ACK^A01^ACK|N1|T|2.5\rMSA|AA|C\\T\\1\r"


@pytest.mark.parametrize(
    ("judgement", "enhanced", "code"),
    [
        (ACCEPTED, False, "AA"),
        (ACCEPTED, True, "CA"),
        (REFUSED, False, "AR"),
        (REFUSED, True, "CR"),
        (INVALID, False, "AE"),
        (INVALID, True, "CE"),
        (FULL, False, "AE"),
        (FULL, True, "CE"),
    ],
)
def test_the_code_says_the_verdict_in_the_mode(judgement: Judgement, enhanced: bool, code: str) -> None:
    """Table 0008; what is read back is what was said."""
    answer = read(ack(msh(), judgement, enhanced=enhanced))
    assert (answer.code, answer.control_id, answer.reference) == (code, "C\\T\\1", "N1")
    assert (answer.positive, answer.is_commit) == (code[1] == "A", enhanced)
    assert (answer.text, answer.error_code) == (judgement.reason, judgement.hl7_code)


@pytest.mark.parametrize("marks", ["|^", "$*"])
def test_a_query_for_which_nothing_is_known(marks: str) -> None:
    """RSP^K11: accepted, no data found (table 0208), under the query's tag, which is given back as it was asked; in its own separators."""
    raw = msh("2.5.1", "QBP^Q11^QBP_Q11", "UNICODE UTF-8") + "QPD|WOS^工单^IHE_LABTF|T1|S1\rRCP|I||R\r".encode()
    raw = raw.replace(b"|", marks[0].encode()).replace(b"^", marks[1].encode())
    message = decode(no_data_found(read_header(raw), raw, control_id="N1", now=NOW))
    assert [message.get(path) for path in ("MSH-9.1", "MSH-9.2", "MSH-9.3", "MSH-10", "MSA-1", "MSA-2")] == [
        "RSP", "K11", "RSP_K11", "N1", "AA", "C&1",
    ]  # fmt: skip
    assert [message.get(path) for path in ("QAK-1", "QAK-2", "QAK-3.2", "QPD-1.2", "QPD-3")] == ["T1", "NF", "工单", "工单", "S1"]


def test_a_query_without_its_question_is_answered_too() -> None:
    raw = msh("2.5.1", "QBP^Q11^QBP_Q11")
    assert no_data_found(read_header(raw), raw, control_id="N1", now=NOW).endswith(b"\rQAK||NF|\rQPD\r")


def test_err_from_version_2_5() -> None:
    """ERR-2 location as an ERL, ERR-3 from table 0357, ERR-4 E, ERR-8 the reason, escaped."""
    assert ack(msh(), INVALID).endswith(b"\rERR||PID^1^3^2^4^1|101^Required field missing^HL70357|E||||no \\F\\ patient\r")


def test_err_before_version_2_5() -> None:
    """ERR-1 is an ELD of segment, sequence, field and code; the text goes to MSA-3."""
    answer = ack(msh("2.3.1"), INVALID)
    assert answer.endswith(b"\rMSA|AE|C\\T\\1|no \\F\\ patient\rERR|PID^1^3^101&Required field missing&HL70357\r")
    assert (read(answer).error_code, read(answer).text) == ("101", "no | patient")


@pytest.mark.parametrize(("location", "erl"), [("", b""), ("PID", b"PID"), ("MSH-18", b"MSH^1^18^1"), ("somewhere else", b"")])
def test_err_location(location: str, erl: bytes) -> None:
    """A segment alone, a path, or nothing where it is not one of HL7 v2."""
    assert b"\rERR||" + erl + b"|207^" in ack(msh(), Judgement(Verdict.INVALID, "x", "", location))


def test_no_usable_header() -> None:
    """A minimal AR whatever was wrong with the content, so that the sender hears something; AE where it may try again."""
    bad = Judgement(Verdict.INVALID, "the message does not begin with an MSH segment", "100", "MSH")
    answer = acknowledge(None, bad, enhanced=False, control_id="N1", now=NOW)
    assert decode(answer).get("ERR-3.1") == "100"
    assert read(answer) == Acknowledgement("AR", "", "N1", bad.reason, "100")
    assert read(acknowledge(None, FULL, enhanced=False, control_id="N1", now=NOW)).code == "AE"


def test_in_the_delimiters_of_the_message() -> None:
    """Also the truncation character, and a message type without trigger event."""
    raw = b"MSH@~&#\\@HIS@HOSP@PLAT@CITY@2026@@ORU~R01@1@P@2.5"
    assert ack(raw).startswith(b"MSH@~&#\\@PLAT@CITY@HIS@HOSP@")
    assert b"@ACK~R01~ACK@N1@P@2.5\rMSA@AA@1\r" in ack(raw)
    assert ack(b"MSH|^~\\&#|A|B|C|D|2026||ORU|1|P|2.7").startswith(b"MSH|^~\\&#|C|D|A|B|20261101000000+0000||ACK|N1|P|2.7\r")
    assert read(ack(raw, REFUSED)).text == REFUSED.reason


@pytest.mark.parametrize("msh18", ["GB 18030-2000", "UNICODE UTF-8", ""])
def test_in_the_character_set_of_the_message(msh18: str) -> None:
    """What came in MSH-3 goes back as the same bytes, even where no character set was declared; MSH-18 is repeated."""
    app = "倈院" if msh18 else "医院"
    raw = msh(msh18=msh18, app=app)
    answer = ack(raw, Judgement(Verdict.REFUSED, "拒", "200"))
    assert b"|CITY|" + raw.split(b"\\&|")[1].split(b"|HOSP")[0] + b"|HOSP|" in answer
    if msh18:
        assert read(answer).text == "拒"
        assert decode(answer).get("MSH-5") == app


def test_what_the_sender_could_not_read_is_not_said() -> None:
    """A reason in characters that the declared set lacks: question marks, not an error."""
    assert read(ack(msh(msh18="ASCII", app="A"), Judgement(Verdict.REFUSED, "拒 no", "200"))).text == "? no"


@pytest.mark.parametrize(
    ("condition", "positive", "expected"),
    [
        ("AL", True, True),
        ("AL", False, True),
        ("NE", True, False),
        ("NE", False, False),
        ("ER", True, False),
        ("ER", False, True),
        ("SU", True, True),
        ("SU", False, False),
        ("", True, False),
        ("", False, False),
    ],
)
def test_which_acknowledgment_is_wanted(condition: str, positive: bool, expected: bool) -> None:
    """Table 0155."""
    assert wanted(condition, positive) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"MSH|^~\\&|A|B|C|D|2026||ACK^A01|9|P|2.3\rMSA|AA|77\r", Acknowledgement("AA", "77", "9", "", "")),
        (b"MSH|^~\\&\nMSA|AE|77|no bed||| 101^x\n", Acknowledgement("AE", "77", "", "no bed", "101")),
        (b"MSH|^~\\&|||||2026||ACK|9\r\nMSA|AR|7\r\nERR|PID^1^3^101&x", Acknowledgement("AR", "7", "9", "", "101")),
        (
            "MSH|^~\\&|||||2026||ACK|9|P|2.5||||||GB18030\rMSA|CE|7\rERR||PID|102^x|E||||错".encode("gb18030"),
            Acknowledgement("CE", "7", "9", "错", "102"),
        ),
        (b"MSH$%~\\&$$$$$2026$$ACK$9\rMSA$AA$7", Acknowledgement("AA", "7", "9", "", "")),
        (b"MSH|^~\\&|||||2026||ACK|9\rMSA|AA|7|\xff", Acknowledgement("AA", "7", "9", "\xff", "")),
    ],
)
def test_what_receivers_answer(body: bytes, expected: Acknowledgement) -> None:
    """Short headers, line feeds, old and new ERR, other delimiters, bytes of no known set: an answer that can be understood is."""
    assert read(body) == expected


@pytest.mark.parametrize("body", [b"", b"ok", b"MSH|^~\\&|||||2026||ACK|9\r", b"MSH|^~\\&|||||2026||ACK|9\rMSA\r", b"MSH|aa|\rMSA|AA|1"])
def test_what_is_no_acknowledgment(body: bytes) -> None:
    """ParseError: the delivery is uncertain, not refused."""
    with pytest.raises(ParseError):
        read(body)
