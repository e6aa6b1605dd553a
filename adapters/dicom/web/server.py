"""Connections of the DICOMweb server: bytes to requests, answers to bytes, and the limits on what a client may do to us.

A body is handed on as it comes, and what is sent comes out of files as the client takes it: neither is ever whole in memory. One
request of a connection is answered at a time; while an upload cannot take more, or an answer is due, the transport is paused.

Limits: a head must be there `receive_within` seconds after its first byte; a body must bring `LEAST` bytes in each such time, and a
client must take something of its answer in each, unless it is us who are waited for. After an answer that ends the connection the rest
of what the client sends is read and dropped for a moment, so that it can read the answer before the connection closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from typing import Protocol as Contract

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from adapters.dicom.web.answers import REASONS, Answer, FilePiece, refusal, sentence
from adapters.dicom.web.faults import WebRefusal
from engine.errors import FramingError
from engine.http1 import HttpFramer, Message, head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

LINGER: Final = 2.0
LEAST: Final = 16 << 10
"""Bytes of a body that must come in `receive_within`."""
MOST_FORM: Final = 65536
_BLOCK: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Sender:
    """Who is at the other end: the proven party ("" = none) and ``host:port``."""

    peer: str
    remote: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts; see options.SOURCE."""

    receive_within: float
    idle: float
    connections: int


class Upload(Contract):
    """A request whose body is taken as it comes. `full`: it cannot take more just now, and will call `wake`. `over`: it does not want
    the rest of the body."""

    full: bool
    over: bool
    wake: Callable[[], None]

    def content(self, data: bytes) -> None:
        """The next bytes of the body. Never fails."""

    def ended(self) -> Deferred[Answer]:
        """The body is complete, or the rest not wanted: the answer. Never fails."""

    def cut(self) -> None:
        """The server stops: what is complete is answered for, the rest not wanted."""

    def gone(self) -> None:
        """The client went away before the body was complete."""


class Site(Contract):
    """What answers requests."""

    stopping: bool

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], connection: Connection) -> Upload | None:
        """An upload for a request whose body is to be streamed, None for any other. Raises WebRefusal."""

    def handle(self, message: Message, connection: Connection) -> Deferred[Answer]:
        """Answer a request without a streamed body. Never fails."""

    def refused(self, status: int) -> None:
        """A request was refused by its framing, or by `begin`."""


class Connection(Protocol):
    """One client's connection."""

    transport: Any

    def __init__(self, server: WebServer) -> None:
        self._server = server
        self._framer = HttpFramer(responses=False, most_body=MOST_FORM, begin=self._begin)
        self._uploads: deque[Upload | None] = deque()  # of the requests whose heads are read, in their order
        self._waiting: deque[Message] = deque()
        self._busy = self._closing = self._continued = self._paused = False
        self._received = self._expected = 0
        self._timer: DelayedCall | None = None
        self._timer_is_deadline = False
        self._sending: Sending | None = None
        self._ending: Answer | None = None  # to be said after the answers that are due
        self.sender: Sender | None = None  # known from the first request on, when the handshake is over

    def connectionMade(self) -> None:
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        self._server.connections.add(self)
        if len(self._server.connections) > self._server.limits.connections:
            self._last(sentence(503, "too many connections; try again later"))
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
            messages = self._framer.feed(data)
        except WebRefusal as refused:
            self._end_with(refusal(refused))
            return
        except FramingError as error:
            self._end_with(sentence(int(error.reply_hint or 400), error.text))
            return
        self._waiting.extend(messages)
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
        upload.wake = self._pace
        return upload.content

    def _over(self) -> bool:
        """The upload that is being received wants no more of its body."""
        upload = self._uploads[-1] if self._uploads else None
        return upload is not None and upload.over and len(self._uploads) > len(self._waiting)

    def _next(self) -> None:
        """Answer the next request, if it is there; otherwise wait for it."""
        while self._waiting and not self._busy and not self._closing:
            self._continued = False
            self._stop_timer()
            self._busy = True
            message, upload = self._waiting.popleft(), self._uploads.popleft()
            answer = upload.ended() if upload is not None else self._server.site.handle(message, self)
            answer.addCallback(self._answer, body=message.start[0] != "HEAD", keep=message.keep_alive)
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
            return
        keep = keep and not self._server.site.stopping and answer.headers.get("Connection") != "close"
        self.transport.write(_head(answer, keep=keep))
        if not body or answer.status in (204, 304):
            self._answered(True, keep=keep)
            return
        self._sending = Sending(answer, self.transport, lambda complete: self._answered(complete, keep=keep))
        self._watch(self._sending, -1)
        self._sending.start()

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

    def close_if_idle(self) -> None:
        """The server stops: close now, or after the answer that is due."""
        uploads = [upload for upload in self._uploads if upload is not None]
        for upload in uploads:
            upload.cut()
        if not self._busy and uploads:
            self._next()
        elif not self._busy:
            self._close()

    # --- ends ----------------------------------------------------------------------------------------

    def _end_with(self, answer: Answer) -> None:
        """Nothing more is read from here; what was asked before is answered first."""
        self._server.site.refused(answer.status)
        self._ending = answer
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
        self.transport.write(_head(answer, keep=False) + b"".join(piece for piece in answer.content if isinstance(piece, bytes)))
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
            self._expected = self._received + LEAST
            self._set_timer(self._server.limits.receive_within, self._look)

    def _look(self) -> None:
        """A head must be there by now, a body have brought something."""
        uploading = any(upload is not None for upload in self._uploads)
        if not self._paused and not (uploading and self._received >= self._expected):
            self._server.site.refused(408)
            self._last(sentence(408, "the request did not arrive in time"))
            return
        self._expected = self._received + LEAST
        self._set_timer(self._server.limits.receive_within, self._look)

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


