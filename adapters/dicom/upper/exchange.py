"""Requests and responses over one association, both ways (PS3.7 clause 7.5, 7.6).

A peer's request goes to the `Service` of its presentation context's abstract syntax, which says with a `Sink` where its data set goes and
answers with `Request.respond`. Our own requests go out with `request`: their data set is bytes, or is read piece by piece as the
transport takes it. What goes out of one association goes message after message; fragments are not mixed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, fail

from adapters.dicom.upper import dimse
from adapters.dicom.upper.association import Association
from adapters.dicom.upper.dimse import Command, Field, Status
from adapters.dicom.upper.failures import AssociationFailed, NoResponse, Released
from adapters.dicom.upper.messages import Began
from adapters.dicom.upper.negotiation import PresentationContext
from adapters.dicom.upper.protocol import Times, UpperLayer
from engine.errors import LocalProtocolError
from engine.writing import write_now

MOST_DATA: Final = 4 << 20
"""Bytes of a data set gathered in memory: queries, reports, responses."""


class Sink(Protocol):
    """Where a request's data set goes. `write` gets views that are valid for as long as they are kept; exactly one of `end` and `lost`
    follows."""

    def write(self, data: memoryview) -> None: ...

    def end(self) -> None: ...

    def lost(self) -> None:
        """The association ended before the data set was complete: nothing is to be answered."""


class Service(Protocol):
    """Answers a peer's requests in one or more SOP classes. Registered by abstract syntax, see `Services`."""

    def begin(self, request: Request) -> Sink | None:
        """A request has come; its data set (if `request.command.has_data`) goes to the sink, None: it is dropped. Answer with
        `request.respond`, now or later; a final response once."""


Services = Mapping[str, Service]
"""By abstract syntax UID."""


@dataclass(frozen=True)
class Parties:
    """Who is at an association's other end: `calling` and `called` are claims, `peer` is the party that its certificate proves ("" for
    none), `remote` is host:port."""

    calling: str
    called: str
    peer: str
    remote: str


class Response(NamedTuple):
    """A response that came, with its data set."""

    command: Command
    data: bytes

    @property
    def status(self) -> int:
        return self.command.status


class Request:
    """A peer's request. Not answered while `finished` is false; `cancelled` turns true with a C-CANCEL and with the end of the
    association, and `on_cancel` is called then."""

    __slots__ = ("cancelled", "command", "context", "exchange", "finished", "on_cancel")

    def __init__(self, exchange: Exchange, command: Command, context: PresentationContext) -> None:
        self.exchange, self.command, self.context = exchange, command, context
        self.cancelled = self.finished = False
        self.on_cancel: Callable[[], None] | None = None

    @property
    def parties(self) -> Parties:
        return self.exchange.parties

    @property
    def alive(self) -> bool:
        """Whether a response can still be heard."""
        return not self.finished and not self.exchange.ended

    def respond(self, status: int, comment: str = "", data: bytes = b"", **elements: Any) -> None:
        """Send a response; more may follow only after a pending one. What nobody can hear any more is dropped."""
        if not self.alive:
            return
        if not dimse.is_pending(status):
            self.finished = True
        self.exchange.send_response(self, dimse.response(self.command, int(status), comment, **elements), data)

    def writable(self) -> Deferred[None]:
        """Fires when the peer has read what was sent so far: between many pending responses. Fires at once when all is over."""
        return self.exchange.when_writable()

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()


class Gathered:
    """A Sink that gathers a data set of at most `most` bytes, then calls `done(data)`; a longer one is answered with 0110H."""

    def __init__(self, request: Request, done: Callable[[bytes], None], most: int = MOST_DATA) -> None:
        self._request, self._done, self._most = request, done, most
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: memoryview) -> None:
        self._size += len(data)
        if self._size > self._most:
            self._parts.clear()
        else:
            self._parts.append(bytes(data))

    def end(self) -> None:
        if self._size > self._most:
            self._request.respond(Status.PROCESSING_FAILURE, f"the data set is longer than {self._most} bytes")
        else:
            self._done(b"".join(self._parts))

    def lost(self) -> None:
        self._parts.clear()


class _Dropped:
    """A Sink for what nobody wants."""

    def write(self, data: memoryview) -> None: ...

    def end(self) -> None: ...

    def lost(self) -> None: ...


class Operation:
    """A request of ours. `done` fires with the final response; each pending one goes to `on_pending`."""

    __slots__ = ("command", "context_id", "data", "done", "message_id", "on_pending", "patience", "timer")

    def __init__(
        self,
        command: Command,
        context_id: int,
        data: bytes | Iterable[bytes] | None,
        patience: float,
        on_pending: Callable[[Response], None] | None,
    ) -> None:
        self.command, self.context_id, self.data, self.patience, self.on_pending = command, context_id, data, patience, on_pending
        self.message_id = 0
        self.timer: Any = None
        self.done: Deferred[Response] = Deferred()


