"""HIPMessageServer: reads a call, finds its service, checks message and document, words the answer.

adapters.soap.service.Service, pure; called in several threads at once (the schemas guard themselves).
What a sender sent wrong is answered AE in HTTP 200, as the standard has it; a fault is for what is no call of this operation at all.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from adapters.soap.hip import relaying
from adapters.soap.hip.answers import Acknowledging, acknowledgement, response
from adapters.soap.hip.documents import Looked, look
from adapters.soap.hip.schemas import CDAS, SERVICES, SchemaFault, Schemas
from adapters.soap.hip.style import SHIPPED, Style, shipped, style_of
from adapters.soap.hip.wsdl import wsdl
from adapters.soap.service import Examined
from engine.errors import ConfigError, ParseError
from engine.formats.hip import Call, Header, Kind, Service, call_of, header_of, patients_of, service_of
from engine.formats.hip.documents import REGISTER
from engine.formats.soap import SENDER, SoapFault, canonical_form, envelope
from engine.formats.xml import Limits
from engine.message import Judgement, Verdict

if TYPE_CHECKING:
    from adapters.soap.service import Request
    from engine.contracts import Context
    from engine.formats.soap import SoapMessage
    from engine.options import Settings

_MOST_SHOWN: Final = 5
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/#-]{1,200}")
NOT_SERVED: Final = Judgement(Verdict.REFUSED, "queries of this service are not served here 此处不提供该查询服务", "200")
NO_RESULT: Final = Judgement(Verdict.INVALID, "no answer to the query 查询没有结果或超时", "207")


@dataclass
class _Reading:
    """What is known of a request so far: enough for an answer at any step."""

    message: SoapMessage
    peer: str = ""
    call: Call | None = None
    service: Service | None = None
    header: Header = field(default_factory=Header)
    judgement: Judgement | None = None
    facts: dict[str, str] = field(default_factory=dict)

    def invalid(self, text: str, location: str = "", hl7_code: str = "207") -> None:
        """The first fault is the answer."""
        self.judgement = self.judgement or Judgement(Verdict.INVALID, text, hl7_code, location)


class HipService:
    """One endpoint's."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.style: Style = style_of(options)
        self._limits = Limits(size=options.most_envelope, depth=options.most_depth)
        self._schemas = Schemas(options.schemas) if options.schemas is not None and options.validation != "off" else None
        self._actions: Mapping[str, str] = options.actions
        self._counting = threading.Lock()
        self._counter = context.metrics.counter(
            "meridian_hip_schema_faults_total", "what messages have that their schema does not allow", channel=context.name
        )

    # --- the description -------------------------------------------------------------------------

    def wsdl(self, address: str) -> bytes:
        return wsdl(self.style, address)

    def schema(self, name: str, address: str) -> bytes | None:
        return None  # the types stand in the WSDL

    def understands(self, header: str) -> bool:
        return False

    # --- a request -------------------------------------------------------------------------------

    def examine(self, request: Request) -> Examined:
        """Raises SoapFault: another SOAP version, another operation."""
        self._check_operation(request.message)
        reading = _Reading(request.message, request.peer)
        try:
            self._read(reading)
        except ParseError as error:
            reading.invalid(error.text, error.location, error.hl7_code)
        else:
            self._check(reading)
        return self._examined(reading)

    def _check_operation(self, message: SoapMessage) -> None:
        style = self.style
        if message.version not in style.versions:
            raise SoapFault(SENDER, f"this endpoint takes SOAP {' and '.join(style.versions)}")
        expected = f"{{{style.namespace}}}{style.operation}"
        if message.payload is None or message.payload.tag != expected:
            raise SoapFault(SENDER, _other_operation(message.payload, style), location="Body")

    def _read(self, reading: _Reading) -> None:
        """Call, header, service, in an order that leaves most to answer with."""
        reading.call = call_of(reading.message, self.style.layout, self._limits)
        reading.header = header_of(reading.call.element)
        reading.facts.update(_facts(reading.header, reading.call))
        reading.service = service_of(reading.call.action, reading.call.element, self._actions)
        if not reading.header.id:
            raise ParseError("the message has no id 缺少消息流水号", location="id/@extension", hl7_code="101")

    def _check(self, reading: _Reading) -> None:
        call, service = reading.call, reading.service
        assert call is not None
        assert service is not None
        reading.facts.update(service=service.name, kind=str(service.kind), subject=service.subject)
        faults = self._schema_faults(f"{SERVICES}/{service.name}", call.element, reading)
        if service.name == REGISTER and self._options.documents != "off":
            faults += self._document(call.element, reading)
        if faults and self._options.validation == "strict":
            shown = "; ".join(str(fault) for fault in faults[:_MOST_SHOWN])
            more = f" (+{len(faults) - _MOST_SHOWN})" if len(faults) > _MOST_SHOWN else ""
            reading.invalid(f"the message breaks its schema 消息不符合规范: {shown}{more}", faults[0].place, "102")
        if service.kind is Kind.QUERY and not self._context.answered:
            reading.judgement = reading.judgement or NOT_SERVED

    def _document(self, element: Any, reading: _Reading) -> list[SchemaFault]:
        looked: Looked = look(element)
        reading.facts["document"] = looked.fact
        if looked.fault and self._options.documents == "check":
            reading.invalid(looked.fault, looked.location)
        if looked.root is None or not looked.code.isalnum():
            return []
        return self._schema_faults(f"{CDAS}/{looked.code}", looked.root, reading, "document_schema")

    def _schema_faults(self, name: str, element: Any, reading: _Reading, fact: str = "schema") -> list[SchemaFault]:
        """And what is said of them: counted, logged, kept as a fact, whether they matter or not."""
        if self._schemas is None:
            return []
        try:
            faults = self._schemas.faults(name, element)
        except ConfigError as error:
            self._log(logging.ERROR, "a schema cannot be used", reading, reason=error.text)
            faults = None
        if faults is None:
            reading.facts[fact] = "not checked"
            return []
        reading.facts[fact] = f"{len(faults)} faults: {'; '.join(map(str, faults[:_MOST_SHOWN]))}" if faults else "valid"
        if faults:
            with self._counting:
                self._counter.inc(len(faults))
            self._log(
                logging.WARNING, "a message breaks its schema", reading, schema=name, faults=[str(one) for one in faults[:_MOST_SHOWN]]
            )
        return faults

    def _log(self, level: int, event: str, reading: _Reading, **facts: Any) -> None:
        self._context.log.log(level, event, extra={"channel": self._context.name, "control_id": reading.header.id, **facts})

    # --- what is kept and answered ---------------------------------------------------------------

    def _examined(self, reading: _Reading) -> Examined:
        header, call, service = reading.header, reading.call, reading.service
        patients = patients_of(call.element) if call is not None else ()
        query = service is not None and service.kind is Kind.QUERY
        return Examined(
            message_type=service.name if service is not None else reading.facts.get("root", ""),
            control_id=header.id,
            sender=header.sender,
            patient_ids=tuple(dict.fromkeys(one.extension for one in patients)),
            facts=reading.facts,
            idempotency_key=f"{reading.peer}|{header.sender}|{header.id}" if header.id and not query and service is not None else "",
            judgement=reading.judgement,
            answer=lambda judgement: self._answer(reading, judgement),
            relay=(lambda judgement, answer: self._relay(reading, judgement, answer)) if self._context.answered else None,
            content_digest=_digest(call) if call is not None else b"",
            action=f"{self.style.action_uri or self.style.operation}Response",
        )

    def _answer(self, reading: _Reading, judgement: Judgement) -> bytes:
        """Of a query that was taken, the answer would be a destination's: where this is called nobody gave one."""
        if judgement.verdict is Verdict.ACCEPTED and reading.service is not None and reading.service.kind is Kind.QUERY:
            judgement = NO_RESULT
        return self._enveloped(reading, acknowledgement(self._acknowledging(), reading.header, judgement))

    def _relay(self, reading: _Reading, judgement: Judgement, answer: bytes) -> bytes:
        """What a destination said is the answer, where it is an HL7 v3 message; otherwise only whether it went well. An answer of our own
        stays as it was committed."""
        element = relaying.interaction(answer)
        if element is None:
            return self._answer(reading, judgement)
        if relaying.encloses(answer, f"{{{self.style.namespace}}}{self.style.response}"):
            return answer
        return self._enveloped(reading, element)

    def _acknowledging(self) -> Acknowledging:
        """The standard's ids have 32 to 36 characters."""
        now, new_id = self._context.clock(), self._context.new_id()
        at = datetime.fromtimestamp(now / 1e6, UTC).astimezone(self._options.zone)
        unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{self._context.node}/{self._context.name}/{new_id}/{now}")
        return Acknowledging(str(unique), at.strftime("%Y%m%d%H%M%S"), self._options.device or "")

    def _enveloped(self, reading: _Reading, answer: Any) -> bytes:
        return envelope(reading.message.version, response(self.style, answer))


