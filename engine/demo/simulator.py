"""Sends a morning as a hospital's systems do: one connection each, one message at a time, and again until it is answered.

    sender = Sender(items, endpoint(reactor, "127.0.0.1", 2575), reactor=reactor, pace=0.002)
    answers = yield sender.run()

A foreign hand on purpose: it shares no line with adapters.mllp, so the demo does not test Meridian against itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, fail, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from engine.demo.morning import Item

START: Final = b"\x0b"
END: Final = b"\x1c\r"
_POSITIVE: Final = ("AA", "CA", "ACK", "0000H", "202", "kept", "repeated")


def endpoint(reactor: Any, host: str, port: int, tls: Any = None) -> IStreamClientEndpoint:
    """Where to send: plain, or over TLS with what `tls` (an IOpenSSLClientConnectionCreator) shows and expects."""
    plain: Any = TCP4ClientEndpoint(reactor, host, port, timeout=5)
    where: IStreamClientEndpoint = plain if tls is None else wrapClientTLS(tls, plain)
    return where


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one item. `code` is MSA-1 (table 0008), an instrument's ACK, NAK or EOT, a DIMSE or an HTTP status, or what
    became of a line of an upload, "" when nobody answered;
    `latency` in seconds, of the last attempt."""

    item: Item
    code: str
    latency: float
    attempts: int


class Sender:
    """One sending system. `pace` is real seconds per second of the morning; `answers` grows while it runs; `line` speaks its protocol and
    `code` reads what is answered.

    An item that is not answered within `answer_within` seconds, or whose connection is lost, is sent again, up to `most_attempts` times.
    """

    def __init__(
        self,
        items: Iterable[Item],
        where: IStreamClientEndpoint,
        *,
        reactor: Any,
        pace: float = 0.0,
        answer_within: float = 10.0,
        most_attempts: int = 60,
        pause: float = 0.5,
        line: Callable[[], Any] | None = None,
        code: Callable[[bytes], str] | None = None,
    ) -> None:
        self.items = sorted(items, key=lambda item: item.at_seconds)
        self.answers: list[Answer] = []
        self._where, self._reactor, self._pace = where, reactor, pace
        self._answer_within, self._most_attempts, self._pause = answer_within, most_attempts, pause
        self._make_line, self._code = line or _Line, code or acknowledgment_code
        self._line: Any = None

    @inlineCallbacks
    def run(self) -> Generator[Deferred[Any], Any, list[Answer]]:
        """Send everything; fires with one answer for each item, in the order of sending."""
        began = self._reactor.seconds()
        for item in self.items:
            early = began + item.at_seconds * self._pace - self._reactor.seconds()
            if early > 0:
                yield deferLater(self._reactor, early)
            self.answers.append((yield self._send(item)))
        if self._line is not None:
            self._line.close()
        return self.answers

    @inlineCallbacks
    def _send(self, item: Item) -> Generator[Deferred[Any], Any, Answer]:
        for attempt in range(1, self._most_attempts + 1):
            try:
                if self._line is None:
                    self._line = yield connectProtocol(self._where, self._make_line())
                sent = self._reactor.seconds()
                answer = yield self._line.ask(item.body).addTimeout(self._answer_within, self._reactor)
                return Answer(item, self._code(answer), self._reactor.seconds() - sent, attempt)
            except (ConnectError, ConnectionLost, TimeoutError):
                # an answer that comes after all must not be taken for the next one's: this connection is done with
                self._drop()
                if attempt < self._most_attempts:
                    yield deferLater(self._reactor, self._pause)
        return Answer(item, "", 0.0, self._most_attempts)

    def _drop(self) -> None:
        if self._line is not None:
            self._line.abort()
            self._line = None


def acknowledgment_code(answer: bytes) -> str:
    """MSA-1 of an acknowledgment (table 0008), "" where there is none."""
    for line in answer.split(b"\r"):
        if line.startswith(b"MSA") and len(line) > 4:
            return line[4:].split(line[3:4], 1)[0].decode("ascii", "replace")
    return ""


class Receiver(Factory):
    """A system that takes messages over MLLP and answers each AA. `taken` counts them by control id."""

    noisy = False

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Taking(self)


class _Taking(Protocol):
    transport: Any

    def __init__(self, receiver: Receiver) -> None:
        self._receiver, self._buffer = receiver, b""

    def dataReceived(self, data: bytes) -> None:
        *messages, self._buffer = (self._buffer + data).split(END)
        for message in messages:
            header = message.lstrip(START).split(b"\r", 1)[0].decode().split("|")
            self._receiver.taken[header[9]] += 1
            answer = (
                f"MSH|^~\\&|{header[4]}|{header[5]}|{header[2]}|{header[3]}|{header[6]}||ACK|R{header[9]}|P|2.3.1\rMSA|AA|{header[9]}\r"
            )
            self.transport.write(START + answer.encode() + END)


@dataclass(frozen=True)
class Report:
    """Sums over answers. `unanswered` and `unexpected` hold control ids ("" for a message that has none)."""

    sent: int
    codes: dict[str, int]
    repeated: int
    unanswered: tuple[str, ...]
    unexpected: tuple[str, ...]

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Report:
        """An accepted item and a duplicate must hear AA, CA, ACK, 0000H, 202, kept or repeated, a broken one must hear anything else."""
        return cls(
            sent=len(answers),
            codes=dict(Counter(answer.code for answer in answers)),
            repeated=sum(answer.attempts > 1 for answer in answers),
            unanswered=tuple(answer.item.control_id for answer in answers if not answer.code),
            unexpected=tuple(a.item.control_id for a in answers if a.code and (a.code in _POSITIVE) != (a.item.expect != "broken")),
        )


class _Line(Protocol):
    """One MLLP connection with at most one message under way."""

    transport: Any

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: Deferred[bytes] | None = None
        self._lost = False

    def ask(self, body: bytes) -> Deferred[bytes]:
        """Send one message; fires with the payload of the frame that answers it."""
        if self._lost:
            return fail(ConnectionLost())
        waiting: Deferred[bytes] = Deferred()
        self._waiting = waiting
        self.transport.write(START + body + END)
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        payload, end, rest = self._buffer.partition(END)
        if end:
            self._buffer = rest
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.callback(payload.lstrip(START))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """However it was lost, a refused TLS handshake included: there will be no answer."""
        self._lost = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(ConnectionLost())

    def close(self) -> None:
        self.transport.loseConnection()

    def abort(self) -> None:
        if not self._lost:
            self.transport.abortConnection()
