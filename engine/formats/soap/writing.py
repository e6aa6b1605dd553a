"""Messages as they go onto the wire: an envelope, and an envelope with attachments out of files that are never whole in memory.

Sources: SOAP 1.1 clause 4, SOAP 1.2 part 1 clause 5, MTOM clause 3, XOP clause 4 (packages), RFC 2387, RFC 2392 (cid URLs).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lxml import etree

from engine.errors import LocalProtocolError
from engine.formats.soap.addressing import FAULT_ACTION, SOAP_FAULT_ACTION, Addressing, reply_headers
from engine.formats.soap.faults import SoapFault, fault_headers
from engine.formats.soap.media import quoted
from engine.formats.soap.names import ENVELOPES, MEDIA, RELATED, WSA, XOP, XOP_XML, namespace, qname

_PREFIX: Final = {"1.1": b"soap", "1.2": b"env"}
_BLOCK: Final = 256 << 10
_ROOT: Final = "root@meridian"


def envelope(
    version: str, payload: etree._Element | Iterable[etree._Element] | None = None, headers: Iterable[etree._Element] = ()
) -> bytes:
    """An Envelope in UTF-8. What it holds keeps its prefixes, which may be part of a value or of a signature."""
    uri, prefix = ENVELOPES[version], _PREFIX[version]
    header = b"".join(map(_written, headers))
    if header:
        header = b"<%s:Header>%s</%s:Header>" % (prefix, header, prefix)
    elements = [payload] if isinstance(payload, etree._Element) else payload or ()
    body = b"".join(map(_written, elements))
    begin = b'<?xml version="1.0" encoding="UTF-8"?>\n<%s:Envelope xmlns:%s="%s">' % (prefix, prefix, uri.encode())
    return b"%s%s<%s:Body>%s</%s:Body></%s:Envelope>" % (begin, header, prefix, body, prefix, prefix)


def _written(element: etree._Element) -> bytes:
    written: bytes = etree.tostring(element, encoding="UTF-8", xml_declaration=False, with_tail=False)
    return written


def fault_envelope(version: str, fault: SoapFault, request: Addressing | None = None) -> bytes:
    """A fault that answers a request with these headers."""
    request = request or Addressing()
    action = FAULT_ACTION if namespace(fault.subcode) == WSA else SOAP_FAULT_ACTION
    return envelope(version, fault.element(version), [*reply_headers(request, action), *fault_headers(fault, version)])


def include(content_id: str) -> etree._Element:
    """The xop:Include that stands for a part."""
    return etree.Element(qname(XOP, "Include"), {"href": f"cid:{quote(content_id, safe='@.-_+=')}"}, nsmap={"xop": XOP})


@dataclass(frozen=True, slots=True)
class FilePart:
    """`length` bytes of a file from `offset` on."""

    path: Path
    offset: int
    length: int


Piece = bytes | FilePart


@dataclass(frozen=True, slots=True)
class Attachment:
    """What goes with an envelope. `content_id` is without angle brackets."""

    content_id: str
    content_type: str
    content: Piece


@dataclass(frozen=True, slots=True)
class Package:
    """A body: the Content-Type that says how it is to be read, and its pieces, whose length is known before the first byte is sent."""

    content_type: str
    content: Sequence[Piece]

    @property
    def length(self) -> int:
        return sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in self.content)

    def pieces(self, block: int = _BLOCK) -> Iterator[bytes]:
        """Everything, a block at a time. Raises OSError where a file is shorter than it was."""
        for piece in self.content:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from _blocks(piece, block)


def _blocks(piece: FilePart, block: int) -> Iterator[bytes]:
    with piece.path.open("rb") as file:
        file.seek(piece.offset)
        left = piece.length
        while left:
            read = file.read(min(block, left))
            if not read:
                raise OSError("the file is shorter than it was")
            left -= len(read)
            yield read


def content_type(version: str, action: str = "") -> str:
    """Of an envelope alone. SOAP 1.2 has the action there, 1.1 in the header SOAPAction."""
    said = f"; action={quoted(action)}" if action and version == "1.2" else ""
    return f"{MEDIA[version]}; charset=utf-8{said}"


def package(version: str, root: bytes, attachments: Sequence[Attachment], boundary: str, action: str = "") -> Package:
    """An envelope with its attachments, as MTOM has it. `boundary` must be one that no content can hold: a long random text. Raises
    LocalProtocolError where an attachment could not be told apart."""
    names = [attachment.content_id for attachment in attachments]
    plain = all(name and name.isascii() and name.isprintable() and name.strip("<> ") == name for name in names)
    if not plain or len({*names, _ROOT}) != len(names) + 1:
        raise LocalProtocolError("an attachment has no Content-ID of its own")
    said = f"; action={quoted(action)}" if action and version == "1.2" else ""
    inner = f"{XOP_XML}; charset=UTF-8; type={quoted(MEDIA[version])}{said}"
    content: list[Piece] = [_head(boundary, "", inner, _ROOT), root]
    for attachment in attachments:
        content += [_head(boundary, "\r\n", attachment.content_type, attachment.content_id), attachment.content]
    content.append(f"\r\n--{boundary}--\r\n".encode())
    start_info = f"; start-info={quoted(MEDIA[version])}"
    return Package(f'{RELATED}; type="{XOP_XML}"; boundary={quoted(boundary)}; start="<{_ROOT}>"{start_info}{said}', content)


def _head(boundary: str, before: str, kind: str, content_id: str) -> bytes:
    fields = f"Content-Type: {kind or 'application/octet-stream'}\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <{content_id}>"
    return f"{before}--{boundary}\r\n{fields}\r\n\r\n".encode("latin-1", "replace")
