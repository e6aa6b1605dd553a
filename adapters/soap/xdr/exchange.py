"""One SOAP 1.2 request over Meridian's own HTTP client, and what its answer says: with WS-Addressing and MTOM (IHE ITI TF-2 appendix V)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote
from uuid import UUID, uuid5

from lxml import etree

from adapters.soap.security import outgoing
from adapters.soap.security.canonical import ContentOf
from adapters.soap.security.refusal import Refusal
from engine.errors import ConfigError, DeliveryError, MessageError, ParseError, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.formats.soap import LIMITS, Attachment, Package, SoapMessage, content_type, envelope, kept_form, package, read, read_fault
from engine.formats.soap.names import RELATED, SOAP12, WSA, namespace, qname
from engine.formats.xml import parse
from engine.http_client import refusal_of

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message
    from engine.options import Settings

MOST_KEPT: Final = 64 << 10
"""Bytes that the store keeps of an answer."""
_NAMESPACE: Final = UUID("6f1f5d0c-4f0e-5c6a-9d0b-6a3f5e7c2b81")
_WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_ANSWERED: Final = frozenset({"200", "400", "500"})
"""Where the body is a SOAP message: an answer, or a fault (SOAP 1.2 part 2 table 17)."""

Secure = Callable[[etree._Element, ContentOf], None]
"""Adds WS-Security to a finished envelope, the last thing done to it; the second argument gives what is behind an xop:Include."""


def security(options: Settings | None, context: Context) -> Secure | None:
    """What the option `security` asks for. Raises ConfigError where key, certificate or password cannot be used."""
    if options is None:
        return None
    made = outgoing(options, context)

    def secure(element: etree._Element, content_of: ContentOf) -> None:
        try:
            made.secure(element, content_of)
        except ConfigError as error:
            raise TransientDelivery(f"the message cannot be signed just now: {error.text}", whole_destination=True) from None
        except Refusal as error:
            raise PermanentDelivery(f"the message cannot be signed: {error.text}") from None

    return secure


@dataclass(frozen=True, slots=True)
class Request:
    """What goes out: the headers of HTTP, and the body's pieces."""

    headers: dict[str, str]
    package: Package

    def pieces(self) -> Iterator[bytes]:
        """Raises PermanentDelivery where a file is no longer what it was."""
        try:
            yield from self.package.pieces()
        except OSError as error:
            raise PermanentDelivery(f"the attachments cannot be read back: {error.strerror or error}") from None


def request(
    url: str, action: str, payload: Any, new_id: str, attachments: Sequence[Attachment] = (), secure: Secure | None = None
) -> Request:
    """Pure, and may take a while: for a thread. `new_id` makes the MessageID. Always an MTOM package, as 3.41 and 3.43 want it. Raises
    LocalProtocolError where an attachment has no Content-ID of its own; DeliveryError where it cannot be signed."""
    root = _root(url, action, payload, new_id, attachments, secure)
    return _out(package("1.2", root, attachments, f"MIME-{secrets.token_hex(20)}", action), f"{RELATED}, application/soap+xml")


def query(url: str, action: str, payload: Any, new_id: str, secure: Secure | None = None) -> Request:
    """A request without attachments that goes as plain SOAP (3.18). Raises as `request` does."""
    root = _root(url, action, payload, new_id, (), secure)
    return _out(Package(content_type("1.2", action), [root]), f"application/soap+xml, {RELATED}")


def _out(made: Package, accept: str) -> Request:
    return Request({"Content-Type": made.content_type, "Content-Length": str(made.length), "Accept": accept}, made)


def _root(url: str, action: str, payload: Any, new_id: str, attachments: Sequence[Attachment], secure: Secure | None) -> bytes:
    """The envelope, addressed (IHE ITI TF-2 appendix V.3: Action must be understood)."""
    headers = [_header("To", url), _header("Action", action), _header("MessageID", f"urn:uuid:{uuid5(_NAMESPACE, new_id)}")]
    for block in headers[:2]:
        block.set(qname(SOAP12, "mustUnderstand"), "true")
    reply = etree.Element(qname(WSA, "ReplyTo"), nsmap={"wsa": WSA})
    etree.SubElement(reply, qname(WSA, "Address")).text = f"{WSA}/anonymous"
    root = envelope("1.2", payload, [*headers, reply])
    return root if secure is None else _secured(root, secure, attachments)


def _header(name: str, text: str) -> Any:
    element = etree.Element(qname(WSA, name), nsmap={"wsa": WSA})
    element.text = text
    return element


def _secured(root: bytes, secure: Secure, attachments: Sequence[Attachment]) -> bytes:
    by_id = {one.content_id: one for one in attachments}
    element = parse(root, LIMITS)
    secure(element, lambda include: Package("", [by_id[unquote(str(include.get("href"))[4:])].content]).pieces())
    written: bytes = etree.tostring(element, encoding="UTF-8", xml_declaration=True)
    return written


# --- the answer ---------------------------------------------------------------------------------------------


def kept_of(message: Message) -> bytes:
    """An answer in the form in which messages are kept. Raises ParseError."""
    said = message.headers.get("content-type", "")
    return (kept_form(said) if said.lower().startswith(RELATED) else b"") + message.body


def read_answer(message: Message, clock: Callable[[], int]) -> SoapMessage:
    """The SOAP message that answers us. Raises DeliveryError: what a refusal or a fault means; Uncertain for what cannot be read."""
    kept = message.body[:MOST_KEPT]
    status = message.start[1]
    if status not in _ANSWERED:
        if status.startswith("2"):
            raise UncertainDelivery(f"the server answered {status} without a SOAP message", answer=kept)
        raise refusal_of(message, kept, clock)
    try:
        answer = read(kept_of(message))
    except MessageError as error:
        if status != "200":
            raise refusal_of(message, kept, clock) from None
        raise UncertainDelivery(f"the answer cannot be read: {error.text}", answer=kept) from None
    if (fault := fault_of(answer, kept)) is not None:
        raise fault
    if status != "200":
        raise refusal_of(message, kept, clock)
    return answer


def fault_of(answer: SoapMessage, kept: bytes) -> DeliveryError | None:
    """A fault of the Receiver's may pass; one of WS-Security is about an agreement between two sites, and not about this message; any
    other says that the message is wrong (SOAP 1.2 part 1 table 4). Its text may hold anything, so it is only kept."""
    fault = read_fault(answer.payload)
    if fault is None:
        return None
    if _WSSE in (namespace(fault.subcode), namespace(fault.fault_code)):
        return TransientDelivery("the server does not accept our WS-Security", answer=kept, whole_destination=True)
    if fault.fault_code == "Receiver":
        return TransientDelivery("the server answered with a fault of its own", answer=kept)
    return PermanentDelivery(f"the server answered with a fault ({fault.fault_code})", answer=kept)


def unreadable(error: ParseError, kept: bytes) -> UncertainDelivery:
    return UncertainDelivery(f"the answer cannot be read: {error.text}", answer=kept)
