"""The MLLP source: listens, admits connections within their limits, counts and audits what goes wrong."""

from __future__ import annotations

from collections import Counter as Counts
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory

from adapters.mllp.intake import Reader
from adapters.mllp.protocol import MllpConnection
from engine.errors import ConfigError
from engine.formats.hl7v2 import batch
from engine.listening import listen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.mllp.intake import Received
    from engine.contracts import Context, Intake
    from engine.options import Settings

FAULTS: Final = {
    "batch": "a batch does not add up",
    "cut_off": "connection ended inside a frame; nothing of it was acknowledged",
    "crowded": "too many connections",
    "framing": "framing broken",
    "idle": "connection idle",
    "impostor": "a sender that may not send here, or not as it claims",
    "slow": "a message or a TLS handshake took too long",
    "stray": "bytes outside of any frame, kept",
    "unheard": "the sender did not hear its answer; what was kept is kept",
    "unreadable": "a message that cannot be read, kept",
}
"""What the label `fault` of ``meridian_mllp_faults_total`` may be, and what the log says."""


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
        self._stopped: Deferred[None] | None = None
        self._open = context.metrics.gauge("meridian_mllp_connections", "open connections", channel=context.name)

    # --- engine.contracts.Source -----------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        try:
            self._port = listen(self, self.options, self._context)
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

    def buildProtocol(self, addr: Any) -> MllpConnection:
        return MllpConnection(self)

    # --- what connections say --------------------------------------------------------------------

    def admit(self, connection: MllpConnection) -> bool:
        """Whether one more connection fits; what does not is closed and audited."""
        address = connection.remote.rpartition(":")[0]
        full = len(self._connections) >= self.options.connections
        if full or self._per_address[address] >= self.options.connections_per_address:
            self.fault("crowded", connection)
            self._context.audit("mllp.refused", channel=self._context.name, remote=connection.remote, reason="too many connections")
            return False
        self._connections.add(connection)
        self._per_address[address] += 1
        self._open.set(len(self._connections))
        return True

    def gone(self, connection: MllpConnection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            address = connection.remote.rpartition(":")[0]
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]
            self._open.set(len(self._connections))
            self._look_stopped()

    def peer_of(self, transport: Any) -> str:
        return self._context.tls.peer(transport)

    def fault(self, fault: str, connection: MllpConnection, **facts: Any) -> None:
        """Count and log one of FAULTS; rare, so the counter is looked up each time."""
        channel = self._context.name
        counter = self._context.metrics.counter("meridian_mllp_faults_total", "what goes wrong on the wire", channel=channel, fault=fault)
        counter.inc()
        self._context.log.warning(FAULTS[fault], extra={"channel": channel, "remote": connection.remote, **facts})

    def unusable(self, connection: MllpConnection, received: Received) -> None:
        """A message that is refused or quarantined before any channel looks at it."""
        envelope, judgement = received.envelope, received.invalid
        facts = {"control_id": envelope.control_id, "location": judgement.location if judgement else ""}
        if not received.impostor:
            self.fault("unreadable", connection, **facts)
            return
        self.fault("impostor", connection, **facts)
        self._context.audit(
            "mllp.sender_refused",
            channel=self._context.name,
            remote=connection.remote,
            party=envelope.peer,
            sender=envelope.sender,
            reason=judgement.reason if judgement else "",
        )

    def batch_answer(self, of: batch.Batch, answers: Sequence[Sequence[bytes]]) -> bytes:
        stamp = datetime.fromtimestamp(self.clock() // 1_000_000, UTC).strftime("%Y%m%d%H%M%S+0000")
        return batch.wrap_answers(of, answers, new_id=self._context.new_id, stamp=stamp)
