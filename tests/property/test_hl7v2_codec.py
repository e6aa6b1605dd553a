"""Invariants of the HL7 v2 codec over random delimiters, character sets, escapes and terminators."""

from string import punctuation

from hypothesis import assume, given
from hypothesis import strategies as st

from engine.errors import ParseError
from engine.formats.hl7v2 import Message, Separators, batch, decode, read_header
from engine.formats.hl7v2 import acknowledgment as acks
from engine.message import Judgement, Verdict

TRAPS = "倈俕倊乗"  # their second GB18030 bytes are | ^ ~ \
CHARSETS = {
    "": "ascii",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "GB 18030-2000": "gb18030",
    "GBK": "gbk",
    "BIG-5": "big5hkscs",
    "KS X 1001": "euc_kr",
    "ISO IR14": "shift_jis",
    "8859/1": "iso8859_1",
    "8859/5": "iso8859_5",
    "~ISO IR87": "iso2022_jp_ext",
}
TERMINATORS = ["\r", "\n", "\r\n"]


def drop(codec: str):
    """What the codec can write and read back."""
    return lambda text: text.encode(codec, "ignore").decode(codec, "ignore")


@st.composite
def separators(draw: st.DrawFn) -> Separators:
    usual = st.just("|^~\\&") | st.just("|^~\\&#")
    any_order = st.permutations(sorted(set(punctuation) - {'"'})).flatmap(lambda chars: st.integers(2, 6).map(lambda n: "".join(chars[:n])))
    chosen = draw(usual | any_order)
    return Separators(*chosen, *[""] * (6 - len(chosen)))


def text_of(codec: str, extra: str) -> st.SearchStrategy[str]:
    """Text in the codec, rich in delimiters, escapes and traps; without line ends."""
    special = st.sampled_from([*extra, *TRAPS, '""', "\\F\\", "\\X0D\\", "\\.br\\", "\\Z1\\", "张伟", "é", "ж", "한", "日本"])
    plain = st.characters(codec="utf-8", exclude_characters="\r\n\x1b", exclude_categories=["Cs"])
    return st.lists(special | plain, max_size=6).map("".join).map(drop(codec))


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, str, Separators, list[list[str]]]:
    """Bytes, codec, separators, and the fields of every segment after the MSH."""
    declared = draw(st.sampled_from(sorted(CHARSETS)))
    codec, found = CHARSETS[declared], draw(separators())
    assume("~" not in declared or found.repetition)
    f = found.field
    below = "".join((found.component, found.repetition, found.escape, found.subcomponent, found.truncation))
    value = text_of(codec, below).map(lambda text: text.replace(f, ""))
    head = [
        found.declared[1:],
        draw(value),
        "FAC",
        "",
        "",
        "2026",
        "",
        found.component.join(("ADT", "A01")),
        "C1",
        "P",
        "2.5".replace(f, ""),
    ]
    if declared:
        head += [""] * 5 + [declared.replace("~", found.repetition or "~")]
    assume(not set(declared.replace("~", "")) & set(found.declared))
    body = draw(st.lists(st.tuples(st.sampled_from(["PID", "OBX", "ZZ1", "NTE"]), st.lists(value, max_size=5)), max_size=5))
    lines = [f"MSH{f}{f.join(head)}", *(f.join([name, *fields]) for name, fields in body)]
    ends = [draw(st.sampled_from(TERMINATORS)) for _ in lines[:-1]] + [draw(st.sampled_from([*TERMINATORS, ""]))]
    raw = b"".join(line.encode(codec) + end.encode() for line, end in zip(lines, ends, strict=True))
    return raw, codec, found, [[name, *fields] for name, fields in body]


def read(raw: bytes, codec: str) -> Message:
    """ASCII text declares nothing; any other must be found by MSH-18 alone."""
    message = decode(raw)
    assert message.charset == codec
    return message


@given(messages())
def test_encode_of_decode_is_the_same(case: tuple[bytes, str, Separators, list[list[str]]]) -> None:
    """Byte for byte, and the fields are cut where the characters, not the bytes, have delimiters."""
    raw, codec, found, body = case
    message = read(raw, codec)
    assert message.encode() == raw
    assert message.separators == found
    assert [segment.fields for segment in message.segments[1:]] == body
    assert read_header(raw).fields[10] == "C1"
    assert raw[read_header(raw).content_offset :].lstrip(b"\r\n")[:3] == (body[0][0].encode() if body else b"")


