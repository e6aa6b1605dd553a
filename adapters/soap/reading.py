"""From a body to what is kept and answered; pure, and run in threads: reading, the rules of SOAP, who sent it, what is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from adapters.soap.binding import Binding
from adapters.soap.service import Examined, Request, Service
from engine.errors import ParseError
from engine.formats.soap import (
    RECEIVER,
    SENDER,
    Addressing,
    AddressingError,
    SoapFault,
    SoapMessage,
    UnknownVersion,
    addressing_fault,
    content_digest,
    fault_envelope,
    must_understand,
    read,
    version_mismatch,
)
from engine.formats.soap.addressing import UNDERSTOOD
from engine.formats.soap.names import WSA, WSA_2004, local, namespace, qname
from engine.formats.xml import Limits
from engine.http_answers import HttpRefusal
from engine.message import SOAP, BodyRef, Envelope, Excerpt, Judgement, Verdict

_MOST_NAMED: Final = 50
WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"


class Proven(Protocol):
    """What WS-Security found: the party, "" for none, and whether the message is signed by it."""

    @property
    def party(self) -> str: ...
    @property
    def signed(self) -> bool: ...
    @property
    def repeated(self) -> bool:
        """These very bytes came before, which may be a sender that did not hear its answer: no fault where the engine tells repetitions."""


class Verifier(Protocol):
    """WS-Security of one endpoint (adapters.soap.security). Called in threads, several at once."""

    def verify(self, message: SoapMessage, now: int, *, digest: bytes, encrypted: bool) -> Proven:
        """Who sent it; `now` is in microseconds UTC, `digest` the SHA-256 of the body as kept, `encrypted`: it came by TLS. What it finds
        signed is of this very tree. Raises SoapFault."""

    def refuse_repeated(self, proven: Any) -> None:
        """Nobody else will notice that it came before. Raises SoapFault."""

    def secure(self, answer: bytes, message: SoapMessage) -> bytes:
        """Sign an answer, where that is asked for."""

    def forget(self, proven: Any) -> None:
        """The message was not kept after all, so that it may come again. Raises StoreError."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one endpoint. `versions` of SOAP, best first."""

    versions: tuple[str, ...]
    limits: Limits
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as the source knows it before it is read."""

    binding: Binding
    peer: str = ""
    remote: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    received_at: int = 0
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a body. `fault`: what its sender hears; with `examined` the message is kept all the same, as invalid. `proven` is what
    is remembered of it, and forgotten where it is not kept."""

    version: str
    addressing: Addressing = Addressing()  # noqa: RUF009  it is frozen
    message: SoapMessage | None = None
    examined: Examined | None = None
    fault: SoapFault | None = None
    peer: str = ""
    action: str = ""
    digest: bytes = b""
    proven: Proven | None = None


def reading(body: bytes, arrived: Arrived, rules: Rules, service: Service, verifier: Verifier | None) -> Reading:
    """Raises HttpRefusal 415, where the envelope is of another version than the Content-Type says; nothing else."""
    version = arrived.binding.version or rules.versions[0]
    try:
        message = read(body, rules.limits, arrived.binding.charset)
    except (UnknownVersion, AddressingError, ParseError) as error:
        offered = version if version in rules.versions else rules.versions[0]
        return Reading(offered, fault=_unreadable(error, rules), action=arrived.binding.action)
    if arrived.binding.version and message.version != arrived.binding.version and not arrived.binding.first:
        raise HttpRefusal(415, "the envelope is of another SOAP version than the Content-Type says")
    found = Reading(message.version, message.addressing, message, action=message.addressing.action or arrived.binding.action)
    try:
        _check(message, arrived.binding, rules, service, verifier)
        proven = _proven(verifier, message, body, arrived) if verifier is not None else None
    except SoapFault as fault:
        return replace(found, fault=fault)
    found = _examined(found, arrived, rules, service, proven)
    if proven is not None and proven.repeated and verifier is not None and found.examined and not found.examined.idempotency_key:
        try:
            verifier.refuse_repeated(proven)
        except SoapFault as fault:
            return replace(found, fault=fault, examined=None, proven=None)
    return found


