"""What an endpoint's service is: the part of a SOAP source that knows what is asked and what is answered. Pure.

The source takes the request in, proves who sent it, calls `examine` in a thread of a small pool (several at once: a service keeps
nothing between two calls that it does not guard), hands the envelope to the intake and, after the commit, says what `answer` made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from engine.formats.soap import SoapMessage
from engine.message import Judgement


@dataclass(frozen=True, slots=True)
class Request:
    """`action` is the wsa:Action, else SOAP 1.2's action parameter or SOAPAction without its quotes ("" = none). `peer` is the party
    that TLS or WS-Security proved ("" = none), `remote` is ``host:port``, `path` that of the endpoint, `headers` those of HTTP by
    lower-case name. `signed`: WS-Security proved `peer`."""

    message: SoapMessage
    action: str = ""
    peer: str = ""
    remote: str = ""
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    signed: bool = False
    received_at: int = 0


@dataclass(frozen=True, slots=True)
class Examined:
    """What the engine keeps of a request (engine.message.Envelope), and how it is answered.

    `judgement`: the content is at fault; kept under it, and answered in its sense. `answer` words the body of the answer, an envelope of
    the request's SOAP version, for any judgement; it may raise SoapFault, which is then the answer that is kept. `one_way`: accepted ones
    are answered 202 without a body. `packaged`: a request that came as an MTOM package is answered by one. `content_digest` is compared
    when the key comes again: b"" for the SHA-256 of the body. `relay` makes the answer out of what a destination said, in a channel that
    answers with a destination's result. `action` is the wsa:Action of the answer ("" = that of the request with ``Response``); the headers
    of WS-Addressing are the source's matter, since a stored answer may be that to a repetition with another MessageID.
    """

    message_type: str
    control_id: str
    answer: Callable[[Judgement], bytes]
    sender: str = ""
    patient_ids: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str = ""
    judgement: Judgement | None = None
    one_way: bool = False
    packaged: bool = False
    content_digest: bytes = b""
    relay: Callable[[Judgement, bytes], bytes] | None = None
    action: str = ""


class Service(Protocol):
    """Raises SoapFault for what is answered with a fault and not kept."""

    def wsdl(self, address: str) -> bytes:
        """The WSDL, with `address` as that of the endpoint. It refers to schemas as ``address?xsd=NAME``."""

    def schema(self, name: str, address: str) -> bytes | None:
        """A file that the WSDL refers to, likewise; None where there is no such."""

    def understands(self, header: str) -> bool:
        """Whether the service heeds a header block (``{namespace}local``) that says mustUnderstand. The source itself does WS-Addressing
        and, where that is configured, WS-Security."""

    def examine(self, request: Request) -> Examined:
        """Read what is asked. Raises SoapFault."""
