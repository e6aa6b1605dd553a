"""Character sets of HL7 v2: declared, misnamed, undeclared, wrong; and delimiters inside characters."""

import pytest

from engine.errors import ParseError
from engine.formats.hl7v2 import decode, read_header
from engine.formats.hl7v2.charsets import codec_name, named

TRAPS = "倈俕倊乗"


def message(msh18: str, name: str, *, app: str = "HIS") -> str:
    return f"MSH|^~\\&|{app}|HOSP|PLAT|CITY|2026||ADT^A01|C1|P|2.5||||||{msh18}\rPID|1||P1^^^H~P2||{name}^X||1980\r"


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("", "ascii"),
        ("ASCII", "ascii"),
        ("UNICODE UTF-8", "utf-8"),
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8"),
        ("UNICODE", "utf-8"),
        ("UTF-8~UNICODE", "utf-8"),
        ("GB 18030-2000", "gb18030"),
        ("GB18030", "gb18030"),
        ("GBK", "gbk"),
        ("GB2312", "gb18030"),
        ("8859/1", "iso8859_1"),
        ("8859/15", "iso8859_15"),
        ("ISO-8859-15", "iso8859_15"),
        ("ISO8859/9", "iso8859_9"),
        ("KS X 1001", "euc_kr"),
        ("BIG-5", "big5hkscs"),
        ("ISO IR14", "shift_jis"),
        ("ISO IR87", "iso2022_jp_ext"),
        ("~ISO IR87", "iso2022_jp_ext"),
        ("ISO IR6~ISO IR 87~ISO IR159", "iso2022_jp_ext"),
        ("ASCII~GB 18030-2000", "gb18030"),
        ("Windows-1252", "cp1252"),
    ],
)
def test_table_0211_and_what_vendors_make_of_it(declared: str, codec: str) -> None:
    """The standard's names, common misspellings, and repetitions."""
    assert codec_name(declared) == codec


@pytest.mark.parametrize(("declared", "why"), [("UNICODE UTF-16", "not taken"), ("UTF-32LE", "not taken"), ("EBCDIC", "not supported")])
def test_what_is_not_taken_is_refused_with_the_reason(declared: str, why: str) -> None:
    """Code 103 at MSH-18; also where it is the value of a whole message."""
    with pytest.raises(ParseError, match=why) as caught:
        decode(message(declared, "Doe").encode())
    assert (caught.value.hl7_code, caught.value.location) == ("103", "MSH-18")


@pytest.mark.parametrize("codec", ["utf-16", "utf-7", "cp037", "hz", "punycode", "rot13", "nonsense"])
def test_a_channel_may_not_name_a_codec_that_moves_the_delimiters(codec: str) -> None:
    """Only sets in which the delimiters are their ASCII bytes can be framed and cut."""
    with pytest.raises(ParseError):
        named(codec)


def test_a_channel_may_use_pythons_names() -> None:
    """`charset: mac-roman` is no name of table 0211, yet readable."""
    assert named("mac-roman") == "mac-roman"


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("declared", ["GB 18030-2000", "GBK"])
def test_delimiters_in_trail_bytes_are_no_delimiters(trap: str, declared: str) -> None:
    """The second byte is | ^ ~ or \\: in PID-5 and also in MSH-3, before MSH-18 has told the character set."""
    raw = message(declared, trap, app=trap).encode("gb18030")
    assert raw[raw.index(trap.encode("gb18030")) + 1] in b"|^~\\"
    got = decode(raw)
    assert (got.get("PID-5.1"), got.get("PID-5.2"), got.get("MSH-3"), got.get("PID-7")) == (trap, "X", trap, "1980")
    header = read_header(raw)
    assert (header.sender, header.control_id, header.charset, header.patient_ids) == (f"{trap}|HOSP", "C1", declared, ("P1", "P2"))


def test_japanese_by_escape_sequences() -> None:
    """~ISO IR87: the two bytes of a kanji are printable ASCII, among them | and ^."""
    name = "山田^太郎=圏"
    raw = message("~ISO IR87", name).encode("iso2022_jp")
    got = decode(raw)
    assert (got.get("PID-5.1"), got.get("PID-5.2"), got.charset) == ("山田", "太郎=圏", "iso2022_jp_ext")
    got.set("PID-5.2", "花子")
    assert decode(got.encode()).get("PID-5.2") == "花子"


def test_other_iso_2022_switching_is_refused() -> None:
    """8859/1 with an escape sequence to something else: better refused than shown wrongly."""
    with pytest.raises(ParseError, match="ISO 2022"):
        decode(message("8859/1~8859/2", "\x1b-BDoe").encode())


def test_declared_and_actual_disagree() -> None:
    """GB18030 bytes declared as UTF-8: the offset is named, no payload; with a fallback the fallback reads it."""
    raw = message("UNICODE UTF-8", "张三").encode("gb18030")
    with pytest.raises(ParseError) as caught:
        decode(raw)
    assert f"offset {raw.index('张'.encode('gb18030'))}" in caught.value.text
    assert (caught.value.hl7_code, caught.value.location) == ("102", "MSH-18")
    assert decode(raw, fallback="GB 18030-2000").get("PID-5.1") == "张三"


def test_neither_declared_nor_fallback_fits() -> None:
    """Never a replacement character."""
    with pytest.raises(ParseError, match="offset"):
        decode(message("UNICODE UTF-8", "Ж").encode("cp1251"), fallback="ASCII")


def test_undeclared_bytes_are_the_fallbacks_first() -> None:
    """GBK bytes that happen to be UTF-8 as well (a patient called 魏毛) are read as the channel says, not as Greek and Latin letters."""
    raw = message("", "魏毛").encode("gb18030")
    raw.decode("utf-8")
    assert decode(raw, fallback="GB18030").get("PID-5.1") == "魏毛"


def test_undeclared_bytes_that_could_be_gbk_are_not_taken_for_utf_8() -> None:
    """Without a fallback such a message is refused rather than guessed."""
    with pytest.raises(ParseError, match="MSH-18 is empty or ASCII"):
        decode(message("", "魏毛").encode("gb18030"))


@pytest.mark.parametrize("name", ["李明", "Müller", "5 µmol", "Zoë 李"])
def test_undeclared_utf_8_is_read_where_it_proves_itself(name: str) -> None:
    """Many senders forget MSH-18; sequences of three bytes, and the Latin letters of Western Europe, are believed."""
    assert decode(message("", name).encode()).get("PID-5.1") == name


def test_the_channel_overrides_the_message() -> None:
    """`charset` rules over MSH-18, for the header too."""
    raw = message("8859/1", TRAPS, app=TRAPS).encode("gb18030")
    assert decode(raw, charset="GB18030").get("PID-5.1") == TRAPS
    assert read_header(raw, "GB18030").sender == f"{TRAPS}|HOSP"


def test_a_byte_order_mark_is_kept() -> None:
    """Some senders write one; it belongs to no segment and stays where it was."""
    raw = b"\xef\xbb\xbf" + message("UNICODE UTF-8", "张").encode()
    got = decode(raw)
    got.set("PID-7", "1981")
    assert got.encode() == raw.replace(b"1980", b"1981")
    assert read_header(raw).content_offset == raw.index(b"PID")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_bytes_are_no_message(codec: str) -> None:
    """UTF-16 is refused; with a byte order mark the reason says so."""
    with pytest.raises(ParseError) as caught:
        decode(message("UNICODE", "张").encode(codec))
    assert ("UTF-16" in caught.value.text) is (codec != "utf-16-le")
