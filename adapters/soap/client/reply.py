"""What a reply means for a delivery. Runs in a thread.

a fault                     by its codes, subcodes included: what the site lists, then those of the standards:
                            Server, Receiver: transient; Client, Sender, VersionMismatch, MustUnderstand, DataEncodingUnknown: permanent;
                            the codes of WS-Security about who we are: transient for the whole destination, as 401 and 403 are;
                            a code that nobody has defined: transient
401 403 408 425 429 503     as engine.http_client says, whatever the body says
other statuses, no fault    as engine.http_client says; 200, 202, 204 without a body are a receipt of one-way operations
200, no SOAP                uncertain: who knows what has answered
`accepted_when`             not so: as `otherwise` says; not to be found: uncertain
not as the WSDL says        uncertain, with `strict`

Sources: SOAP 1.1 clause 4.4 and 6.2, SOAP 1.2 part 1 clause 5.4, part 2 clause 7.5; WSS SOAP Message Security 1.1.1 clause 12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from lxml import etree

from adapters.soap.client.answer_paths import texts
from adapters.soap.client.pinned import Description, Operation
from engine.errors import DeliveryError, FramingError, ParseError, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.formats.soap import SoapMessage, kept_form, read
from engine.formats.soap.names import SOAP11, SOAP12, VERSIONS, local, namespace, qname
from engine.http1 import Message
from engine.http_client import refusal_of
from engine.http_coding import decoder
from engine.message import Receipt
from engine.options import Settings

_BY_STATUS: Final = frozenset({401, 403, 408, 425, 429, 503})
_EMPTY: Final = frozenset({200, 202, 204})
_TRANSIENT: Final = ("Server", "Receiver")
_PERMANENT: Final = ("Client", "Sender", "VersionMismatch", "MustUnderstand", "DataEncodingUnknown")
_IDENTITY: Final = ("FailedAuthentication", "FailedCheck", "InvalidSecurity", "InvalidSecurityToken", "SecurityTokenUnavailable")
_MOST_KEPT: Final = 256 << 10
_CODE: Final = re.compile(r"[A-Za-z_][\w.-]{0,39}")
_WSS: Final = "oasis-200401-wss-wssecurity"


class Replies:
    """`options` are the destination's."""

    def __init__(self, options: Settings, description: Description, clock: Callable[[], int]) -> None:
        self._options, self._description, self._clock = options, description, clock

    def receipt(self, reply: Message, operation: Operation) -> Receipt:
        """Raises DeliveryError, whose text holds nothing of the reply but codes."""
        status = int(reply.start[1])
        if status in _EMPTY and not reply.body and operation.one_way:
            return Receipt(str(status))
        reply = self._unfolded(reply)
        content_type = reply.headers.get("content-type", "")
        kept = (kept_form(content_type) if content_type.lower().startswith("multipart/") else b"") + reply.body
        if status in _BY_STATUS:
            raise refusal_of(reply, kept[:_MOST_KEPT], self._clock)
        message = self._read(kept, reply)
        codes = fault_codes(message.payload)
        if codes:
            raise self._fault(codes, kept[:_MOST_KEPT])
        if not 200 <= status < 300:
            raise refusal_of(reply, kept[:_MOST_KEPT], self._clock)
        self._check_accepted(message, kept)
        if self._options.strict:
            self._check(message, operation, kept)
        return Receipt(self._reference(message), kept)

    def _unfolded(self, reply: Message) -> Message:
        """Without its content coding. One that cannot be undone is told as what it is, and left."""
        if "content-encoding" not in reply.headers:
            return reply
        try:
            coding = decoder({"content-encoding": reply.headers["content-encoding"]}, self._options.most_answer)
            body = b"".join(coding.feed(reply.body))
            coding.finish()
        except FramingError as error:
            if not 200 <= int(reply.start[1]) < 300:
                return reply
            raise UncertainDelivery(f"the reply cannot be read: {error.text}") from None
        return replace(reply, body=body)

    def _read(self, kept: bytes, reply: Message) -> SoapMessage:
        status = int(reply.start[1])
        try:
            return read(kept, charset=_charset(reply.headers.get("content-type", "")))
        except ParseError as error:
            if not 200 <= status < 300:
                raise refusal_of(reply, kept[:_MOST_KEPT], self._clock) from None
            raise UncertainDelivery(f"the server answered {status} with what is no SOAP: {error.text}", answer=kept[:_MOST_KEPT]) from None

    # --- faults ----------------------------------------------------------------------------------

    def _fault(self, codes: Sequence[str], kept: bytes) -> DeliveryError:
        names = [local(code) for code in codes]
        text = f"the service answered with the fault {' / '.join(filter(_CODE.fullmatch, names)) or 'of an unreadable code'}"
        faults = self._options.faults
        if _any(names, faults.permanent):
            return PermanentDelivery(text, answer=kept)
        if _any(names, faults.transient):
            return TransientDelivery(text, answer=kept)
        if any(_WSS in namespace(code) and local(code) in _IDENTITY for code in codes):
            return TransientDelivery(f"{text}: it does not take our identity", answer=kept, whole_destination=True)
        if _any(names[:1], _PERMANENT):
            return PermanentDelivery(text, answer=kept)
        return TransientDelivery(text, answer=kept)

    # --- what it says ----------------------------------------------------------------------------

    def _check_accepted(self, message: SoapMessage, kept: bytes) -> None:
        wanted = self._options.accepted_when
        if wanted is None:
            return
        said = texts(message.body, wanted.path)
        if not said:
            raise UncertainDelivery(
                "the reply does not say whether the message was accepted", location=wanted.path, answer=kept[:_MOST_KEPT]
            )
        if all(one in wanted.accepted for one in said):
            return
        refused = next(one for one in said if one not in wanted.accepted)
        text = f"the service did not accept it: {wanted.path} is {refused if _CODE.fullmatch(refused) else 'another value'}"
        transient = refused in wanted.transient or wanted.otherwise == "transient"
        raise (TransientDelivery if transient else PermanentDelivery)(
            text, location=wanted.path, answer=self._reason(message) or kept[:_MOST_KEPT]
        )

    def _reason(self, message: SoapMessage) -> bytes:
        path = self._options.accepted_when.reason
        return "\n".join(texts(message.body, path)).encode()[:_MOST_KEPT] if path else b""

    def _check(self, message: SoapMessage, operation: Operation, kept: bytes) -> None:
        """As zeep reads it. Its own texts may repeat values."""
        from zeep.exceptions import Error

        if operation.one_way:
            return
        found = str(message.payload.tag) if message.payload is not None else ""
        if operation.reply_root and found != operation.reply_root:
            raise UncertainDelivery(
                f"the reply is not the {local(operation.reply_root)} that the WSDL says: see strict", answer=kept[:_MOST_KEPT]
            )
        if message.parts:
            return
        try:
            with self._description.lock:
                operation.bound.process_reply(message.root)
        except (Error, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError):
            raise UncertainDelivery("the reply is not what the WSDL says: see strict", answer=kept[:_MOST_KEPT]) from None

    def _reference(self, message: SoapMessage) -> str:
        path = self._options.reference
        said = texts(message.body, path) if path else []
        payload = local(str(message.payload.tag)) if message.payload is not None else "an empty Body"
        return (said[0] if said else message.addressing.message_id or payload)[:200]


