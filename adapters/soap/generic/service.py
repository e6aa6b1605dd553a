"""The service of the endpoint ``soap`` (adapters.soap.service.Service): operations out of a WSDL, ids by paths. Pure.

Requests are told apart by the element in Body and by their action; where the two speak of different operations, the request is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Final

from lxml import etree

from adapters.soap.generic.options import MESSAGE_ID
from adapters.soap.generic.responses import DEFAULT, Template
from adapters.soap.generic.wsdl import Description, Operation, load
from adapters.soap.service import Examined, Request
from engine.errors import ParseError
from engine.formats.soap import RECEIVER, SENDER, SoapFault, SoapMessage, envelope, value_at
from engine.formats.soap.names import WSA, local, namespace, qname
from engine.message import Judgement, Verdict

if TYPE_CHECKING:
    from engine.options import Settings

_LONGEST: Final = 256


@cache
def default_description(versions: frozenset[str]) -> Description:
    """The WSDL that is shipped, with ports of these versions."""
    with as_file(files("adapters.soap.generic") / "default.wsdl") as file:
        return load(file).only(versions)


class GenericService:
    """adapters.soap.service.Service. `new_id` and `clock` (microseconds UTC) are called in threads."""

    def __init__(self, options: Settings, new_id: Callable[[], str], clock: Callable[[], int]) -> None:
        self._options, self._new_id, self._clock = options, new_id, clock
        self._takes_any = options.wsdl is None
        self._description: Description = options.wsdl or default_description(frozenset(options.versions))
        template: Template | None = options.response.template
        self._template = template or (DEFAULT if self._takes_any else None)

    def wsdl(self, address: str) -> bytes:
        """Service"""
        return self._description.wsdl(address)

    def schema(self, name: str, address: str) -> bytes | None:
        """Service"""
        return self._description.schema(name, address)

    def understands(self, header: str) -> bool:
        """Service"""
        return False

    def examine(self, request: Request) -> Examined:
        """Service"""
        message = request.message
        operation = self._operation(request)
        control_id = self._first(message, self._options.control_id)
        if not control_id and MESSAGE_ID not in self._options.control_id:
            raise ParseError("the request has no id", location=self._options.control_id[0], hl7_code="101")
        who = request.peer or request.remote.rpartition(":")[0]
        return Examined(
            message_type=operation.name,
            control_id=control_id,
            answer=lambda judgement: self._answer(judgement, message, operation, control_id),
            sender=self._first(message, self._options.sender),
            patient_ids=tuple(filter(None, (self._at(message, path) for path in self._options.patient_ids))),
            idempotency_key=f"{who}|{control_id}" if control_id else "",
            one_way=operation.one_way,
            action=operation.response_action,
        )

    def _first(self, message: SoapMessage, paths: Sequence[str]) -> str:
        return next(filter(None, (self._at(message, path) for path in paths)), "")

    def _at(self, message: SoapMessage, path: str) -> str:
        """Raises ParseError where what is there cannot be an id."""
        if path == MESSAGE_ID:
            return message.addressing.message_id
        found = value_at(message.header if path.startswith("Header/") else message.payload, path) or ""
        if len(found) > _LONGEST:
            raise ParseError(f"an id has more than {_LONGEST} characters", location=path)
        return found

    # --- which operation -------------------------------------------------------------------------

    def _operation(self, request: Request) -> Operation:
        """Raises SoapFault."""
        message, action = request.message, request.action
        root = message.payload.tag if message.payload is not None else ""
        by_root = [one for one in self._description.operations if one.root == root]
        by_action = [one for one in self._description.operations if action in one.actions]
        both = [one for one in by_action if one in by_root or not one.root]
        if both:
            return both[0]
        if self._takes_any and root:
            return by_root[0] if by_root else Operation(local(root), root)
        if by_action:
            raise SoapFault(SENDER, "the element in Body is not that of the operation that the action names", location="Body")
        if len(by_root) == 1 and not message.addressing.action:
            return by_root[0]
        if by_root or not root:
            raise _unknown_action(message)
        raise SoapFault(SENDER, "the service has no operation with this element", location="Body")

    # --- the answer ------------------------------------------------------------------------------

    def _answer(self, judgement: Judgement, message: SoapMessage, operation: Operation, control_id: str) -> bytes:
        """Raises SoapFault."""
        code = self._options.response.codes.get(judgement.verdict.value)
        if code is None:
            raise _fault(judgement)
        return envelope(message.version, self._payload(judgement, code, operation, control_id))

    def _payload(self, judgement: Judgement, code: str, operation: Operation, control_id: str) -> etree._Element | None:
        if self._template is None:
            return _empty(operation.response) if operation.response else None
        now = datetime.fromtimestamp(self._clock() / 1e6, UTC).astimezone()
        return self._template.filled(
            {
                "message.id": control_id,
                "answer.id": self._new_id(),
                "time": now.isoformat(timespec="milliseconds"),
                "time.hl7": now.strftime("%Y%m%d%H%M%S"),
                "code": code,
                "text": judgement.reason,
            }
        )


def _unknown_action(message: SoapMessage) -> SoapFault:
    subcode = qname(WSA, "ActionNotSupported") if message.addressing.expected else ""
    return SoapFault(SENDER, "the service has no operation with this action", subcode)


def _fault(judgement: Judgement) -> SoapFault:
    if judgement.verdict is Verdict.UNAVAILABLE:
        return SoapFault(RECEIVER, judgement.reason or "the message cannot be taken now", status=503)
    return SoapFault(SENDER, judgement.reason or "the message is not taken", location=judgement.location)


def _empty(name: str) -> etree._Element:
    return etree.Element(name, nsmap={"r": namespace(name)} if namespace(name) else None)
