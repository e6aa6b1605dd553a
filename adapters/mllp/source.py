"""The MLLP source: listens, admits connections within their limits, counts and audits what goes wrong."""

from __future__ import annotations

from collections import Counter as Counts
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from adapters.mllp.intake import Reader
from adapters.mllp.protocol import MllpConnection
from engine.errors import ConfigError, FramingError
from engine.formats.hl7v2 import batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake
    from engine.options import Settings


class MllpSource(Factory):
    """engine.contracts.Source"""

    noisy = False
    intake: Intake

    def __init__(self, options: Settings, context: Context) -> None:
        self.options, self._context = options, context
        self.reactor, self.clock = context.reactor, context.clock
        self.reader = Reader(options, context.clock, context.new_id)
        self._connections: set[MllpConnection] = set()
        self._per_address: Counts[str] = Counts()
        self._port: Any = None
        label = {"channel": context.name}
        metrics = context.metrics
        self._open = metrics.gauge("meridian_mllp_connections", "open connections", **label)
        self._faults = metrics.counter("meridian_mllp_faults_total", "broken frames, stray bytes, slow or unheard senders", **label)

    # --- engine.contracts.Source -----------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        host, port = self.options.listen
        try:
            if self.options.tls is None:
                self._port = self.reactor.listenTCP(port, self, interface=host, backlog=511)
            else:
                self._port = self.reactor.listenSSL(port, self, self._context.tls.server(self.options.tls), interface=host, backlog=511)
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
        if self._port is None:
            return succeed(None)
        stopped: Deferred[None] = self._port.stopListening()
        for connection in list(self._connections):
            connection.stop()
        return stopped.addCallback(lambda _: self._all_closed(50))

    def _all_closed(self, patience: int) -> Any:
        """Wait for the last answers to leave; a peer that does not read is cut off after a while."""
        if not self._connections:
            return None
        if not patience:
            for connection in list(self._connections):
                connection.transport.abortConnection()
        return deferLater(self.reactor, 0.1, self._all_closed, patience - 1)

    def buildProtocol(self, addr: Any) -> MllpConnection:
        return MllpConnection(self)

    # --- what connections say --------------------------------------------------------------------

    def admit(self, connection: MllpConnection) -> bool:
        """Whether one more connection fits; what does not is closed and audited."""
        address = connection.remote.rpartition(":")[0]
        full = len(self._connections) >= self.options.connections
        if full or self._per_address[address] >= self.options.connections_per_address:
            self._fault("too many connections", connection)
            self._context.audit("mllp.refused", channel=self._context.name, remote=connection.remote, reason="too many connections")
            return False
        self._connections.add(connection)
        self._per_address[address] += 1
        self._open.set(len(self._connections))
        return True

    def gone(self, connection: MllpConnection, reason: Failure | None) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            address = connection.remote.rpartition(":")[0]
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
            self._open.set(len(self._connections))

    def peer_of(self, transport: Any) -> str:
        return self._context.tls.peer(transport)

    def _fault(self, what: str, connection: MllpConnection, **facts: Any) -> None:
        self._faults.inc()
        self._context.log.warning(what, extra={"channel": self._context.name, "remote": connection.remote, **facts})

    def broken(self, connection: MllpConnection, error: FramingError) -> None:
        self._fault("framing broken", connection, reason=error.text)

    def cut_off(self, connection: MllpConnection, error: FramingError) -> None:
        self._fault("connection ended inside a frame; nothing of it was acknowledged", connection)

    def stray(self, connection: MllpConnection) -> None:
        self._fault("bytes outside of any frame", connection)

    def too_slow(self, connection: MllpConnection, inside: bool) -> None:
        self._fault("a message took too long" if inside else "connection idle", connection)

    def unheard(self, connection: MllpConnection) -> None:
        self._fault("the sender left before its answer; the message is kept", connection)

    def batch_fault(self, connection: MllpConnection, fault: str) -> None:
        self._fault("batch does not add up", connection, reason=fault)

    def batch_answer(self, of: batch.Batch, answers: Sequence[bytes]) -> bytes:
        stamp = datetime.fromtimestamp(self.clock() // 1_000_000, UTC).strftime("%Y%m%d%H%M%S+0000")
        return batch.wrap_answers(of, answers, control_id=self._context.new_id(), stamp=stamp)
