"""The ASTM source over TCP: listens, runs a `Receiver` for each connection, hands messages to the intake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from adapters.astm.intake import Reader
from adapters.astm.link import ACK, NAK, Answer, Complete, Fault, Incomplete, Limits, Receiver, Step
from engine.errors import ConfigError
from engine.message import Ack, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.base import DelayedCall

    from engine.contracts import Context, Intake
    from engine.options import Settings

FAULTS: Final = {
    "checksum": "a frame with a wrong checksum",
    "crowded": "too many connections",
    "frame": "a frame that is not well formed",
    "incomplete": "a message without its end, kept as invalid",
    "noise": "bytes outside of any frame",
    "number": "a frame out of sequence",
    "repeated": "a frame that came before",
    "restart": "the sender began anew",
    "too_long": "a message longer than the channel takes",
    "unreadable": "a message that cannot be read, kept",
}
"""What the label `fault` of ``meridian_astm_faults_total`` may be, and what the log says."""


class AstmSource(Factory):
    """engine.contracts.Source"""

    noisy = False
    intake: Intake

    def __init__(self, options: Settings, context: Context) -> None:
        self.options, self._context = options, context
        self.reactor, self.reader = context.reactor, Reader(options, context.clock)
        self._connections: set[AstmConnection] = set()
        self._port: Any = None
        self._stopped: Deferred[None] | None = None
        self._open = context.metrics.gauge("meridian_astm_connections", "open connections", channel=context.name)

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        host, port = self.options.listen
        try:
            if self.options.tls is None:
                self._port = self.reactor.listenTCP(port, self, interface=host, backlog=511)
            else:
                side = self._context.tls.server(self.options.tls, self._context.name)
                self._port = self.reactor.listenSSL(port, self, side, interface=host, backlog=511)
        except CannotListenError as error:
            return fail(ConfigError(f"channel {self._context.name}: cannot listen on {host or '*'}:{port}: {error.socketError}"))
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
            closed = succeed(None) if self._port is None else self._port.stopListening()
            for connection in list(self._connections):
                connection.stop()
            closed.addCallback(self._not_listening)
        stopped: Deferred[None] = Deferred()
        self._stopped.chainDeferred(stopped)
        return stopped

    def _not_listening(self, _: object) -> None:
        self._port = None
        self._look_stopped()

    def _look_stopped(self) -> None:
        if self._stopped is not None and self._port is None and not self._connections and not self._stopped.called:
            self._stopped.callback(None)

    def buildProtocol(self, addr: Any) -> AstmConnection:
        return AstmConnection(self)

    # --- what connections say --------------------------------------------------------------------

    def admit(self, connection: AstmConnection) -> bool:
        """Whether one more connection fits; what does not is closed and audited."""
        if len(self._connections) >= self.options.connections:
            self.fault("crowded", connection)
            self._context.audit("astm.refused", channel=self._context.name, remote=connection.remote, reason="too many connections")
            return False
        self._connections.add(connection)
        self._open.set(len(self._connections))
        return True

    def gone(self, connection: AstmConnection) -> None:
        self._connections.discard(connection)
        self._open.set(len(self._connections))
        self._look_stopped()

    def peer_of(self, transport: Any) -> str:
        return self._context.tls.peer(transport)

    def fault(self, kind: str, connection: AstmConnection, **facts: Any) -> None:
        """Count and log one of FAULTS."""
        channel = self._context.name
        self._context.metrics.counter("meridian_astm_faults_total", "what goes wrong on the line", channel=channel, fault=kind).inc()
        self._context.log.warning(FAULTS[kind], extra={"channel": channel, "remote": connection.remote, **facts})


class AstmConnection(Protocol):
    """One instrument."""

    transport: Any

    def __init__(self, source: AstmSource) -> None:
        self._source = source
        self._link = Receiver(Limits(source.options.max_size))
        self._timer: DelayedCall | None = None
        self._stopping = self._gone = False
        self._under_way = 0
        self.remote = ""

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        self.remote = f"{peer.host}:{peer.port}"
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        if not self._source.admit(self):
            self.transport.abortConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self._gone = True
        self._carry_out(self._link.lost())
        self._done()

    def dataReceived(self, data: bytes) -> None:
        if not self._stopping:
            self._carry_out(self._link.feed(data))

    def stop(self) -> None:
        """Take nothing new; close once what was handed to the intake is answered."""
        self._stopping = True
        if not self._under_way:
            self.transport.loseConnection()

    def _late(self) -> None:
        self._timer = None
        self._carry_out(self._link.late())

    def _carry_out(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Answer):
                self.transport.write(step.data)
            elif isinstance(step, Complete):
                self._hand_in(step.messages)
            elif isinstance(step, Fault):
                self._source.fault(step.kind, self)
            else:
                self._keep_incomplete(step)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        patience = None if self._gone else self._link.patience
        self._timer = None if patience is None else self._source.reactor.callLater(patience, self._late)

    def _keep_incomplete(self, step: Incomplete) -> None:
        self._source.fault("incomplete", self, reason=step.reason)
        if not self._stopping:
            envelope, judgement = self._source.reader.incomplete(step.content, step.reason, self._peer, self.remote)
            self._source.intake(envelope, lambda _: b"", judgement)

    @property
    def _peer(self) -> str:
        """The party that the connection has proven."""
        return "" if self._source.options.tls is None else self._source.peer_of(self.transport)

    def _hand_in(self, messages: Sequence[bytes]) -> None:
        self._under_way += 1
        peer = self._peer
        acks: list[Deferred[Ack]] = []
        for content in messages:
            envelope, invalid = self._source.reader.read(content, peer, self.remote)
            if invalid is not None:
                self._source.fault("unreadable", self, reason=invalid.reason, location=invalid.location)
            acks.append(self._source.intake(envelope, _reply, invalid))
        gatherResults(acks).addCallback(self._judged)

    def _judged(self, acks: list[Ack]) -> None:
        """A message that was refused for good is answered NAK, so that the instrument says so on its screen; it is kept all the same."""
        self._under_way -= 1
        verdicts = [ack.judgement.verdict for ack in acks]
        positive = all(verdict is Verdict.ACCEPTED for verdict in verdicts)
        steps = self._link.kept(positive, again=Verdict.UNAVAILABLE in verdicts)
        if not self._gone:
            self._carry_out(steps)
        if self._stopping:
            self.transport.loseConnection()
        self._done()

    def _done(self) -> None:
        if self._gone and not self._under_way:
            self._set_timer()
            self._source.gone(self)


def _reply(judgement: Judgement) -> bytes:
    return ACK if judgement.verdict is Verdict.ACCEPTED else NAK
