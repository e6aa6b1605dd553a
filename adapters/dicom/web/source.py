"""The DICOMweb source: a server whose store requests become messages, and whose reads come from an archive.

An instance is answered for as stored only after the intake's commit.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.dicom.web.answers import Answer, refusal, sentence
from adapters.dicom.web.capabilities import capabilities
from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.media import DICOM_FILE, DICOM_JSON, DICOM_XML, RELATED, acceptable, choose, parse_media_type
from adapters.dicom.web.multipart import MultipartFramer
from adapters.dicom.web.outcomes import Outcome
from adapters.dicom.web.outcomes import answer as store_answer
from adapters.dicom.web.reading import Reads
from adapters.dicom.web.server import Limits, Sender, WebServer
from adapters.dicom.web.store import StoreRequest, Taking
from adapters.dicom.web.targets import Target, find_target
from engine.errors import ConfigError, FramingError, StoreError
from engine.listening import listen

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from adapters.dicom.web.server import Connection, Upload
    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.options import Settings

_BUSY = {"Retry-After": "1"}


class DicomwebSource:
    """engine.contracts.Source, adapters.dicom.web.server.Site"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._base = "/" + options.base.strip("/") if options.base.strip("/") else ""
        self._pool = ThreadPool(0, 6, f"{context.name} files")
        limits = Limits(options.receive_within, options.idle, options.connections)
        self._server = WebServer(self, limits, context.reactor, self._warn)
        self._secret = secrets.token_bytes(16)  # an instance could be made to contain a boundary that can be guessed
        self._reads = Reads(options.archive, context, self._in_thread, self._boundary) if options.archive is not None else None
        self._taking: Taking | None = None
        self._under_way: Tally[str] = Tally()
        self._answered: dict[int, Any] = {}
        self._idle: list[Deferred[None]] = []
        self._port: Any = None
        self.stopping = False

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return int(self._port.getHost().port)

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, function, *arguments)

    def _boundary(self) -> str:
        return hashlib.sha256(self._secret + self._context.new_id().encode()).hexdigest()[:40]

    def _warn(self, text: str) -> None:
        self._context.log.warning(text, extra={"channel": self._context.name})

    # --- life ------------------------------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        options = self._options
        self._taking = Taking(self._context, intake, self._in_thread, lambda: self.stopping, options.most_instance, options.most_request)
        try:
            self._port = listen(self._server, options, self._context)
        except ConfigError as error:
            return fail(error)
        self._pool.start()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.stopping = True
        port, self._port = self._port, None
        stopped = maybeDeferred(port.stopListening) if port is not None else succeed(None)
        stopped.addCallback(lambda _: deferLater(self._context.reactor, 0, self._server.close_idle))  # a request may be half taken in
        return stopped.addCallback(self._when_idle).addCallback(self._stopped)

    def _when_idle(self, _: Any) -> Deferred[None] | None:
        if not self._under_way.total():
            return None
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def _stopped(self, _: Any) -> None:
        self._server.close_idle()  # the connections whose last answer has gone out
        if not self._pool.joined:
            self._pool.stop()
        if self._reads is not None:
            self._reads.close()

    # --- requests --------------------------------------------------------------------------------

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], connection: Connection) -> Upload | None:
        """adapters.dicom.web.server.Site: every POST is a store request. Raises WebRefusal before a byte of it is read."""
        if start[0] != "POST":
            return None
        sender = self._sender(connection)
        target = find_target(start[0], start[1], self._base)
        media = _answer_type(target, headers)
        framer = _body_framer(headers, self._options.most_parts)
        length = headers.get("content-length", "")
        if length.isascii() and length.isdecimal() and int(length[:19]) > self._options.most_request:
            raise WebRefusal(413, f"a request may have {self._options.most_request} bytes")
        self._admit(sender)
        base = self._url(headers) if self._reads is not None else ""
        assert self._taking is not None

        def worded(outcomes: list[Outcome], cut: bool) -> Answer:
            return self._done(store_answer(outcomes, base, media, closes=cut), sender)

        return StoreRequest(self._taking, target.study, framer, sender, worded)

    def handle(self, message: Message, connection: Connection) -> Deferred[Answer]:
        """adapters.dicom.web.server.Site"""
        try:
            sender = self._sender(connection)
            self._admit(sender)
        except WebRefusal as refused:
            self.refused(refused.status)
            return succeed(refusal(refused))
        answer: Deferred[Answer] = maybeDeferred(self._dispatch, message, sender)  # type: ignore[call-overload]
        return answer.addErrback(self._failed).addCallback(self._done, sender)

    def _dispatch(self, message: Message, sender: Sender) -> Answer | Deferred[Answer]:
        method, address, _ = message.start
        target = find_target(method, address, self._base)
        if method == "OPTIONS":
            return Answer(204, headers={"Allow": ", ".join(target.allowed)})
        if target.kind == "capabilities":
            return capabilities(self._url(message.headers), message.headers, reads=self._reads is not None)
        if self._reads is None:
            raise WebRefusal(404, "nothing can be read from this server; it only takes instances")
        return self._reads.read(target, message.headers, sender, self._url(message.headers))

    def _sender(self, connection: Connection) -> Sender:
        """Who is at the other end; proven once for each connection. A certificate that is not allowed has ended in the handshake; none
        at all, where that is optional there, ends here. Raises WebRefusal 401."""
        if connection.sender is None:
            address = connection.transport.getPeer()
            peer = ""
            if self._options.tls is not None:
                peer = self._context.tls.peer(connection.transport)
                if not peer and self._options.tls.allow:
                    self._context.audit("dicomweb.refused", channel=self._context.name, remote=address.host, reason="no certificate shown")
                    raise WebRefusal(401, "this server wants a client certificate", headers={"Connection": "close"})
            connection.sender = Sender(peer, f"{address.host}:{address.port}")
        return connection.sender

    def _admit(self, sender: Sender) -> None:
        """One more request is under way. Raises WebRefusal 503, 429 where that is more than the channel allows."""
        if self.stopping or self._under_way.total() >= self._options.requests:
            raise WebRefusal(503, "the server is busy; try again later", headers=_BUSY)
        if self._under_way[_who(sender)] >= self._options.requests_per_peer:
            raise WebRefusal(429, "too many requests at once from this sender", headers=_BUSY)
        self._under_way[_who(sender)] += 1

    def _url(self, headers: Mapping[str, str]) -> str:
        """The base address as this client sees it."""
        if self._options.public_url:
            return str(self._options.public_url)
        scheme = "http" if self._options.tls is None else "https"
        return f"{scheme}://{headers.get('host', 'localhost')}{self._base}"

    def refused(self, status: int) -> None:
        """adapters.dicom.web.server.Site; counts any answer."""
        counter = self._answered.get(status)
        if counter is None:
            labels = {"channel": self._context.name, "status": str(status)}
            counter = self._context.metrics.counter(
                "meridian_dicomweb_answers_total", "DICOMweb requests answered, by HTTP status", **labels
            )
            self._answered[status] = counter
        counter.inc()

    def _failed(self, failure: Failure) -> Answer:
        error = failure.value
        if isinstance(error, WebRefusal):
            if error.__cause__ is not None:
                self._warn(f"{error.text}: {type(error.__cause__).__name__}")
            return refusal(error)
        if isinstance(error, StoreError):
            return sentence(503, error.text, {"Retry-After": "5"})
        self._context.log.error("unexpected failure in a request", exc_info=error, extra={"channel": self._context.name})
        return sentence(500, "an error in the server")

    def _done(self, answer: Answer, sender: Sender) -> Answer:
        self.refused(answer.status)
        self._under_way[_who(sender)] -= 1
        if not self._under_way[_who(sender)]:
            del self._under_way[_who(sender)]
        if not self._under_way:
            idle, self._idle = self._idle, []
            for waiting in idle:
                self._context.reactor.callLater(0, waiting.callback, None)  # after the answer is written
        return answer


def _who(sender: Sender) -> str:
    return sender.peer or sender.remote.rpartition(":")[0]


def _answer_type(target: Target, headers: Mapping[str, str]) -> str:
    """In what the store response is said. Raises WebRefusal 406."""
    return choose(acceptable(headers, target.parameter("accept")), {DICOM_JSON: "", "application/json": "", DICOM_XML: ""})


def _body_framer(headers: Mapping[str, str], most_parts: int) -> MultipartFramer | None:
    """What cuts the body, None where it is one instance. Raises WebRefusal 415, 400."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise WebRefusal(415, "the body must have no content coding")
    if not headers.get("content-type"):
        raise WebRefusal(415, f'the body must be {RELATED}; type="{DICOM_FILE}"')
    media = parse_media_type(headers["content-type"])
    if media.name == DICOM_FILE:
        return None
    if media.name != RELATED or media.inner not in (DICOM_FILE, "*/*"):
        raise WebRefusal(415, f'the body must be {RELATED}; type="{DICOM_FILE}": metadata and bulk data apart are not taken')
    try:
        return MultipartFramer(media.parameters.get("boundary", ""), most_parts=most_parts)
    except FramingError as error:
        raise WebRefusal(400, error.text) from None
