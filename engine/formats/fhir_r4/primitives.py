"""Primitive types of FHIR R4 (R4 2.24.0): what their JSON values may be, and what to tell whoever sent another. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any, Final

from engine.errors import ParseError
from engine.formats import xml

_DATE: Final = r"([0-9]{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12][0-9]|3[01]))?)?"
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE: Final = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_DAY: Final = _DATE.replace(")?", ")")
_IS_DATE: Final = re.compile(_DATE)
_IS_DATE_TIME: Final = re.compile(rf"{_DATE}|{_DAY}T{_TIME}{_ZONE}")
_IS_INSTANT: Final = re.compile(rf"{_DAY}T{_TIME}{_ZONE}")
_IS_TIME: Final = re.compile(_TIME)
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_MOST_TEXT: Final = 1 << 20
_LARGEST: Final = (1 << 31) - 1
_INTEGERS: Final = {"integer": -(1 << 31), "unsignedInt": 0, "positiveInt": 1}
XHTML_NAMESPACE: Final = "http://www.w3.org/1999/xhtml"
# What txt-1 (R4 narrative) allows: HTML 4.0 chapters 7-11 and 15, and a and img. Nothing of it can run.
_XHTML: Final = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "address",
        "b",
        "bdo",
        "big",
        "blockquote",
        "br",
        "caption",
        "center",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "dfn",
        "dir",
        "div",
        "dl",
        "dt",
        "em",
        "font",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
    ]
)
_DIV_LIMITS: Final = xml.Limits(depth=60, elements=100_000)

WORDING: Final = {
    "base64Binary": "base64 in groups of four characters",
    "boolean": "true or false, without quotation marks",
    "canonical": "an address without blanks",
    "code": "a code without blanks at its ends",
    "date": "a date such as 2024-05-01, 2024-05 or 2024",
    "dateTime": "a date such as 2024-05-01, or with a time and its zone such as 2024-05-01T08:30:00+08:00",
    "decimal": "a number, without quotation marks, such as 1.50",
    "id": "1 to 64 letters, digits, hyphens and dots",
    "instant": "a time with its zone, such as 2024-05-01T08:30:00.000+08:00",
    "integer": "a whole number of 32 bits, without quotation marks",
    "markdown": "a text that is not empty, of at most 1 MB, without control characters",
    "oid": "an OID such as urn:oid:1.2.156",
    "positiveInt": "a whole number from 1 to 2147483647, without quotation marks",
    "string": "a text that is not empty, of at most 1 MB, without control characters",
    "time": "a time of day such as 08:30:00",
    "unsignedInt": "a whole number from 0 to 2147483647, without quotation marks",
    "uri": "an address without blanks",
    "url": "an address without blanks",
    "uuid": "a UUID such as urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "xhtml": "one XHTML div of formatting elements, without entities and anything that runs",
}


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MOST_TEXT and (value.isprintable() or not _NO_TEXT.search(value))


def _dated(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    """Of that form, and a day that the calendar has."""

    def fits(value: Any) -> bool:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            return False
        year, month, day = (int(part) for part in (value[:4], value[5:7] or "1", value[8:10] or "1"))
        try:
            date(year, month, day)
        except ValueError:
            return False
        return True

    return fits


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: value.__class__ is int and least <= value <= _LARGEST


def _decimal(value: Any) -> bool:
    return value.__class__ is int or (isinstance(value, float) and math.isfinite(value))


def _base64(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    packed = "".join(value.split())
    return len(packed) % 4 == 0 and packed != "" and _BASE64.fullmatch(packed) is not None


def _xhtml(value: Any) -> bool:
    try:
        root = xml.parse(value.encode(), _DIV_LIMITS) if isinstance(value, str) else None
    except (ParseError, UnicodeEncodeError):
        return False
    return root is not None and is_narrative(root)


def is_narrative(div: Any) -> bool:
    """Whether an lxml element is a div of what a narrative may have (txt-1): elements, and no attribute that runs."""
    if div.tag != f"{{{XHTML_NAMESPACE}}}div":
        return False
    for one in div.iter():
        space, _, name = str(one.tag).rpartition("}")
        if space != f"{{{XHTML_NAMESPACE}" or name not in _XHTML:
            return False
        if any(key.lower().startswith("on") or "script:" in text.lower() for key, text in one.attrib.items()):
            return False
    return True


FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "base64Binary": _base64,
    "boolean": lambda value: value.__class__ is bool,
    "canonical": _matches(re.compile(r"\S+")),
    "code": _matches(re.compile(r"\S+(?:\s\S+)*")),
    "date": _dated(_IS_DATE),
    "dateTime": _dated(_IS_DATE_TIME),
    "decimal": _decimal,
    "id": _matches(re.compile(r"[A-Za-z0-9.\-]{1,64}")),
    "instant": _dated(_IS_INSTANT),
    "markdown": _text,
    "oid": _matches(re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")),
    "string": _text,
    "time": _matches(_IS_TIME),
    "uri": _matches(re.compile(r"\S+")),
    "url": _matches(re.compile(r"\S+")),
    "uuid": _matches(re.compile(r"urn:uuid:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")),
    "xhtml": _xhtml,
    **{kind: _whole(least) for kind, least in _INTEGERS.items()},
}
"""For each primitive type whether a JSON value, as engine.formats.fhir.parse gives it, is one."""
