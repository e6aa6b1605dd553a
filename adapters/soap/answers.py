"""What the client hears: an envelope as an HTTP answer, with the status of the binding, related to the request that it answers. Pure.

Sources: SOAP 1.1 clause 6.2 (faults are 500), SOAP 1.2 part 2 table 20 (400 for the sender's), WS-Addressing core clause 3.4.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from typing import Final

from adapters.soap.binding import Binding
from adapters.soap.reading import Reading
from engine.errors import ParseError
from engine.formats.soap import (
    RECEIVER,
    SENDER,
    SoapFault,
    SoapMessage,
    content_type,
    envelope,
    fault_envelope,
    package,
    read,
    read_fault,
    reply_headers,
)
from engine.formats.soap.names import local, qname
from engine.formats.soap.parts import LINE
from engine.formats.xml import parse
from engine.http_answers import Answer
from engine.message import Ack, Judgement, Verdict

LATER: Final = {"Retry-After": "5"}
_WORTH: Final = 1400
"""Bytes from which on it is compressed: about what one packet holds."""

Secure = Callable[[bytes, SoapMessage], bytes]
"""Signs an answer to a request."""


def fault_status(fault: SoapFault, version: str) -> int:
    return fault.status or (400 if version == "1.2" and fault.fault_code == SENDER else 500)


def fault_answer(found: Reading, fault: SoapFault, binding: Binding, *, compress: bool = False) -> Answer:
    """A fault that is not kept."""
    status = fault_status(fault, found.version)
    body = fault_envelope(found.version, fault, found.addressing)
    return _http(status, body, found.version, binding, compress=compress, headers=LATER if status == 503 else {})


def unavailable(text: str) -> SoapFault:
    """It is not the message's fault; send it again."""
    return SoapFault(RECEIVER, text, status=503)


def answer(
    ack: Ack, reply: Callable[[Judgement], bytes], found: Reading, binding: Binding, *, compress: bool, secure: Secure | None = None
) -> Answer:
    """What the engine has committed, or a destination has answered; where that cannot be said here, `reply` words the verdict: it is no
    XML, or it is in parts, and of another version of SOAP, or answers are to be signed."""
    examined = found.examined
    assert examined is not None
    accepted = ack.judgement.verdict is Verdict.ACCEPTED
    if accepted and (examined.one_way or found.addressing.answers_nowhere):
        return Answer(202)
    content = examined.relay(ack.judgement, ack.answer) if examined.relay is not None and ack.answer else ack.answer
    if secure is None and _in_parts(content, found.version):
        line, _, body = content.partition(b"\r\n\r\n")
        return Answer(200, [body], line[len(LINE) :].decode("latin-1"))
    written = _said(content, found) or _said(reply(ack.judgement), found)
    if not written:
        return fault_answer(found, SoapFault(RECEIVER, "there is no answer that could be said in SOAP"), binding, compress=compress)
    said = read(written)
    fault = read_fault(said.payload)
    status = 200 if fault is None else fault_status(fault, found.version)
    if ack.judgement.verdict is Verdict.UNAVAILABLE:
        status = 503
    if found.addressing.expected:
        written = _related(said, found)
    if secure is not None and found.message is not None:
        written = secure(written, found.message)
    if examined.packaged and binding.first:
        made = package(found.version, written, (), hashlib.sha256(written).hexdigest()[:40])
        return Answer(status, list(made.pieces()), made.content_type, LATER if status == 503 else {})
    return _http(status, written, found.version, binding, compress=compress, headers=LATER if status == 503 else {})


def _in_parts(content: bytes, version: str) -> bool:
    try:
        return content.startswith(LINE) and read(content).version == version
    except ParseError:
        return False


def _said(content: bytes, found: Reading) -> bytes:
    """An answer as an envelope of the request's version; one that is that already goes as it was worded, with its CDATA sections too, which
    some clients look for. A destination's may be of the other version, or what goes into one; b"" where it is nothing of all that."""
    try:
        root = parse(content)
        if local(root.tag) != "Envelope":
            return envelope(found.version, root)
        said = read(content)
    except ParseError:
        return b""
    if said.version == found.version:
        return content
    fault = read_fault(said.payload)
    if fault is not None:
        return fault_envelope(found.version, fault)
    return envelope(found.version, list(said.body))


def _related(said: SoapMessage, found: Reading) -> bytes:
    """With the headers that relate it to this request, which may be a repetition of the one that it was made for."""
    request = found.addressing
    uri = request.namespace
    before = [block for block in said.header if isinstance(block.tag, str)] if said.header is not None else []
    action = said.addressing.action or (found.examined.action if found.examined is not None else "") or f"{found.action}Response"
    related = (qname(uri, "Action"), qname(uri, "RelatesTo"), qname(uri, "MessageID"))
    kept = [block for block in before if block.tag not in related]
    return envelope(said.version, list(said.body), [*reply_headers(request, action, said.addressing.message_id), *kept])


def _http(status: int, body: bytes, version: str, binding: Binding, *, compress: bool, headers: dict[str, str]) -> Answer:
    if compress and binding.gzip and len(body) >= _WORTH:
        return Answer(
            status,
            [gzip.compress(body, 5, mtime=0)],
            content_type(version),
            {**headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
        )
    return Answer(status, [body], content_type(version), headers)
