"""Connections of an HTTP/1.1 server: bytes to requests, answers to bytes, and the limits on what a client may do to us.

A body is handed on as it comes, and what is sent comes out of files as the client takes it: neither is ever whole in memory. One
request of a connection is answered at a time; while an upload cannot take more, or an answer is due, the transport is paused.

Limits: a head, and a body that is not an upload, must be there in full `receive_within` seconds after the first byte, however they are
spread; an upload must bring `LEAST` bytes in each such time, and all of itself in `complete_within` where that is set; a client must take
something of its answer in each `idle`. What we are waited for does not count. After an answer that ends the connection the rest of what
the client sends is read and dropped for a moment, so that it can read the answer before the connection closes.

Who answers is behind `Site`; sources use the one in engine.http_source.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from typing import Protocol as Contract

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from engine.errors import FramingError
from engine.http1 import HttpFramer, Message
from engine.http_answers import NO_CONTENT, Answer, HttpRefusal, Piece, Sender, answer_head, forget, size
from engine.http_sending import BLOCK, Sending

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.http_uploads import Receiving

LINGER: Final = 2.0
LEAST: Final = 16 << 10
"""Bytes of an upload that must come in `receive_within`."""
MOST_FORM: Final = 65536


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, counts and bytes. `most_body` holds for what is not an upload; those count themselves."""

    receive_within: float
    idle: float
    connections: int
    most_body: int = MOST_FORM
    complete_within: float = math.inf


class Site(Contract):
    """What answers requests."""

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], connection: Connection) -> Receiving | None:
        """What takes the body of this request as it comes, None to have it collected. Raises HttpRefusal."""

    def handle(self, message: Message, connection: Connection) -> Deferred[Answer]:
        """Answer a request whose body was collected. Never fails."""

    def refused(self, refused: HttpRefusal, connection: Connection) -> Answer:
        """Word what is said to a request that was refused by its framing, its slowness, or `begin`. Called once for each."""


