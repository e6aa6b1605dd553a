"""Text in the character sets of (0008,0005): PS3.5 clause 6.1, PS3.3 tables C.12-2 to C.12-5. Pure.

pydicom 3.0 writes ISO 2022 IR 58 without its escape sequence and leaves the escape in what it reads, so both are done here.
With code extensions the set of value 1 is active again before the end of a value, a line end, and in a PN before ^ and = (6.1.2.5.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ESC: Final = "\x1b"


@dataclass(frozen=True, slots=True)
class _Set:
    """`codec` is Python's; `escape` designates the set in G0 (`low`: its bytes are below 80H, ASCII needs an escape back) or in G1.
    Python's ISO 2022 codecs write escapes of their own, which are cut off (`own`)."""

    codec: str
    escape: bytes = b""
    low: bool = False
    own: bool = False


_ALONE: Final = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}
_SINGLE: Final = {
    "": "ascii", "6": "ascii", "100": "latin_1", "101": "iso8859_2", "109": "iso8859_3", "110": "iso8859_4", "144": "iso8859_5",
    "127": "iso8859_6", "126": "iso8859_7", "138": "iso8859_8", "148": "iso8859_9", "203": "iso8859_15", "13": "shift_jis",
    "166": "iso8859_11",
}  # fmt: skip
"""ISO_IR n, ISO 2022 IR n."""
_ESCAPES: Final = {
    "6": b"\x1b(B", "100": b"\x1b-A", "101": b"\x1b-B", "109": b"\x1b-C", "110": b"\x1b-D", "144": b"\x1b-L", "127": b"\x1b-G",
    "126": b"\x1b-F", "138": b"\x1b-H", "148": b"\x1b-M", "203": b"\x1b-b", "13": b"\x1b)I", "166": b"\x1b-T",
}  # fmt: skip
_MULTI: Final = {
    "58": _Set("gb2312", b"\x1b$)A"),
    "149": _Set("euc_kr", b"\x1b$)C"),
    "87": _Set("iso2022_jp", b"\x1b$B", low=True, own=True),
    "159": _Set("iso2022_jp_2", b"\x1b$(D", low=True, own=True),
}
_RESETS: Final = frozenset("\r\n\f\t\\")
_DESIGNATIONS: Final = {
    **{(escape.decode()): _SINGLE[number] for number, escape in _ESCAPES.items()},
    **{one.escape.decode(): one.codec for one in _MULTI.values()},
    "\x1b(J": "ascii",
}


def known(charset: Sequence[str]) -> bool:
    """Whether all values of (0008,0005) are ones that are taken here."""
    values = _values(charset)
    if len(values) == 1:
        return values[0] in _ALONE or _number(values[0]) in _SINGLE or _number(values[0]) in _MULTI
    return all(_number(value) in _SINGLE or _number(value) in _MULTI for value in values)


def extended(charset: Sequence[str]) -> bool:
    """Whether the ideographs of this character set are reached by code extensions; then the first group of a PN cannot have any."""
    values = _values(charset)
    return values[0] not in _ALONE


def encode(text: str, charset: Sequence[str], *, name: bool = False) -> bytes:
    """Raises UnicodeEncodeError where a character is in none of the sets. `name`: text of a PN."""
    values = _values(charset)
    if values[0] in _ALONE:
        return text.encode(_ALONE[values[0]])
    first = "ascii" if _number(values[0]) in _MULTI else _SINGLE[_number(values[0])]
    if len(values) == 1 and values[0] not in ("ISO 2022 IR 58", "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO 2022 IR 159"):
        return text.encode(first)
    return _extended(text, first, _sets(values), _RESETS | frozenset("^=") if name else _RESETS)


def decode(raw: bytes, charset: Sequence[str]) -> str:
    """Bytes that are not of the character set become U+FFFD: they match nothing."""
    values = _values(charset)
    if values[0] in _ALONE:
        return raw.decode(_ALONE[values[0]], "replace")
    first = "ascii" if _number(values[0]) in _MULTI else _SINGLE.get(_number(values[0]), "ascii")
    if b"\x1b" not in raw:
        return raw.decode("latin_1" if first == "ascii" and raw.isascii() else first, "replace")
    return _unescaped(raw, first)


def _values(charset: Sequence[str]) -> list[str]:
    return [value.strip() for value in charset] or [""]


def _number(value: str) -> str:
    for prefix in ("ISO_IR ", "ISO 2022 IR ", "ISO-IR "):
        if value.startswith(prefix):
            return value.removeprefix(prefix)
    return value


def _sets(values: Sequence[str]) -> list[_Set]:
    """The sets that escape sequences reach: all but a single-byte one that stands first."""
    found = []
    for index, value in enumerate(values):
        number = _number(value)
        if number in _MULTI:
            found.append(_MULTI[number])
        elif index and number:
            found.append(_Set(_SINGLE[number], _ESCAPES[number]))
    return found


def _extended(text: str, first: str, sets: Sequence[_Set], resets: frozenset[str]) -> bytes:
    out = bytearray()
    active: _Set | None = None  # what has been designated since the last reset
    back = b"\x1b(J" if first == "shift_jis" else b"\x1b(B"
    for character in text:
        plain = _encoded(character, first)
        chosen = None if plain is not None else next((one for one in sets if _bare(character, one) is not None), None)
        if plain is None and chosen is None:
            raise UnicodeEncodeError(first, text, text.index(character), text.index(character) + 1, "not in these character sets")
        if chosen is None:
            if active is not None and (active.low or (character in resets)):
                out += back if active.low else b""
                active = None
            out += plain or b""
            continue
        if chosen != active:
            out += (back if active is not None and active.low else b"") + chosen.escape
            active = chosen
        out += _bare(character, chosen) or b""
    return bytes(out + (back if active is not None and active.low else b""))


def _encoded(character: str, codec: str) -> bytes | None:
    try:
        raw = character.encode(codec)
    except UnicodeEncodeError:
        return None
    return None if codec == "shift_jis" and len(raw) > 1 else raw


def _bare(character: str, one: _Set) -> bytes | None:
    """A character by a set that has been designated, None where it has it not."""
    raw = _encoded(character, one.codec)
    if raw is None or not one.own:
        return raw
    return raw[len(one.escape) : len(one.escape) + 2] if raw.startswith(one.escape) else None


def _unescaped(raw: bytes, first: str) -> str:
    """Each run between two escape sequences by the set that was designated last."""
    out, codec = [], first
    pieces = raw.split(b"\x1b")
    out.append(pieces[0].decode(first, "replace"))
    for piece in pieces[1:]:
        escape = next((one for one in _DESIGNATIONS if piece.startswith(one[1:].encode())), "")
        codec = _DESIGNATIONS.get(escape, codec)
        if escape in ("\x1b(B", "\x1b(J"):
            codec = first
        rest = piece[len(escape) - 1 :] if escape else piece
        if codec.startswith("iso2022"):
            rest = escape.encode() + rest
        out.append(rest.decode(codec, "replace"))
    return "".join(out)
