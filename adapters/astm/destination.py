"""The ASTM destination: sends messages to an instrument, on a line of its own or on that of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed

from adapters.astm.connection import AstmConnection, count_fault
from adapters.astm.lines import own_line
from adapters.astm.sending import NotTaken, Taken
from adapters.astm.source import LINES
from adapters.astm.station import Station
from engine.errors import LocalProtocolError, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.astm.intake import Reader
    from adapters.astm.source import AstmSource
    from engine.contracts import Context, Intake
    from engine.options import Settings


class AstmDestination:
    """engine.contracts.Destination, and adapters.astm.connection.Owner of its own line."""

    max_in_flight = 1
    reader: Reader | None = None
    intake: Intake | None = None

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self.reactor = context.reactor
        self._connection: AstmConnection | None = None
        self._line = None if options.line is not None else own_line(options, context, self._make, self._not_opened)
        self._waiting: list[Deferred[AstmConnection]] = []
        self._closing: Deferred[None] | None = None

    def open(self) -> Deferred[None]:
        return succeed(None) if self._line is None else self._line.start()

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        body = parcel.body
        if isinstance(body, BodyRef):
            return fail(PermanentDelivery("the message is too big for an instrument's line"))
        return self._connected().addCallback(self._send, body)

    def close(self) -> Deferred[None]:
        if self._line is None:
            return succeed(None)
        closing: Deferred[None] = Deferred()
        self._closing = closing
        self._line.stop()
        if self._connection is not None:
            self._connection.stop()
        else:
            closing.callback(None)
        return closing

    # --- sending ---------------------------------------------------------------------------------

    def _connected(self) -> Deferred[AstmConnection]:
        """The line to send on."""
        if self._line is None:
            return self._of_source()
        if self._connection is not None and self._connection.is_open:
            return succeed(self._connection)
        waiting: Deferred[AstmConnection] = Deferred()
        self._waiting.append(waiting)
        self._line.hurry()
        return waiting

    def _of_source(self) -> Deferred[AstmConnection]:
        name = self._options.line
        source: AstmSource | None = self._context.shared.get(LINES, {}).get(name)
        there = [one for one in source.connections if one.is_open] if source is not None else []
        if len(there) == 1:
            return succeed(there[0])
        why = "no instrument is" if not there else f"{len(there)} instruments are"
        text = f"{why} connected to the channel {name}" if source is not None else f"there is no channel {name} with a source astm"
        return fail(TransientDelivery(text, whole_destination=True))

    def _send(self, connection: AstmConnection, body: bytes) -> Deferred[Receipt]:
        return connection.send(body).addCallbacks(self._ended, self._not_sendable, callbackArgs=(connection.remote,))

    @staticmethod
    def _ended(end: Taken | NotTaken, remote: str) -> Receipt:
        if isinstance(end, Taken):
            return Receipt(f"taken by {remote}")
        if end.uncertain:
            raise UncertainDelivery(end.reason)
        if end.refused:
            raise PermanentDelivery(end.reason, answer=b"NAK")
        raise TransientDelivery(end.reason)

    @staticmethod
    def _not_sendable(failure: Failure) -> Receipt:
        failure.trap(LocalProtocolError)
        raise PermanentDelivery(str(failure.value))

    # --- adapters.astm.connection.Owner ----------------------------------------------------------

    def _make(self, remote: str) -> AstmConnection:
        return AstmConnection(self, Station(role=self._options.role, size=self._options.frame), remote)

    def _not_opened(self, why: str) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(TransientDelivery(why, whole_destination=True))

    def came(self, connection: AstmConnection) -> bool:
        if self._closing is not None:
            return False
        self._connection = connection
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self.reactor.callLater(0, one.callback, connection)
        return True

    def gone(self, connection: AstmConnection) -> None:
        if connection is self._connection:
            self._connection = None
        if self._line is not None:
            self._line.lost()
            if self._waiting:
                self._line.hurry()
        if self._closing is not None and not self._closing.called:
            self._closing.callback(None)

    def peer_of(self, transport: Any) -> str:
        return ""

    def fault(self, kind: str, connection: AstmConnection, **facts: Any) -> None:
        count_fault(self._context, "destination", kind, connection, **facts)