def fault_codes(payload: etree._Element | None) -> list[str]:
    """A fault's code, then its subcodes, with their namespaces as lxml writes them; empty where there is no fault."""
    if payload is None or local(str(payload.tag)) != "Fault" or namespace(str(payload.tag)) not in VERSIONS:
        return []
    if namespace(str(payload.tag)) == SOAP11:
        return [_resolved(payload.find("faultcode"))]
    code = payload.find(qname(SOAP12, "Code"))
    return list(_codes(code)) or [""]


def _codes(code: etree._Element | None) -> Iterator[str]:
    for _ in range(10):
        if code is None:
            return
        yield _resolved(code.find(qname(SOAP12, "Value")))
        code = code.find(qname(SOAP12, "Subcode"))


def _resolved(element: etree._Element | None) -> str:
    """A qualified name in content."""
    prefix, _, name = ((element.text or "") if element is not None else "").strip().rpartition(":")
    uri = element.nsmap.get(prefix or None) if element is not None else None
    return qname(uri, name) if uri else name


def _any(names: Sequence[str], listed: Any) -> bool:
    """``Server`` lists ``Server.Busy`` too (SOAP 1.1 clause 4.4.1)."""
    return any(name == one or name.startswith(f"{one}.") for name in names for one in listed)


def _charset(content_type: str) -> str:
    match = re.search(r';\s*charset="?([A-Za-z0-9._-]{1,40})', content_type, re.IGNORECASE)
    return match[1] if match and not content_type.lower().startswith("multipart/") else ""
