"""A channel's pure program: judge, decode, filter, route, map (engine.channel.Program)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engine import registry
from engine.channel import Order
from engine.contracts import Codec, Document, Mapper
from engine.errors import MessageError, ParseError, ValidationError
from engine.expressions import Predicate, all_hold
from engine.message import ACCEPTED, HL7V2, ORDER_KEY, BodyRef, Envelope, Excerpt, Judgement, Rendition, Status, Verdict
from engine.store.contract import Plan, Routed

_NOWHERE: Final = Plan(Status.FILTERED, reason="no destination asks for it")
_REFUSED: Final = Judgement(Verdict.REFUSED, "this channel does not accept this message", "200", "MSH-9")
_REFUSED_ELSEWHERE: Final = replace(_REFUSED, location="")


@dataclass(frozen=True, slots=True)
class Route:
    """One destination: which messages, mapped by what ("" = as they came), in which order."""

    name: str
    when: Sequence[Predicate]
    mapping: str
    order: Order


class _Message:
    """engine.expressions.Subject: an envelope, decoded when a path is first asked for."""

    __slots__ = ("_codec", "_document", "envelope")

    def __init__(self, envelope: Envelope, codec: Codec | None) -> None:
        self.envelope, self._codec = envelope, codec
        self._document: Document | None = None

    def fact(self, name: str) -> str:
        envelope = self.envelope
        if name == "type":
            return envelope.message_type
        if name == "patient_id":
            return envelope.patient_ids[0] if envelope.patient_ids else ""
        return str(getattr(envelope, name))

    def text(self, path: str) -> str:
        if self._document is None:
            self._document = self.decode()
        return self._document.get(path) or ""

    def decode(self) -> Document:
        body, codec = self.envelope.body, self._its_codec()
        if codec is None or isinstance(body, BodyRef):
            raise ParseError("this content has no codec, so its inside cannot be read")
        charset = self.envelope.facts.get("charset")
        decode_with = getattr(codec, "decode_with", None)
        if charset and decode_with is not None:
            document: Document = decode_with(body, charset)
            return document
        return codec.decode(body)

    def _its_codec(self) -> Codec | None:
        """A source of several content types has a codec for each."""
        own = self._codec
        return own if own is None or own.content_type == self.envelope.content_type else registry.codec(self.envelope.content_type) or own


class ChannelProgram:
    """Compiled once; every method is pure."""

    def __init__(
        self,
        codec: Codec | None,
        accept: Sequence[Predicate],
        filters: Sequence[Predicate],
        routes: Sequence[Route],
        mappers: Mapping[str, Mapper],
        validate: str = "none",
    ) -> None:
        self._codec, self._accept, self._filters, self._routes = codec, accept, filters, routes
        self._mappers, self._validate = mappers, validate
        self.light = not mappers
        predicates = [*filters, *(predicate for route in routes for predicate in route.when)]
        self.reads_content = bool(mappers) or any(predicate.paths for predicate in predicates)
        self.checks_content = validate != "none" or any(predicate.paths for predicate in accept)

    def judge(self, envelope: Envelope) -> Judgement:
        message = _Message(envelope, self._codec)
        try:
            if self._accept and not all_hold(self._accept, message):
                return _REFUSED if envelope.content_type == HL7V2 else _REFUSED_ELSEWHERE
            if self._validate == "hl7apy" and isinstance(envelope.body, bytes):
                from engine.formats.hl7v2 import conformance

                conformance.validate(envelope.body, charset=envelope.facts.get("charset"))
        except (ParseError, ValidationError) as error:
            return Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)
        return ACCEPTED

    def plan(self, envelope: Envelope) -> Plan:
        message = _Message(envelope, self._codec)
        try:
            if (drops := next((one for one in self._filters if not one.holds(message)), None)) is not None:
                return Plan(Status.FILTERED, reason=f"does not pass the filter {drops.source}")
            routes = [route for route in self._routes if not route.when or all_hold(route.when, message)]
            if not routes:
                return _NOWHERE
            renditions: dict[str, Rendition] = {}
            routed = tuple(self._routed(route, envelope, renditions) for route in routes)
            return Plan(Status.QUEUED, routed, unmapped=max((one.unmapped for one in renditions.values()), default=0))
        except MessageError as error:
            return Plan(Status.ERROR, reason=str(error), error_code=error.code)
        except Exception as error:  # noqa: BLE001  # the one boundary around third parties' codecs and mappings
            return Plan(Status.ERROR, reason=f"a bug in the mapping: {type(error).__name__}", error_code="message.mapping")

    def _routed(self, route: Route, envelope: Envelope, renditions: dict[str, Rendition]) -> Routed:
        own = envelope.facts.get(ORDER_KEY, "")
        patient = own or (envelope.patient_ids[0] if envelope.patient_ids else "")
        if not route.mapping:
            return Routed(route.name, order_key=patient if route.order is Order.BY_PATIENT else "")
        if route.mapping not in renditions:
            renditions[route.mapping] = self._map(route.mapping, envelope)
        rendition = renditions[route.mapping]
        key = (rendition.order_keys[0] if rendition.order_keys and not own else patient) if route.order is Order.BY_PATIENT else ""
        return Routed(route.name, rendition.body, rendition.content_type, rendition.message_type, key)

    def _map(self, mapping: str, envelope: Envelope) -> Rendition:
        mapper = self._mappers[mapping]
        if isinstance(envelope.body, BodyRef) or (isinstance(envelope.body, Excerpt) and not getattr(mapper, "headers", False)):
            raise ParseError("the content is too large to be mapped")
        return mapper.map(envelope.body, envelope.facts.get("charset"))