@given(messages(), st.data())
def test_what_was_set_is_got_and_nothing_else_changes(case: tuple[bytes, str, Separators, list[list[str]]], data: st.DataObject) -> None:
    """Set one place: it reads back, after a round trip too; every other segment keeps its bytes."""
    raw, codec, found, body = case
    assume(body and found.escape)
    index = data.draw(st.integers(0, len(body) - 1))
    name = body[index][0]
    occurrence = [fields[0] for fields in body[: index + 1]].count(name)
    place = f"{name}[{occurrence}]-{data.draw(st.integers(1, 7))}"
    if found.repetition:
        place += f"[{data.draw(st.integers(1, 3))}]"
    place += f".{data.draw(st.integers(1, 3))}"
    if found.subcomponent:
        place += f".{data.draw(st.integers(1, 3))}"
    value = data.draw(text_of(codec, found.declared))
    message = read(raw, codec)
    before = [segment.text for segment in message.segments]
    message.set(place, value)
    assert message.get(place) == value
    again = decode(message.encode())
    assert again.get(place) == value
    after = [segment.text for segment in again.segments]
    assert [text for at, text in enumerate(after) if at != index + 1] == [text for at, text in enumerate(before) if at != index + 1]


@given(separators(), st.text(st.characters(codec="utf-8")))
def test_unescape_undoes_escape(found: Separators, text: str) -> None:
    """For any text; line ends come back as newlines. Escaped text holds no delimiter and nothing that breaks a frame."""
    assume(found.escape)
    escaped = found.escape_text(text)
    assert found.unescape(escaped) == text.replace("\r\n", "\n").replace("\r", "\n")
    assert not set(escaped) & (set(found.declared) - {found.escape} | set("\r\n\x0b\x1c"))


@given(separators(), st.text(st.sampled_from("\\FSTREXHN.br41ZC ^") | st.characters(codec="utf-8"), max_size=40))
def test_any_text_can_be_unescaped(found: Separators, text: str) -> None:
    """Whatever a sender wrote: no error; text without an escape character is itself."""
    plain = found.unescape(text)
    assert (found.escape and found.escape in text) or plain == text


@given(
    st.binary() | st.binary().map(lambda tail: b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|1|P|2.5||||||" + tail),
    st.sampled_from([None, "GBK", "utf-8"]),
)
def test_arbitrary_bytes_are_read_or_refused(raw: bytes, fallback: str | None) -> None:
    """Nothing but ParseError, with a code of table 0357 and no payload in its text; what is read is given back."""
    for read_it in (lambda: decode(raw, fallback=fallback).encode(), lambda: (read_header(raw), raw)[1]):
        try:
            assert read_it() == raw
        except ParseError as error:
            assert error.hl7_code in ("100", "101", "102", "103")
    try:
        acks.read(raw)
    except ParseError:
        pass
    batch.is_batch(raw)


HEADERS = st.binary().map(lambda tail: b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|1" + tail) | messages().map(lambda case: case[0])


@given(HEADERS, st.sampled_from(Verdict), st.booleans(), st.text())
def test_every_header_can_be_acknowledged(raw: bytes, verdict: Verdict, enhanced: bool, reason: str) -> None:
    """Whatever bytes and delimiters it has, the answer is read back with its code and the original control id."""
    try:
        header = read_header(raw)
    except ParseError:
        return
    answer = acks.acknowledge(header, Judgement(verdict, reason, "207", "PID-3"), enhanced=enhanced, control_id="N1", now=0)
    said = acks.read(answer)
    assert said.code in ("CA", "CE", "CR") if enhanced else said.code in ("AA", "AE", "AR")
    assert said.positive is (verdict is Verdict.ACCEPTED)
    assert said.control_id == header.control_id
    assert answer.count(b"\r") == (2 if said.positive else 3)


PARTS = [b"MSH|^~\\&|x\r", b"BHS|^~\\&\r", b"BTS|2\r\n", b"FHS|\n", b"FTS|1", b"PID|1\r", b"\r", b"\0|\r"]


@given(st.binary() | st.lists(st.sampled_from(PARTS)).map(b"".join))
def test_a_batch_loses_no_line(raw: bytes) -> None:
    """Every line that is not blank and no envelope segment is in a slice, in its order; each slice is a part of the file."""
    lines = raw.removeprefix(b"\xef\xbb\xbf").splitlines()
    of_messages = b"".join(line for line in lines if line[:3] not in (b"FHS", b"BHS", b"BTS", b"FTS") and line.strip())
    slices = batch.split(raw).messages
    assert b"".join(line for one in slices for line in one.splitlines() if line.strip()) == of_messages
    assert all(one in raw for one in slices)
