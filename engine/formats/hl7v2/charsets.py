"""MSH-18 (HL7 table 0211) to Python codecs. Decode before splitting: the second byte of a GB18030 character may equal a delimiter."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Final

from engine.errors import ParseError

_TABLE_0211: Final = {
    "": "ascii",
    "ASCII": "ascii",
    **{f"8859/{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "GB 18030-2000": "gb18030",
    "GB18030-2000": "gb18030",
    "GB18030": "gb18030",
    "GB 18030": "gb18030",
    "GB 18030-2005": "gb18030",
    "GB 18030-2022": "gb18030",
    "GBK": "gbk",
    "GB2312": "gb18030",
    "GB 2312": "gb18030",
    "GB 2312-1980": "gb18030",
    "KS X 1001": "euc_kr",
    "CNS 11643-1992": "euc_tw",
    "BIG-5": "big5hkscs",
    "BIG5": "big5hkscs",
    "ISO IR6": "ascii",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "WINDOWS-1252": "cp1252",
    "CP1252": "cp1252",
    "ISO-8859-1": "iso8859_1",
    "LATIN1": "iso8859_1",
}


def codec_name(declared: str) -> str:
    """The Python codec for an MSH-18 value (its first repetition rules unless ISO 2022 switching is meant). Raises ParseError."""
    first, *others = (name.strip().upper() for name in declared.split("~"))
    if any("IR87" in name.replace(" ", "") or "IR159" in name.replace(" ", "") for name in others):
        return "iso2022_jp_2"
    name = _TABLE_0211.get(first) or _TABLE_0211.get(first.replace("ISO IR ", "ISO IR"))
    if name is None:
        raise ParseError(f"the character set {first[:40]!r} is not in table 0211", location="MSH-18", hl7_code="103")
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ParseError(f"the character set {first[:40]!r} is not supported", location="MSH-18", hl7_code="103") from None


def named(name: str) -> str:
    """A codec by table 0211 or by Python's name, as a channel file may say it. Raises ParseError."""
    try:
        return codec_name(name)
    except ParseError:
        try:
            return codecs.lookup(name).name
        except LookupError:
            raise ParseError(f"there is no character set {name[:40]!r}", location="MSH-18", hl7_code="103") from None


def decode_text(body: bytes, candidates: Sequence[str]) -> tuple[str, str]:
    """The text, and the first of the `candidates` that fits every byte. Raises ParseError naming the first one's offending offset."""
    offset = 0
    for codec in candidates:
        try:
            return body.decode(codec), codec
        except UnicodeDecodeError as error:
            offset = offset or error.start
    text = f"the bytes at offset {offset} are not {candidates[0]}, which the message declares"
    raise ParseError(text, location="MSH-18", hl7_code="102")