def _proven(verifier: Verifier, message: SoapMessage, body: bytes, arrived: Arrived) -> Proven:
    if isinstance(body, Excerpt):
        with body.file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    else:
        digest = hashlib.sha256(body).digest()
    return verifier.verify(message, arrived.received_at, digest=digest, encrypted=arrived.encrypted)


def _unreadable(error: ParseError, rules: Rules) -> SoapFault:
    if isinstance(error, UnknownVersion):
        return version_mismatch(rules.versions)
    if isinstance(error, AddressingError):
        return addressing_fault(error)
    return SoapFault(SENDER, error.text, location=error.location)


def _check(message: SoapMessage, binding: Binding, rules: Rules, service: Service, verifier: Verifier | None) -> None:
    """What every endpoint asks of a message. Raises SoapFault."""
    if message.version not in rules.versions:
        raise version_mismatch(rules.versions)
    addressing = message.addressing
    if addressing.action and binding.action and addressing.action != binding.action:  # WS-Addressing SOAP binding 4.2
        error = AddressingError("wsa:Action and the action of the binding are not the same", subcode="InvalidAddressingHeader",
                                subsubcode="ActionMismatch", header=qname(addressing.namespace, "Action"))  # fmt: skip
        raise addressing_fault(error)
    if not addressing.answers_here and not addressing.answers_nowhere:
        error = AddressingError("answers go back on the connection only", subcode="InvalidAddressingHeader",
                                subsubcode="OnlyAnonymousAddressSupported", header=qname(addressing.namespace, "ReplyTo"))  # fmt: skip
        raise addressing_fault(error)
    strange = [block for block in message.to_understand() if not _understood(block.tag, service, verifier)]
    if strange:
        raise must_understand(strange[:_MOST_NAMED])


def _understood(tag: str, service: Service, verifier: Verifier | None) -> bool:
    if namespace(tag) in (WSA, WSA_2004):
        return local(tag) in UNDERSTOOD
    return (tag == qname(WSSE, "Security") and verifier is not None) or service.understands(tag)


def _examined(found: Reading, arrived: Arrived, rules: Rules, service: Service, proven: Proven | None) -> Reading:
    message = found.message
    assert message is not None
    peer = (proven.party if proven is not None else "") or arrived.peer
    request = Request(
        message=message,
        action=found.action,
        peer=peer,
        remote=arrived.remote,
        path=rules.path,
        headers=arrived.headers,
        signed=proven is not None and proven.signed,
        received_at=arrived.received_at,
    )
    found = replace(found, peer=peer, proven=proven)
    try:
        examined = service.examine(request)
        return replace(found, examined=examined, digest=examined.content_digest or content_digest(message))
    except SoapFault as refused:
        fault = refused
    except ParseError as error:
        fault = SoapFault(SENDER, error.text, location=error.location)
    if fault.fault_code == RECEIVER:
        return replace(found, fault=fault)
    return replace(found, fault=fault, examined=_kept_as_invalid(found, fault), digest=content_digest(message))


def _kept_as_invalid(found: Reading, fault: SoapFault) -> Examined:
    """Readable, and from who it should be: people will want to see it."""
    said = fault_envelope(found.version, fault, found.addressing)
    assert found.message is not None
    payload = found.message.payload
    return Examined(
        message_type=local(payload.tag) if payload is not None else "",
        control_id=found.addressing.message_id,
        answer=lambda _: said,
        judgement=Judgement(Verdict.INVALID, fault.text, fault.hl7_code, fault.location),
    )


def envelope(body: bytes | BodyRef, found: Reading, arrived: Arrived) -> Envelope:
    """The message as the engine keeps it."""
    examined = found.examined
    assert examined is not None
    facts: dict[str, Any] = dict(examined.facts)
    if arrived.binding.charset:
        facts.setdefault("charset", arrived.binding.charset)
    return Envelope(
        body=body,
        content_type=SOAP,
        message_type=examined.message_type,
        control_id=examined.control_id,
        sender=examined.sender,
        peer=found.peer,
        remote=arrived.remote,
        received_at=arrived.received_at,
        patient_ids=examined.patient_ids,
        idempotency_key=examined.idempotency_key,
        content_digest=found.digest,
        facts=facts,
    )