@implementer(IPullProducer)
class Sending:
    """The content of an answer on its way, a block at a time, as the transport asks for more. `turns` counts the blocks."""

    def __init__(self, answer: Answer, transport: Any, done: Callable[[bool], None]) -> None:
        self._blocks = self._read(answer)
        self._transport, self._done = transport, done
        self._file: BinaryIO | None = None
        self._active = True
        self.turns = 0

    def start(self) -> None:
        self._transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if not self._active:
            return
        self.turns += 1
        try:
            block = next(self._blocks, None)
        except OSError:
            self._end(False)
            return
        if block is None:
            self._end(True)
        else:
            self._transport.write(block)

    def stopProducing(self) -> None:
        self._active = False
        if self._file is not None:
            self._file.close()

    def _end(self, complete: bool) -> None:
        self.stopProducing()
        self._transport.unregisterProducer()
        self._done(complete)

    def _read(self, answer: Answer) -> Iterator[bytes]:
        for piece in answer.content:
            if isinstance(piece, FilePiece):
                yield from self._blocks_of(piece)
            elif piece:
                yield piece

    def _blocks_of(self, piece: FilePiece) -> Iterator[bytes]:
        with piece.path.open("rb") as self._file:
            self._file.seek(piece.offset)
            left = piece.length
            while left:
                block = self._file.read(min(_BLOCK, left))
                if not block:
                    raise OSError("the file is shorter than it was")
                left -= len(block)
                yield block


class WebServer(Factory):
    """The connections of one listener."""

    noisy = False

    def __init__(self, site: Site, limits: Limits, reactor: Any, log: Callable[[str], None]) -> None:
        self.site, self.limits, self.reactor, self.log = site, limits, reactor, log
        self.connections: set[Connection] = set()

    def buildProtocol(self, addr: Any) -> Connection:
        return Connection(self)

    def close_idle(self) -> None:
        """Close what is idle; what is being answered closes after its answer."""
        for connection in list(self.connections):
            connection.close_if_idle()


def _head(answer: Answer, *, keep: bool) -> bytes:
    headers = {"Cache-Control": "no-store", **answer.headers}
    if answer.content_type:
        headers["Content-Type"] = answer.content_type
    if answer.status not in (204, 304):
        headers["Content-Length"] = str(answer.length)
    if not keep:
        headers["Connection"] = "close"
    return head(f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}", headers)