class _Heard:
    """A Sink for a response's data set."""

    def __init__(self, exchange: Exchange, command: Command) -> None:
        self._exchange, self._command = exchange, command
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: memoryview) -> None:
        self._size += len(data)
        if self._size > MOST_DATA:
            self._exchange.abort()
        else:
            self._parts.append(bytes(data))

    def end(self) -> None:
        self._exchange.heard(Response(self._command, b"".join(self._parts)))

    def lost(self) -> None: ...


_NONE: Final = _Dropped()


class Exchange(UpperLayer):
    """An association with its messages. `services` answers the peer's requests; `window` is how many of them may be under way (more are
    not read until some are answered)."""

    parties: Parties

    def __init__(self, association: Association, clock: Any, times: Times, services: Services, *, secure: bool, window: int = 1) -> None:
        super().__init__(association, clock, times, secure=secure)
        self.services, self.window = services, window
        self.parties = Parties("", "", "", "")
        self.ended: AssociationFailed | None = None
        self.may_invoke = 1
        self._requests: dict[int, Request] = {}
        self._sink: Sink = _NONE
        self._receives: int | None = None  # the message whose data set comes just now
        self._outbox: deque[Iterator[list[bytes | memoryview]]] = deque()
        self._sending: Iterator[list[bytes | memoryview]] | None = None
        self._pumping = False
        self._queued: deque[Operation] = deque()
        self._operations: dict[int, Operation] = {}
        self._last_id = 0
        self._drained: list[Deferred[None]] = []

    # --- the peer's requests -------------------------------------------------------------------------

    def busy(self) -> bool:
        return len(self._requests) > (self._receives is not None) or bool(self._operations)

    def message_began(self, began: Began) -> None:
        command = began.command
        if command.is_response:
            sink: Sink | None = _Heard(self, command)
        elif command.field == Field.C_CANCEL:
            sink = None
            self._cancel(command)
        else:
            sink = self._request(command, self.association.agreed[began.context_id])
        self._sink = sink or _NONE
        if not command.is_response and command.has_data:
            self._receives = command.message_id
        if not command.has_data:
            self.message_ended()

    def message_part(self, data: memoryview) -> None:
        self._sink.write(data)

    def message_ended(self) -> None:
        sink, self._sink = self._sink, _NONE
        self._receives = None
        sink.end()

    def drop_unfinished(self) -> None:
        """Forget a request whose data set is not complete, and will not be."""
        sink, self._sink = self._sink, _NONE
        if self._receives is not None:
            self._requests.pop(self._receives, None)
            self._receives = None
        sink.lost()

    def _cancel(self, command: Command) -> None:
        request = self._requests.get(command.message_id)
        if request is not None:
            request.cancel()

    def _request(self, command: Command, context: PresentationContext) -> Sink | None:
        if command.message_id in self._requests:
            self.fault("broke", reason="a message ID is used twice")
            self.abort()
            return None
        request = Request(self, command, context)
        self._requests[command.message_id] = request
        if len(self._requests) > self.window:
            self.hold("window")
        service = self.services.get(context.abstract_syntax)
        if service is None:
            request.respond(Status.SOP_CLASS_NOT_SUPPORTED)
            return None
        return service.begin(request)

    def send_response(self, request: Request, command: Command, data: bytes) -> None:
        """For Request.respond."""
        command["CommandDataSetType"] = dimse.DATA_SET if data else dimse.NO_DATA_SET
        if request.finished:
            self._requests.pop(request.command.message_id, None)
            if len(self._requests) <= self.window:
                self.let_go("window")
        self._send(request.context.context_id, command, data or None)
        if request.finished:
            self.answered_all()

    def answered_all(self) -> None:
        """A request was answered; subclasses look whether that was the last one."""

    # --- our requests ----------------------------------------------------------------------------------

    def request(
        self,
        command: Command,
        data: bytes | Iterable[bytes] | None = None,
        *,
        context_id: int = 0,
        timeout: float = 60.0,
        on_pending: Callable[[Response], None] | None = None,
    ) -> Deferred[Response]:
        """Ask the peer. Fires with the final response, whatever its status; fails with AssociationFailed, or LocalProtocolError where
        nothing was agreed on for the SOP class. `data` is the encoded data set, or an iterable that gives it piece by piece (say,
        `read_in_pieces` of a file) and is asked for more as the transport takes it. `timeout` in seconds from the moment that all is
        sent, and again from each pending response. Where the peer allows several operations they overlap; else they wait for each other."""
        if self.ended is not None:
            return fail(self.ended)
        context_id = context_id or self.context_for(command.sop_class)
        if context_id not in self.association.agreed:
            return fail(LocalProtocolError(f"no presentation context was agreed on for {command.sop_class}"))
        operation = Operation(command, context_id, data, timeout, on_pending)
        self._queued.append(operation)
        self._next_operations()
        return operation.done

    def context_for(self, abstract_syntax: str, transfer_syntax: str = "") -> int:
        """The lowest presentation context for these, 0 for none."""
        for context_id in sorted(self.association.agreed):
            context = self.association.agreed[context_id]
            if context.abstract_syntax == abstract_syntax and transfer_syntax in ("", context.transfer_syntax):
                return context_id
        return 0

    def cancel_request(self, message_id: int, context_id: int) -> None:
        """C-CANCEL-RQ for an operation of ours (PS3.7 clause 9.3.2.3)."""
        command = Command(CommandField=int(Field.C_CANCEL), MessageIDBeingRespondedTo=message_id, CommandDataSetType=dimse.NO_DATA_SET)
        self._send(context_id, command, None)

    def _next_operations(self) -> None:
        while self._queued and len(self._operations) < self.may_invoke and self.ended is None and self.association.established:
            operation = self._queued.popleft()
            while True:
                self._last_id = self._last_id % 65535 + 1
                if self._last_id not in self._operations:
                    break
            operation.message_id = operation.command["MessageID"] = self._last_id
            operation.command["CommandDataSetType"] = dimse.NO_DATA_SET if operation.data is None else dimse.DATA_SET
            self._operations[operation.message_id] = operation
            self._send(operation.context_id, operation.command, operation.data, operation)

    def heard(self, response: Response) -> None:
        """A response has come, with its data set."""
        operation = self._operations.get(response.command.message_id)
        if operation is None or operation.command.field != response.command.field:
            self.fault("stray")
            return
        if dimse.is_pending(response.status):
            self._wait_for(operation)
            if operation.on_pending is not None:
                operation.on_pending(response)
            return
        del self._operations[operation.message_id]
        self._stop_waiting(operation)
        self._next_operations()
        operation.done.callback(response)
        self.answered_all()

    def _wait_for(self, operation: Operation) -> None:
        self._stop_waiting(operation)
        operation.timer = self._clock.callLater(operation.patience, self._no_response, operation)

    @staticmethod
    def _stop_waiting(operation: Operation) -> None:
        if operation.timer is not None and operation.timer.active():
            operation.timer.cancel()

    def _no_response(self, operation: Operation) -> None:
        self.fault("unanswered")
        self.abort(NoResponse(f"no response within {operation.patience:g} s"))

    # --- out -------------------------------------------------------------------------------------------

    def _send(self, context_id: int, command: Command, data: bytes | Iterable[bytes] | None, operation: Operation | None = None) -> None:
        self._outbox.append(self._buffers(context_id, command, data, operation))
        self._pump()

    def _buffers(
        self, context_id: int, command: Command, data: bytes | Iterable[bytes] | None, operation: Operation | None
    ) -> Iterator[list[bytes | memoryview]]:
        """A message as runs of buffers, the data set a piece at a time: of an iterable the last piece is known when there is no next."""
        send = self.association.send
        if isinstance(data, bytes):
            yield send(context_id, dimse.encode(command), is_command=True) + send(context_id, data, is_command=False)
        else:
            yield send(context_id, dimse.encode(command), is_command=True)
            if data is not None:
                held = None
                for piece in data:
                    if held is not None:
                        yield send(context_id, held, is_command=False, is_last=False)
                    held = piece
                yield send(context_id, held or b"", is_command=False)
        if operation is not None:
            self._wait_for(operation)

    def _pump(self) -> None:
        """Write as far as the transport takes it."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self.blocked and not self._over and (self._sending is not None or self._outbox):
                if self._sending is None:
                    self._sending = self._outbox.popleft()
                self._write_next(self._sending)
        finally:
            self._pumping = False
        if not self.blocked and self._drained:
            drained, self._drained = self._drained, []
            for one in drained:
                one.callback(None)

    def _write_next(self, message: Iterator[list[bytes | memoryview]]) -> None:
        try:
            buffers = next(message, None)
        except (OSError, LocalProtocolError) as error:  # the data set cannot be read: half of it was sent, so only this is left
            self._sending = None
            self.fault("unsent", reason=str(error))
            self.abort()
            return
        if buffers is None:
            self._sending = None
            self.answered_all()
        else:
            write_now(self.transport, b"".join(buffers))

    def writable(self) -> None:
        self._pump()

    @property
    def quiet(self) -> bool:
        """Nothing is under way in either direction."""
        return not (self._requests or self._operations or self._queued or self._outbox or self._sending)

    def when_writable(self) -> Deferred[None]:
        """Fires when what was sent so far has left."""
        done: Deferred[None] = Deferred()
        if self._over or (not self.blocked and not self._outbox and self._sending is None):
            done.callback(None)
        else:
            self._drained.append(done)
        return done

    # --- the end ---------------------------------------------------------------------------------------

    def over(self, failure: AssociationFailed | None) -> None:
        self.ended = failure or Released("the association was released")
        sink, self._sink = self._sink, _NONE
        sink.lost()
        requests, self._requests = list(self._requests.values()), {}
        for request in requests:
            request.cancel()
        operations = [*self._operations.values(), *self._queued]
        self._operations.clear()
        self._queued.clear()
        self._outbox.clear()
        self._sending = None
        for operation in operations:
            self._stop_waiting(operation)
            operation.done.errback(self.ended)
        drained, self._drained = self._drained, []
        for one in drained:
            one.callback(None)