def _other_operation(payload: Any, style: Style) -> str:
    """Whose names these are, where it is a vendor's that is known."""
    name = etree.QName(payload) if payload is not None else None
    came = f"{_shown(name.localname)} of namespace {_shown(name.namespace or 'none')}" if name is not None else "an empty Body"
    known = sorted(
        one
        for one in SHIPPED
        if name is not None and (shipped(one)["namespace"], shipped(one)["operation"]) == (name.namespace, name.localname)
    )
    hint = f" (these are the names of style {' or '.join(known)})" if known else ""
    return (
        f"this is {came}{hint}, and the operation here is {style.operation} of namespace {style.namespace}: see ?wsdl 服务名或命名空间不符"
    )


def _shown(name: str) -> str:
    """A sender's word in a text that is logged: only what looks like a name or a namespace."""
    return name if _PLAIN.fullmatch(name) else "(not a name)"


def _facts(header: Header, call: Call) -> dict[str, str]:
    """For a channel's `accept` and `filter`; only what is said."""
    said = {
        "action": call.action,
        "root": etree.QName(call.element).localname,
        "interaction": header.interaction,
        "created": header.created,
        "receiver": header.receiver,
        "processing_code": header.processing_code,
        "accept_ack_code": header.accept_ack_code,
    }
    return {name: value[:128] for name, value in said.items() if value}


def _digest(call: Call) -> bytes:
    """Of the message itself: what stands around it (addressing, security) differs when it is sent again."""
    return hashlib.sha256(call.action.encode() + b"\0" + canonical_form(call.element)).digest()
