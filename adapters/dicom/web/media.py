"""Media types: Content-Type and Accept with their parameters (RFC 9110 clauses 8.3 and 12.5.1, PS3.18 clause 8.7). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from adapters.dicom.web.faults import WebRefusal
from engine.errors import ParseError
from engine.formats.media_types import MOST, read_media_type

DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
DICOM_FILE: Final = "application/dicom"
OCTETS: Final = "application/octet-stream"
RELATED: Final = "multipart/related"

_MOST_RANGES: Final = 50


@dataclass(frozen=True, slots=True)
class MediaType:
    """``multipart/related; type="application/dicom"``: `name` and parameters in lower case, their values as they are."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0

    @property
    def multipart(self) -> bool:
        return self.name in (RELATED, "multipart/*")

    @property
    def inner(self) -> str:
        """The type of the parts, where this is a multipart type; its own name otherwise."""
        return self.parameters.get("type", "*/*").lower() if self.multipart else self.name

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax asked for (PS3.18 8.7.3.5.2): "" where none is, ``*`` for any."""
        return self.parameters.get("transfer-syntax", "")


def parse_media_type(text: str) -> MediaType:
    """One media type. Raises WebRefusal 400."""
    found = parse_accept(text)
    if len(found) != 1:
        raise WebRefusal(400, "the media type cannot be read")
    return found[0]


def parse_accept(text: str) -> list[MediaType]:
    """Media ranges, best first; what is not wanted (q=0) is left out. Raises WebRefusal 400."""
    if len(text) > MOST:
        raise WebRefusal(400, "the list of media types is too long")
    ranges: list[MediaType] = []
    at = 0
    while at < len(text) and len(ranges) < _MOST_RANGES:
        try:
            name, found, at = read_media_type(text, at)
        except ParseError as error:
            raise WebRefusal(400, error.text) from None
        parameters = dict(found)
        ranges.append(MediaType(name, parameters, _quality(parameters.pop("q", "1"))))
        if at < len(text) and text[at] != ",":
            raise WebRefusal(400, "a media type cannot be read")
        at += 1
    return sorted((one for one in ranges if one.quality > 0), key=lambda one: -one.quality)


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def acceptable(headers: Mapping[str, str], parameter: str = "") -> list[MediaType]:
    """What the client takes: the query parameter `accept` outweighs the header (PS3.18 8.3.3.1); without both, anything."""
    return parse_accept(parameter or headers.get("accept", "")) or [MediaType("*/*")]


def covers(wanted: str, offered: str) -> bool:
    """Whether the media range `wanted` has the type `offered`."""
    if wanted in ("*/*", offered):
        return True
    kind, _, rest = wanted.partition("/")
    return rest == "*" and offered.startswith(kind + "/")


def choose(wanted: Sequence[MediaType], offered: Mapping[str, str]) -> str:
    """The first of `offered` (name -> how it is sent: ``""`` alone, ``multipart`` in parts) that is wanted. Raises WebRefusal 406."""
    for one in wanted:
        for name, how in offered.items():
            if covers(one.inner, name) and (one.name == "*/*" or _as_wanted(one, how)):
                return name
    raise WebRefusal(406, f"here there is {' or '.join(_said(name, how) for name, how in offered.items())}")


def _as_wanted(one: MediaType, how: str) -> bool:
    return one.multipart is bool(how)


def _said(name: str, how: str) -> str:
    return f'{RELATED}; type="{name}"' if how else name
