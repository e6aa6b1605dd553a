"""A SOAP message, 1.1 or 1.2, as it is kept (engine.message.SOAP): the envelope alone, or in the parts of MTOM.

Sources: SOAP 1.1 (W3C note) clause 4, SOAP 1.2 part 1 clause 5, WS-I Basic Profile 1.2 (R9980, R9981: Header, then Body, and nothing
behind; one element in Body), XOP 1.0 clause 4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from lxml import etree

from engine.errors import ParseError
from engine.formats.soap.addressing import Addressing, read_addressing
from engine.formats.soap.media import parse_media_type
from engine.formats.soap.names import MEDIA, SOAP11, SOAP12, VERSIONS, XMIME, XOP, XOP_XML, local, namespace, qname
from engine.formats.soap.parts import Cut, Part, Parts, cut, from_base64
from engine.formats.xml import Limits, parse

LIMITS: Final = Limits(size=64 << 20, depth=200)
"""Of the envelope; attachments are not in it."""
_INCLUDE: Final = qname(XOP, "Include")
_MOST_TIMES: Final = 4
_GRACE: Final = 16 << 20
"""Bytes that Includes may stand for whatever the parts have: a logo that stands in every line costs nothing."""
_ROLES: Final = {
    SOAP11: ("", "http://schemas.xmlsoap.org/soap/actor/next"),
    SOAP12: ("", f"{SOAP12}/role/next", f"{SOAP12}/role/ultimateReceiver"),
}


class UnknownVersion(ParseError):
    """An Envelope, of a SOAP that is neither 1.1 nor 1.2."""

    code = "message.soap_version"


@dataclass(frozen=True, slots=True, eq=False)
class SoapMessage:
    """`payload` is the element in Body, None where that is empty."""

    version: str
    root: etree._Element
    header: etree._Element | None
    body: etree._Element
    payload: etree._Element | None
    addressing: Addressing
    parts: Parts
    content_type: str = ""

    def content_of(self, element: etree._Element) -> Part:
        """What `element` holds: its xop:Include resolved, or its text as base64. Raises ParseError."""
        include = _include(element)
        kind = element.get(qname(XMIME, "contentType"), "")
        if include is not None:
            return _referred(include, self.parts)
        if len(element):
            raise ParseError("an element with other elements in it has no binary content", location=local(element.tag))
        try:
            return Part("", kind, from_base64((element.text or "").encode()))
        except ParseError as error:
            raise ParseError(error.text, location=local(element.tag)) from None

    def to_understand(self) -> Sequence[etree._Element]:
        """The header blocks that say mustUnderstand to us, the ultimate receiver (SOAP 1.2 part 1 clauses 2.2 and 5.2.3)."""
        if self.header is None:
            return ()
        uri = namespace(self.root.tag)
        role = qname(uri, "actor" if uri == SOAP11 else "role")
        flag = qname(uri, "mustUnderstand")
        return [
            block for block in self.header if block.get(flag, "").strip() in ("1", "true") and block.get(role, "").strip() in _ROLES[uri]
        ]


def read(body: bytes, limits: Limits = LIMITS, charset: str = "") -> SoapMessage:
    """A kept message. `charset` is what the transport said of a body that is plain XML. Raises ParseError: not SOAP, a part or a
    reference at fault; UnknownVersion, AddressingError."""
    pieces = cut(body)
    kind = parse_media_type(pieces.root.content_type) if pieces.root.content_type else None
    if pieces.media.name and (kind is None or kind.name not in (XOP_XML, *MEDIA.values())):
        raise ParseError("the root part of the message is not SOAP")
    if len(pieces.root.content) > limits.size:
        raise ParseError(f"the envelope has more than {limits.size} bytes")
    root = parse(bytes(pieces.root.content), limits, (kind.get("charset") if kind else "") or charset)
    return _message(root, pieces)


def _message(root: etree._Element, pieces: Cut) -> SoapMessage:
    version = VERSIONS.get(namespace(root.tag), "")
    if local(root.tag) != "Envelope":
        raise ParseError("the root element is no Envelope")
    if not version:
        raise UnknownVersion("the Envelope is of no SOAP version that is taken")
    uri = namespace(root.tag)
    children = [child.tag for child in root]
    if children not in ([qname(uri, "Body")], [qname(uri, "Header"), qname(uri, "Body")]):
        raise ParseError("an Envelope has a Header or none, then a Body, and nothing else", location="Envelope")
    header, body = root.find(qname(uri, "Header")), root[-1]
    if len(body) > 1:
        raise ParseError("a Body has one element", location="Body")
    _check_includes(root, pieces.parts)
    payload = body[0] if len(body) else None
    return SoapMessage(version, root, header, body, payload, read_addressing(header), pieces.parts, pieces.media.name)


def _check_includes(root: etree._Element, parts: Parts) -> None:
    """Each refers to a part, and all of them to little more than there is: readers go through a part as often as it is referred to."""
    referred = sum(_referred(include, parts).size for include in root.iter(_INCLUDE))
    if referred > _GRACE + _MOST_TIMES * sum(part.size for part in parts.values()):
        raise ParseError(f"the xop:Includes stand for more than {_MOST_TIMES} times what the message brings", location="xop:Include")


def content_digest(message: SoapMessage) -> bytes:
    """SHA-256 of the element in Body and of the attachments that it refers to: the same when a sender repeats itself, though it writes
    another header, names its parts anew or leaves out a line end between attributes (exclusive canonical XML)."""
    if message.payload is None:
        return hashlib.sha256().digest()
    includes = [(include, include.get("href", ""), _referred(include, message.parts)) for include in message.payload.iter(_INCLUDE)]
    for include, _, part in includes:
        include.set("href", part.sha256())
    written = canonical_form(message.payload)
    for include, href, _ in includes:
        include.set("href", href)
    return hashlib.sha256(written).digest()


def canonical_form(element: etree._Element) -> bytes:
    """Exclusive canonical XML, since inclusive takes a stranger's many namespaces to the square; as it is written where there is no
    canonical form: of namespaces that are relative references (Canonical XML 1.0 clause 1)."""
    written: bytes
    try:
        written = etree.tostring(element, method="c14n", exclusive=True, with_tail=False)
    except etree.C14NError:
        written = etree.tostring(element, encoding="UTF-8", with_tail=False)
    return written


def _include(element: etree._Element) -> etree._Element | None:
    return element[0] if len(element) == 1 and element[0].tag == _INCLUDE else None


def _referred(include: etree._Element, parts: Parts) -> Part:
    """Raises ParseError: not alone in its element, no cid, of no part."""
    holder = include.getparent()
    if holder is None or len(holder) != 1 or (holder.text or "").strip() or (include.tail or "").strip():
        raise ParseError("an xop:Include is not alone in its element", location="xop:Include")
    href = include.get("href", "")
    if not href.startswith("cid:"):
        raise ParseError("an xop:Include does not refer by cid", location="xop:Include")
    part = parts.get(unquote(href[4:])) or parts.get(href[4:])
    if part is None:
        raise ParseError("an xop:Include refers to a part that is not there", location="xop:Include")
    return part
