"""The ASTM source: an instrument's lines, and the messages on them for the intake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from adapters.astm.connection import AstmConnection, count_fault
from adapters.astm.intake import Reader
from adapters.astm.lines import Listening, lines_of
from adapters.astm.link import Limits
from adapters.astm.station import Station

if TYPE_CHECKING:
    from engine.contracts import Context, Intake
    from engine.options import Settings


LINES: Final = "astm"
"""In Context.shared: sources by the name of their channel, so that a destination may send on their lines."""


class AstmSource:
    """engine.contracts.Source, and adapters.astm.connection.Owner of its lines."""

    def __init__(self, options: Settings, context: Context) -> None:
        self.options, self._context = options, context
        self.reactor = context.reactor
        self.reader: Reader | None = Reader(options, context.clock)
        self.intake: Intake | None = None
        self.connections: set[AstmConnection] = set()
        self._lines = lines_of(options, context, self._make)
        self._closed = False
        self._stopped: Deferred[None] | None = None
        context.shared.setdefault(LINES, {})[context.name] = self
        self._open = context.metrics.gauge("meridian_astm_connections", "open connections", channel=context.name)

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        return self._lines.start()

    @property
    def port(self) -> int:
        """Where it listens (of use when the option said port 0)."""
        assert isinstance(self._lines, Listening)
        return self._lines.port

    def stop(self) -> Deferred[None]:
        if self._stopped is None:
            self._stopped = Deferred()
            for connection in list(self.connections):
                connection.stop()
            self._lines.stop().addCallback(self._not_listening)
        stopped: Deferred[None] = Deferred()
        self._stopped.chainDeferred(stopped)
        return stopped

    def _not_listening(self, _: object) -> None:
        self._closed = True
        self._look_stopped()

    def _look_stopped(self) -> None:
        if self._stopped is not None and self._closed and not self.connections and not self._stopped.called:
            self._stopped.callback(None)

    def _make(self, remote: str) -> AstmConnection:
        return AstmConnection(self, Station(Limits(self.options.max_size), size=self.options.frame), remote)

    # --- what connections say --------------------------------------------------------------------

    def came(self, connection: AstmConnection) -> bool:
        """Whether one more connection fits; what does not is closed and audited."""
        if self._stopped is not None:
            return False
        if len(self.connections) >= self.options.connections:
            self.fault("crowded", connection)
            self._context.audit("astm.refused", channel=self._context.name, remote=connection.remote, reason="too many connections")
            return False
        self.connections.add(connection)
        self._open.set(len(self.connections))
        return True

    def gone(self, connection: AstmConnection) -> None:
        self.connections.discard(connection)
        self._open.set(len(self.connections))
        self._lines.lost()
        self._look_stopped()

    def peer_of(self, transport: Any) -> str:
        """The party that a connection has proven."""
        secured = self.options.tls is not None or self.options.client_tls is not None
        return self._context.tls.peer(transport) if secured else ""

    def fault(self, kind: str, connection: AstmConnection, **facts: Any) -> None:
        count_fault(self._context, "channel", kind, connection, **facts)
        if kind == "unanswered":
            self._context.audit("astm.unanswered", channel=self._context.name, remote=connection.remote)
