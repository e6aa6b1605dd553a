"""What is taken in over plain HTTP: media types, as clients say them, and the content types of messages. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.http_answers import HttpRefusal
from engine.message import CDA, FHIR_JSON, FORM, HL7V2, JSON, ROWS, XML

ANY: Final = "any"
TEXT_PLAIN: Final = "text/plain"
CONTENT: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "json": (JSON, ("application/json", "text/json", "+json")),
    "fhir": (FHIR_JSON, ("application/fhir+json", "application/json")),
    "xml": (XML, ("application/xml", "text/xml", "+xml")),
    "cda": (CDA, ("application/hl7-cda+xml", "application/cda+xml", "application/xml", "text/xml")),
    "hl7v2": (HL7V2, ("application/hl7-v2", "application/hl7-v2+er7", "x-application/hl7-v2+er7")),
    "rows": (ROWS, ("application/rows+json",)),
    "form": (FORM, (FORM,)),
    "text": (TEXT_PLAIN, (TEXT_PLAIN,)),
    ANY: ("", ()),
}
"""Word in channel files -> the content type of messages, and the media types that it is said by (``+json``: any that ends so)."""
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([A-Za-z0-9._:-]{1,40})"?', re.IGNORECASE)
_MEDIA: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80}")
_UTF_8: Final = ("", "utf-8", "utf8", "us-ascii")
_IN_UTF_8: Final = (JSON, FHIR_JSON, ROWS, FORM)


@dataclass(frozen=True, slots=True)
class Medium:
    """What a request's content is: `media_type` as its client says it, `charset` where that is not what the content would say itself."""

    content_type: str
    media_type: str
    charset: str = ""


def medium(headers: Mapping[str, str], words: Sequence[str]) -> Medium:
    """Of a request, for a channel that takes `words`. Raises HttpRefusal 415 (RFC 9110 clause 15.5.16)."""
    said = headers.get("content-type", "")
    media_type = said.partition(";")[0].strip().lower()
    if not _MEDIA.fullmatch(media_type):
        raise HttpRefusal(415, f"Content-Type must say what is sent; taken is {_listed(words)}", headers=_accept(words))
    content_type = _content_type(media_type, words)
    if content_type is None:
        hint = ": send each file by itself" if media_type.startswith("multipart/") else ""
        raise HttpRefusal(415, f"this content type is not taken{hint}; taken is {_listed(words)}", headers=_accept(words))
    charset = _CHARSET.search(said)
    return Medium(content_type, media_type, _charset(charset[1].lower() if charset else "", content_type))


def _content_type(media_type: str, words: Sequence[str]) -> str | None:
    """The word that has it as its own name goes before one that only takes it too."""
    some = [CONTENT[word] for word in words]
    own = [content_type for content_type, said in some if media_type in said[:1]]
    taken = [content_type for content_type, said in some if media_type in said]
    alike = [content_type for content_type, said in some if any(one[0] == "+" and media_type.endswith(one) for one in said)]
    found = next(iter([*own, *taken, *alike]), None)
    return media_type if found is None and ANY in words and not media_type.startswith("multipart/") else found


def _charset(said: str, content_type: str) -> str:
    """JSON is in UTF-8 (RFC 8259 clause 8.1), and so are forms here."""
    if said in _UTF_8:
        return ""
    if content_type in _IN_UTF_8:
        raise HttpRefusal(415, "this content must be in UTF-8")
    try:
        codecs.lookup(said)
    except LookupError:
        raise HttpRefusal(415, "the character set is not known") from None
    return said


def _listed(words: Sequence[str]) -> str:
    said = [next(iter(CONTENT[word][1]), "anything but multipart") for word in words]
    return ", ".join(dict.fromkeys(said))


def _accept(words: Sequence[str]) -> dict[str, str]:
    """RFC 9110 clause 12.5.1: what may be sent instead."""
    said = [one for word in words for one in CONTENT[word][1] if not one.startswith("+")]
    return {"Accept": ", ".join(dict.fromkeys(said))} if said else {}


def content_types(words: Sequence[str]) -> tuple[str, ...]:
    """Of the messages of a channel that takes `words`; empty = anything."""
    return () if ANY in words else tuple(CONTENT[word][0] for word in words)


def guessed(body: bytes, words: Sequence[str]) -> str:
    """The content type of a body that came without a header, as files of tests do: by how it begins, else the first."""
    begin = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:3]
    for starts, kinds in (((b"MSH",), ("hl7v2",)), ((b"<",), ("xml", "cda")), ((b"{", b"["), ("json", "fhir", "rows"))):
        if begin.startswith(starts):
            word = next((word for word in words if word in kinds), "")
            if word:
                return CONTENT[word][0]
    return CONTENT[words[0]][0] or "application/octet-stream"
