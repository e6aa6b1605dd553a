"""Text of data elements by Specific Character Set (0008,0005): PS3.5 clause 6.1, PS3.3 C.12.1.1.2.

Bytes are decoded before they are split at ``\\``, ``^`` and ``=``: in GB18030, GBK and the Japanese multi-byte sets these bytes are also
the second half of characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from pydicom.charset import STAND_ALONE_ENCODINGS, decode_bytes, encode_string, python_encoding

DEFAULT: Final = ("ISO_IR 6",)
UNICODE: Final = ("ISO_IR 192",)
_DELIMITERS: Final = {0x5C, 0x5E, 0x3D, 0x0A, 0x0C, 0x0D, 0x09}
_PARTS: Final = re.compile(r"([\\^=\n\f\r\t])")
_ESCAPE: Final = b"\x1b"
_CHINESE: Final = "\x1b$)A"
"""Designates ISO-IR 58 (PS3.3 table C.12-4)."""


def character_sets(raw: bytes) -> tuple[str, ...]:
    """The values of (0008,0005). An empty first value is ISO 2022 IR 6; one that is not known is read as if it were not there."""
    named = [part.strip(" \0") for part in raw.decode("ascii", "replace").split("\\")]
    known = [name if name in python_encoding else "" for name in named]
    return tuple(known) if any(known) else DEFAULT


@lru_cache(maxsize=256)
def _encodings(names: tuple[str, ...]) -> tuple[str, ...]:
    """Python's names; a set that allows no code extensions stands alone."""
    if len(names) > 1 and names[0] in STAND_ALONE_ENCODINGS:
        names = names[:1]
    return tuple(python_encoding[name] for name in names if name == names[0] or name not in STAND_ALONE_ENCODINGS)


def decode(raw: bytes, names: tuple[str, ...]) -> str:
    """Never fails: what no character set explains is U+FFFD."""
    encodings = _encodings(names)
    if _ESCAPE not in raw:
        return raw.decode(encodings[0], "replace")
    try:
        return decode_bytes(raw, encodings, _DELIMITERS).replace(_CHINESE, "")  # pydicom leaves it in the text
    except (UnicodeError, LookupError, ValueError, Warning):
        return raw.decode(encodings[0], "replace")


def encode(text: str, names: tuple[str, ...]) -> bytes:
    """Raises UnicodeError where these character sets do not have the text."""
    encodings: Sequence[str] = _encodings(names)
    if text.isascii():
        return text.encode("ascii")
    if names in (DEFAULT, ("",)):
        raise UnicodeError("the default repertoire is ASCII")
    if len(encodings) == 1:
        return text.encode(encodings[0])
    if not _encodable(text, encodings):
        raise UnicodeError("no such characters")
    encoded = b"".join(encode_string(part, encodings) for part in _PARTS.split(text) if part)  # each delimiter ends a designation
    if decode(encoded, names) != text:
        raise UnicodeError("the character sets do not give the text back")
    return encoded


def _encodable(text: str, encodings: Sequence[str]) -> bool:
    return all(any(_has(encoding, character) for encoding in encodings) for character in text)


def _has(encoding: str, character: str) -> bool:
    try:
        return bool(character.encode(encoding))
    except UnicodeError:
        return False
