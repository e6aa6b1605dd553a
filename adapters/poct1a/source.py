"""The POCT1-A source: listens, holds a `Conversation` with each device, hands observations and events to the intake."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone

from adapters.poct1a.conversation import Conversation, End, Fault, Keep, Say, State, Step
from adapters.poct1a.framing import Poct1aFramer
from adapters.poct1a.intake import envelope_of, unread
from engine.errors import ConfigError, FramingError, ParseError
from engine.formats.poct1a import HELLO, parse
from engine.listening import listen
from engine.message import Ack, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake
    from engine.options import Settings

FAULTS: Final = {
    "broken": "bytes that are no POCT1-A message, kept; the connection is closed",
    "crowded": "too many connections",
    "idle": "a device fell silent",
    "incomplete": "a message without its end, kept as invalid",
    "refused": "a message that was answered with an error",
    "unexpected": "a message that cannot be read or does not belong here",
}
"""What the label `fault` of ``meridian_poct1a_faults_total`` may be, and what the log says."""
_CONTROL_ID: Final = re.compile(rb"<HDR\.control_id\s[^>]*?V\s*=\s*[\"']([^\"'<>]{1,64})[\"']")


class Poct1aSource(Factory):
    """engine.contracts.Source"""

    noisy = False
    intake: Intake

    def __init__(self, options: Settings, context: Context) -> None:
        self.options, self.context = options, context
        self._connections: set[DeviceConnection] = set()
        self._port: Any = None
        self._stopped: Deferred[None] | None = None
        self._open = context.metrics.gauge("meridian_poct1a_connections", "open connections", channel=context.name)

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        try:
            self._port = listen(self, self.options, self.context)
        except ConfigError as error:
            return fail(error)
        return succeed(None)

    @property
    def port(self) -> int:
        """Where it listens (of use when the option said port 0)."""
        return int(self._port.getHost().port)

    def stop(self) -> Deferred[None]:
        if self._stopped is None:
            self._stopped = Deferred()
            port, self._port = self._port, None
            closed = succeed(None) if port is None else port.stopListening()
            for connection in list(self._connections):
                connection.stop()
            closed.addCallback(lambda _: self._look_stopped())
        stopped: Deferred[None] = Deferred()
        self._stopped.chainDeferred(stopped)
        return stopped

    def _look_stopped(self) -> None:
        if self._stopped is not None and self._port is None and not self._connections and not self._stopped.called:
            self._stopped.callback(None)

    def buildProtocol(self, addr: Any) -> DeviceConnection:
        return DeviceConnection(self)

    # --- what connections say --------------------------------------------------------------------

    def admit(self, connection: DeviceConnection) -> bool:
        """Whether one more connection fits; what does not is closed and audited."""
        if len(self._connections) >= self.options.connections:
            self.fault("crowded", connection)
            self.context.audit("poct1a.refused", channel=self.context.name, remote=connection.remote, reason="too many connections")
            return False
        self._connections.add(connection)
        self._open.set(len(self._connections))
        return True

    def gone(self, connection: DeviceConnection) -> None:
        self._connections.discard(connection)
        self._open.set(len(self._connections))
        self._look_stopped()

    def fault(self, kind: str, connection: DeviceConnection, **facts: Any) -> None:
        """Count and log one of FAULTS."""
        channel = self.context.name
        self.context.metrics.counter("meridian_poct1a_faults_total", "what goes wrong with devices", channel=channel, fault=kind).inc()
        self.context.log.warning(FAULTS[kind], extra={"channel": channel, "remote": connection.remote, **facts})


class DeviceConnection(Protocol):
    """One device. Messages are dealt with one after the other: what comes while one waits for its commit waits too."""

    transport: Any

    def __init__(self, source: Poct1aSource) -> None:
        self._source = source
        self._framer = Poct1aFramer(source.options.max_size)
        self._talk = Conversation(continuous=source.options.continuous, set_time=source.options.set_time)
        self._hello = b""
        self._waiting: list[bytes] = []
        self._keeping = self._stopping = self._gone = self._broken = False
        self._timer: DelayedCall | None = None
        self.remote = ""

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        self.remote = f"{peer.host}:{peer.port}"
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        if not self._source.admit(self):
            self.transport.abortConnection()
            return
        self._touch()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._touch()
        if self._framer.inside and not self._broken and not self._stopping:
            self._quarantine(self._framer.rest, "incomplete", "the connection ended within the message")
        self._look_done()

    def dataReceived(self, data: bytes) -> None:
        if self._stopping or self._broken:
            return
        self._touch()
        try:
            self._waiting += self._framer.feed(data)
        except FramingError as error:
            self._broken = True
            self._quarantine(self._framer.rest, "broken", error.text)
        self._go_on()

    def stop(self) -> None:
        """Take nothing new; close once what was handed to the intake is answered."""
        self._stopping = True
        self._waiting.clear()
        self._look_idle()

    # --- messages --------------------------------------------------------------------------------

    def _go_on(self) -> None:
        while self._waiting and not self._keeping:
            document = self._waiting.pop(0)
            self._deal_with(document)
        if self._keeping:
            self.transport.pauseProducing()
        elif not self._gone:
            self.transport.resumeProducing()
        self._look_idle()

    def _deal_with(self, document: bytes) -> None:
        try:
            root = parse(document)
        except ParseError as error:
            found = _CONTROL_ID.search(document)
            self._quarantine(document, "unexpected", error.text)
            self._carry_out(self._talk.refuse(found[1].decode("latin-1") if found else "", error.text, self._now()), document, None)
            return
        if root.tag == HELLO:
            self._hello = document
        self._carry_out(self._talk.heard(root, self._now()), document, root)

    def _carry_out(self, steps: Sequence[Step], document: bytes, root: Element | None) -> None:
        for step in steps:
            match step:
                case Say():
                    if not self._gone:
                        self.transport.write(step.document)
                case Keep() if root is not None:
                    self._keep(document, root, step.control_id)
                case Fault():
                    self._source.fault(step.kind, self)
                case End():
                    self._waiting.clear()
                    self.transport.loseConnection()

    def _keep(self, document: bytes, root: Element, control_id: str) -> None:
        self._keeping = True
        source = self._source
        envelope = envelope_of(self._hello, document, root, self._talk.device, self._peer(), self.remote, source.context.clock())
        source.intake(envelope, _reply).addCallback(self._kept, control_id)

    def _kept(self, ack: Ack, control_id: str) -> None:
        self._keeping = False
        judgement = ack.judgement
        reason = "" if judgement.verdict is Verdict.ACCEPTED else judgement.reason or judgement.verdict.value
        self._carry_out(self._talk.kept(control_id, reason, self._now()), b"", None)
        if not self._gone:
            self._go_on()
        self._look_done()

    def _quarantine(self, content: bytes, kind: str, reason: str) -> None:
        """Kept as invalid, where an operator finds it."""
        self._source.fault(kind, self, reason=reason)
        envelope = unread(content, self._peer(), self.remote, self._source.context.clock())
        self._source.intake(envelope, lambda _: b"", Judgement(Verdict.INVALID, reason, "207"))

    # --- ambient ---------------------------------------------------------------------------------

    def _peer(self) -> str:
        """The party that the connection has proven."""
        return "" if self._source.options.tls is None else self._source.context.tls.peer(self.transport)

    def _now(self) -> str:
        return datetime.fromtimestamp(self._source.context.clock() / 1e6, UTC).astimezone().isoformat(timespec="seconds")

    def _touch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        patience = self._source.options.idle or self._talk.device.patience
        self._timer = None if self._gone else self._source.context.reactor.callLater(patience, self._idle)

    def _idle(self) -> None:
        self._timer = None
        if self._keeping:
            self._touch()
            return
        self._source.fault("idle", self)
        self.transport.loseConnection()

    def _look_idle(self) -> None:
        ended = self._stopping or self._broken or self._talk.state is State.ENDED
        if ended and not self._keeping and not self._waiting and not self._gone:
            self.transport.loseConnection()

    def _look_done(self) -> None:
        if self._gone and not self._keeping:
            self._source.gone(self)


def _reply(judgement: Judgement) -> bytes:
    """engine.contracts.Reply: what is stored with the message; the acknowledgment itself has the number of its conversation."""
    return b"AA" if judgement.verdict is Verdict.ACCEPTED else b"AE"
