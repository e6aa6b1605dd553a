"""MSH-18 (HL7 table 0211) to Python codecs. Decode before splitting: the second byte of a GB18030 character may equal a delimiter.

Names are compared without regard to case, spaces, ``-`` and ``_``, since vendors write ``UTF8``, ``ISO-8859-1`` and ``GB18030``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from engine.errors import ParseError

_LATIN: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)
_JAPANESE: Final = "iso2022_jp_ext"  # ASCII, JIS X 0201 (both halves), 0208 and 0212, told apart by ISO 2022 escape sequences
_TABLE_0211: Final = {
    "": "ascii",
    "ASCII": "ascii",
    "USASCII": "ascii",
    "ISOIR6": "ascii",
    **{f"{prefix}8859{slash}{part}": f"iso8859_{part}" for prefix in ("", "ISO") for slash in ("", "/") for part in _LATIN},
    "LATIN1": "iso8859_1",
    "UNICODE": "utf-8",
    "UNICODEUTF8": "utf-8",
    "UTF8": "utf-8",
    "ISOIR192": "utf-8",
    # GB18030 contains GBK and GB 2312, and what is called by those names is seldom kept to them
    **dict.fromkeys(("GB180302000", "GB180302005", "GB180302022", "GB18030", "GB2312", "GB23121980"), "gb18030"),
    "GBK": "gbk",
    "CP936": "gbk",
    "KSX1001": "euc_kr",
    "ISOIR149": "euc_kr",
    "EUCKR": "euc_kr",
    "BIG5": "big5hkscs",
    "ISOIR14": "shift_jis",
    "ISOIR13": "shift_jis",
    "SHIFTJIS": "shift_jis",
    "ISOIR87": _JAPANESE,
    "ISOIR159": _JAPANESE,
    **{f"{prefix}{page}": f"cp{page}" for prefix in ("WINDOWS", "CP") for page in range(1250, 1259)},
}
_WIDE: Final = frozenset(("UNICODEUTF16", "UNICODEUTF32", "UTF16", "UTF16LE", "UTF16BE", "UTF32", "UTF32LE", "UTF32BE"))
_SUPERSETS: Final = frozenset(("utf-8", "gb18030", "gbk", "euc_kr", "big5hkscs"))
_DOUBTFUL: Final = re.compile("[\u0100-\u07ff]")


@lru_cache(maxsize=256)
def codec_name(declared: str) -> str:
    """The Python codec for an MSH-18 value. Raises ParseError for what is not in table 0211 or cannot be read.

    The first repetition is the default set; with a Japanese set among the others ISO 2022 escape sequences switch between them
    (clause 2.14.9.18). After a default of ASCII a multi-byte set that contains ASCII stands for both.
    """
    names = [_one(name) for name in declared.split("~")]
    if _JAPANESE in names[1:]:
        return _JAPANESE
    return next((name for name in names[1:] if name in _SUPERSETS), names[0]) if names[0] == "ascii" else names[0]


def _one(name: str) -> str:
    key = re.sub(r"[\s_-]", "", name).upper()
    if key in _WIDE:
        text = f"the character set {name[:40]!r} is not taken: its delimiters are not single bytes, so that no frame can be found in it"
        raise ParseError(text, location="MSH-18", hl7_code="103")
    codec = _TABLE_0211.get(key)
    if codec is None:
        raise ParseError(f"the character set {name[:40]!r} is not supported (HL7 table 0211)", location="MSH-18", hl7_code="103")
    return codec


def named(name: str) -> str:
    """A codec by table 0211 or by Python's name, as a channel file may say it. Raises ParseError; also for a codec in which
    delimiters are not their ASCII bytes."""
    try:
        return codec_name(name)
    except ParseError:
        try:
            codec = codecs.lookup(name)
            if codec.encode("MSH|^~\\&#\r\n\x0b\x1c")[0] == b"MSH|^~\\&#\r\n\x0b\x1c":
                return codec.name
        except (LookupError, ValueError, AttributeError, TypeError):
            pass
        raise


def decode_text(body: bytes, declared: str, charset: str | None = None, fallback: str | None = None) -> tuple[str, str]:
    """The text and the Python codec that fits every byte of it.

    `charset` rules over the `declared` MSH-18; `fallback` is tried where the bytes do not fit. An empty MSH-18 means ASCII; other
    bytes are taken for UTF-8 only where there is no `fallback`, and only where they prove it: a sequence of two such bytes can be
    GBK as well, so a message that has UTF-8 characters from U+0100 to U+07FF is not believed. Raises ParseError with the offset.
    """
    codec = named(charset) if charset else codec_name(declared)
    text, offset = _strict(body, codec)
    undeclared = not charset and codec == "ascii"
    if text is None and fallback:
        codec = named(fallback)
        text, _ = _strict(body, codec)
    elif text is None and undeclared:
        codec = "utf-8"
        text, _ = _strict(body, codec)
        if text is not None and _DOUBTFUL.search(text):
            text = None
    if text is None:
        said = "MSH-18 is empty or ASCII, and the byte" if undeclared else f"the message is to be {charset or declared[:40]}, but the byte"
        raise ParseError(f"{said} at offset {offset} is not of that character set", location="MSH-18", hl7_code="102")
    if "\x1b" in text and "~" in declared and codec != _JAPANESE:
        raise ParseError("the ISO 2022 switching of this message is not supported", location="MSH-18", hl7_code="103")
    return text, codec


def _strict(body: bytes, codec: str) -> tuple[str | None, int]:
    """The text, or None and the offset of the first byte that does not fit."""
    try:
        return body.decode(codec), 0
    except UnicodeDecodeError as error:
        return None, error.start


def first_fitting(raw: bytes, codecs_to_try: Sequence[str]) -> tuple[str, str]:
    """For header facts, which must be had even from a message that will be refused: Latin-1 at last, which keeps every byte apart."""
    for codec in codecs_to_try:
        text, _ = _strict(raw, codec)
        if text is not None:
            return text, codec
    return raw.decode("latin-1"), "latin-1"
