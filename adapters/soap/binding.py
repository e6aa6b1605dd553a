"""What the head of a request says of the message to come: the HTTP bindings of SOAP 1.1 (clause 6), SOAP 1.2 (part 2 clause 7) and MTOM
(clause 4.3). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine.errors import ParseError
from engine.formats.soap.media import MediaType, parse_media_type
from engine.formats.soap.names import MEDIA, RELATED, XOP_XML
from engine.formats.soap.parts import kept_form
from engine.http_answers import HttpRefusal

_VERSIONS: Final = {media: version for version, media in MEDIA.items()}
_TAKEN: Final = "the Content-Type must be text/xml (SOAP 1.1), application/soap+xml (SOAP 1.2) or multipart/related with one of them (MTOM)"


@dataclass(frozen=True, slots=True)
class Binding:
    """`version` is "" where only the envelope tells; of a message in parts it is a hint, since the envelope's part is what counts and some
    say text/xml of any (npm soap). `first` is what stands before the body in what is kept: b"" for plain XML.
    `action` is SOAPAction or the parameter action, without quotes. `gzip`: the client takes compressed answers."""

    version: str
    action: str = ""
    charset: str = ""
    first: bytes = b""
    gzip: bool = False


def bind(headers: Mapping[str, str]) -> Binding:
    """`headers` by lower-case name. Raises HttpRefusal: 415, 411."""
    if "content-length" not in headers and "transfer-encoding" not in headers:
        raise HttpRefusal(411, "the request has no body")
    said = headers.get("content-type", "")
    try:
        media = parse_media_type(said)
        version = _version(media)
        return Binding(
            version=version,
            action=_action(media, headers, version),
            charset=media.get("charset") if media.name != RELATED else "",
            first=kept_form(said) if media.name == RELATED else b"",
            gzip=_takes_gzip(headers.get("accept-encoding", "")),
        )
    except ParseError:
        raise HttpRefusal(415, _TAKEN) from None


def _version(media: MediaType) -> str:
    """Raises HttpRefusal 415."""
    if media.name in _VERSIONS:
        return _VERSIONS[media.name]
    inner = media.get("type").lower()
    if media.name == RELATED and inner == XOP_XML:
        return _VERSIONS.get(_start_info(media).name, "")
    if media.name == RELATED and inner in ("", *_VERSIONS):  # SOAP with attachments
        return _VERSIONS.get(inner, "")
    raise HttpRefusal(415, _TAKEN)


def _start_info(media: MediaType) -> MediaType:
    """A media type with parameters of its own, where a sender puts the action there."""
    return parse_media_type(media.get("start-info")) if media.get("start-info") else MediaType("")


def _action(media: MediaType, headers: Mapping[str, str], version: str) -> str:
    in_12 = media.get("action") or (_start_info(media).get("action") if media.name == RELATED else "")
    in_11 = headers.get("soapaction", "").strip().removeprefix('"').removesuffix('"')
    return in_11 if version == "1.1" else in_12 or in_11


def _takes_gzip(accepted: str) -> bool:
    """RFC 9110 clause 12.5.3."""
    for one in accepted.lower().split(","):
        coding, _, quality = one.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