class Connection(Protocol):
    """One client's connection."""

    transport: Any

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._framer = HttpFramer(responses=False, most_body=server.limits.most_body, begin=self._begin)
        self._uploads: deque[Receiving | None] = deque()  # of the requests whose heads are read, in their order
        self._waiting: deque[Message] = deque()
        self._busy = self._asking = self._closing = self._continued = self._paused = False
        self._received = self._expected = 0
        self._due = math.inf
        self._timer: DelayedCall | None = None
        self._timer_is_deadline = False
        self._sending: Sending | None = None
        self._untaken = 0  # bytes that the client may not have taken yet
        self._ending: Answer | None = None  # to be said after the answers that are due
        self.sender: Sender | None = None  # known from the first request on, when the handshake is over

    def connectionMade(self) -> None:
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        self._server.connections.add(self)
        if len(self._server.connections) > self._server.limits.connections:
            self._last(self._server.site.refused(HttpRefusal(503, "too many connections; try again later"), self))
        else:
            self._await()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._server.connections.discard(self)
        self._closing = True
        self._waiting.clear()
        for upload in self._uploads:
            if upload is not None:
                upload.gone()
        self._uploads.clear()
        if self._sending is not None:
            self._sending.stopProducing()
        self._stop_timer()

    def dataReceived(self, data: bytes) -> None:
        if self._closing or self._ending is not None:
            return
        self._received += len(data)
        try:
            for message in self._framer.each(data):
                self._waiting.append(message)
        except HttpRefusal as refused:
            self._end_with(refused)
            return
        except FramingError as error:
            self._end_with(HttpRefusal(int(error.reply_hint or 400), error.text))
            return
        if self._framer.expects_continue and not self._continued and not self._over():
            self._continued = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._next()

    # --- requests ----------------------------------------------------------------------------------

    def _begin(self, start: tuple[str, str, str], headers: Mapping[str, str]) -> Callable[[bytes], None] | None:
        upload = self._server.site.begin(start, headers, self)
        self._uploads.append(upload)
        if upload is None:
            return None
        upload.wake_by(self._pace)
        return upload.content

    def _over(self) -> bool:
        """The upload that is being received wants no more of its body."""
        upload = self._uploads[-1] if self._uploads else None
        return upload is not None and upload.over and len(self._uploads) > len(self._waiting)

    def _next(self) -> None:
        """Answer the next request, if it is there; otherwise wait for it."""
        if self._asking:
            return  # a request was answered at once: the loop below goes on by itself, however many there are
        self._asking = True
        while self._waiting and not self._busy and not self._closing:
            self._ask()
        self._asking = False
        if not self._busy and not self._closing and self._over():
            self._busy = True
            upload = self._uploads.popleft()
            assert upload is not None
            upload.ended().addCallback(self._last)
        if not self._busy and not self._closing:
            if self._ending is not None:
                self._last(self._ending)
            else:
                self._await()
        self._pace()

    def _ask(self) -> None:
        self._continued = False
        self._stop_timer()
        self._busy = True
        message, upload = self._waiting.popleft(), self._uploads.popleft()
        answer = upload.ended() if upload is not None else self._server.site.handle(message, self)
        answer.addCallback(self._answer, body=message.start[0] != "HEAD", keep=message.keep_alive)

    def _pace(self) -> None:
        """Read on, or not."""
        if self._closing:
            return
        full = bool(self._busy and self._waiting) or any(upload is not None and upload.full for upload in self._uploads)
        if full != self._paused:
            self._paused = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _answer(self, answer: Answer, *, body: bool, keep: bool) -> None:
        if self._closing:
            self._busy = False
            forget(answer.content)
            return
        keep = keep and not self._server.stopping and answer.headers.get("Connection") != "close"
        content = answer.content if body and answer.status not in NO_CONTENT else ()
        if not content:
            forget(answer.content)
        pieces = [answer_head(answer, keep=keep), *content]
        self._untaken += sum(map(size, pieces))
        if self._untaken <= BLOCK and (wire := _in_memory(pieces)):
            self.transport.write(wire)
            self._answered(True, keep=keep)
            return
        self._sending = Sending(pieces, self.transport, lambda complete: self._sent(complete, keep=keep))
        self._watch(self._sending, -1)
        self._sending.start()

    def _sent(self, complete: bool, *, keep: bool) -> None:
        self._untaken = 0
        self._answered(complete, keep=keep)

    def _answered(self, complete: bool, *, keep: bool) -> None:
        self._busy, self._sending = False, None
        self._stop_timer()
        if self._closing:
            return
        if not complete:
            self._server.log("an answer could not be sent to its end: its file is gone")
            self.transport.abortConnection()
        elif not keep:
            self._close()
        else:
            self._next()

    def stop(self) -> None:
        """The server stops: close now, or after the answer that is due."""
        if any(self._uploads):
            self._server.reactor.callLater(0, self._cut)  # it may be half taken in just now
        elif not self._busy:
            self._close()

    def _cut(self) -> None:
        for upload in self._uploads:
            if upload is not None:
                upload.cut()
        if not self._busy:
            self._next()

    # --- ends ----------------------------------------------------------------------------------------

    def _end_with(self, refused: HttpRefusal) -> None:
        """Nothing more is read from here; what was asked before is answered first."""
        self._ending = self._server.site.refused(refused, self)
        while len(self._uploads) > len(self._waiting):  # not complete, and never will be
            upload = self._uploads.pop()
            if upload is not None:
                upload.gone()
        self._next()

    def _last(self, answer: Answer) -> None:
        """Answer, then hear the client out for a moment and close."""
        if self._closing:
            return
        self._closing = True
        for upload in self._uploads:
            if upload is not None:
                upload.gone()
        self._uploads.clear()
        if self._paused:
            self.transport.resumeProducing()
        self.transport.write(_in_memory([answer_head(answer, keep=False), *answer.content]))
        self._set_timer(LINGER, self.transport.abortConnection)

    def _close(self) -> None:
        """Close in order; a client that does not play along is cut off."""
        self._closing = True
        self._set_timer(LINGER, self.transport.abortConnection)
        self.transport.loseConnection()

    def _await(self) -> None:
        """Between requests the connection may be silent; within one it must go on."""
        if self._framer.idle:
            self._timer_is_deadline = False
            self._set_timer(self._server.limits.idle, self._close)
        elif not self._timer_is_deadline or self._timer is None:
            self._timer_is_deadline = True
            self._due = self._server.reactor.seconds() + self._server.limits.complete_within
            self._expect()

    def _expect(self) -> None:
        self._expected = self._received + LEAST
        left = self._due - self._server.reactor.seconds()
        self._set_timer(min(self._server.limits.receive_within, left), self._look)

    def _look(self) -> None:
        """A head must be there by now, an upload have brought something."""
        if self._paused:
            self._due += self._server.limits.receive_within
        elif not any(self._uploads) or self._received < self._expected or self._server.reactor.seconds() >= self._due:
            self._last(self._server.site.refused(HttpRefusal(408, "the request did not arrive in time"), self))
            return
        self._expect()

    def _watch(self, sending: Sending, before: int) -> None:
        """A client that takes nothing of its answer is cut off."""
        if sending is not self._sending:
            return
        if sending.turns == before:
            self.transport.abortConnection()
            return
        self._set_timer(self._server.limits.idle, self._watcher(sending, sending.turns))

    def _watcher(self, sending: Sending, before: int) -> Callable[[], None]:
        return lambda: self._watch(sending, before)

    def _set_timer(self, seconds: float, function: Callable[[], Any]) -> None:
        self._stop_timer()
        self._timer = self._server.reactor.callLater(seconds, function)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class HttpServer(Factory):
    """The connections of one listener."""

    noisy = False

    def __init__(self, site: Site, limits: Limits, reactor: Any, log: Callable[[str], None]) -> None:
        self.site, self.limits, self.reactor, self.log = site, limits, reactor, log
        self.connections: set[Connection] = set()
        self.stopping = False

    def buildProtocol(self, addr: Any) -> Connection:
        return Connection(self)

    def stop(self) -> None:
        """Close what is idle, cut uploads short; what is being answered closes after its answer. May be called again."""
        self.stopping = True
        for connection in list(self.connections):
            connection.stop()


def _in_memory(pieces: Sequence[Piece]) -> bytes:
    """The pieces as one, b"" where one of them is in a file."""
    wire = [piece for piece in pieces if isinstance(piece, bytes)]
    return b"".join(wire) if len(wire) == len(pieces) else b""
