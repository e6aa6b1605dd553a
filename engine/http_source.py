"""What sources that are HTTP servers have in common: they listen, know who asks, admit no more than the channel allows, count, and stop
without losing what is under way. What requests mean is the matter of a `Desk`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from engine.entry.asking import Asking
from engine.entry.entrance import Entrance
from engine.errors import FramingError, StoreError
from engine.http1 import Message, content_length
from engine.http_admission import Admission, Answers
from engine.http_answers import Answer, HttpRefusal, Sender
from engine.http_server import MOST_FORM, HttpServer, Limits
from engine.http_uploads import Receiving, Upload
from engine.listening import listen

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.entry.entrance import Page
    from engine.http_server import Connection
    from engine.options import Settings

_LATER: Final = {"Retry-After": "5"}


class Desk(Protocol):
    """What a source does with the requests that come to its reception. All on the reactor thread."""

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], sender: Sender) -> Upload | None:
        """The head of a request (method, target, version; headers by lower-case name) is there, and not a byte of its body: what takes
        that as it comes, None to have it collected (`Limits.most_body`) and `answer` called. Raises HttpRefusal, FramingError: said
        at once, without reading the body, and the connection ends. An upload that is not admitted hears `gone`, and nothing else."""

    def answer(self, message: Message, sender: Sender) -> Answer | Deferred[Answer]:
        """Answer a request whose body was collected. What it raises, or fails with, becomes the answer as engine.http_uploads says."""

    def worded(self, refused: HttpRefusal) -> Answer:
        """A refusal in the words of the protocol: the desk's own, and those of the reception (400 408 413 431 505 framing, 401 429 503
        admission, 500 503 failures), which have no more than a status, a sentence and headers. Must not fail."""


class Reception:
    """engine.http_server.Site: a listener with its connections, for one Desk.

    `options` have `listen`, `tls`, `base`, `public_url`, `requests` and `requests_per_peer`. `name` is that of the adapter in metrics and
    audit records (``fhir``), `title` in their help (``FHIR``). `threads` at most work for `in_thread`. Where `options` say who
    may enter (engine.entry.options.AUTH) each request is one of a registered party: its Sender says which, whatever has proven it;
    `public` are the paths below the base that anybody may ask for; `vouched`: see engine.entry.entrance.Entrance.
    """

    def __init__(
        self,
        desk: Desk,
        options: Settings,
        context: Context,
        limits: Limits,
        *,
        name: str,
        title: str,
        threads: int,
        public: Collection[str] = (),
        vouched: bool = False,
    ) -> None:
        self._desk, self._options, self._context, self._limits = desk, options, context, limits
        self._name = name
        self._server = HttpServer(self, limits, context.reactor, self.warn)
        self._pool = ThreadPool(0, threads, f"{context.name} {name}")
        self._admission, self._answers = Admission(options, context), Answers(name, title, context)
        self._port: Any = None
        self.base = "/" + options.base.strip("/") if options.base.strip("/") else ""
        self._entrance: Entrance | None = None
        if getattr(options, "auth", None) is not None:
            how = {"public": public, "in_thread": self.in_thread, "vouched": vouched}
            self._entrance = Entrance(options, context, name=name, base=self.base, **how)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return int(self._port.getHost().port)

    @property
    def stopping(self) -> bool:
        """The intake may not be called any more."""
        return self._server.stopping

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Work that is too slow for the reactor thread."""
        return deferToThreadPool(self._context.reactor, self._pool, function, *arguments)

    def url(self, headers: Mapping[str, str]) -> str:
        """The address of `base` as this client sees it."""
        if self._options.public_url:
            return str(self._options.public_url)
        scheme = "http" if self._options.tls is None else "https"
        return f"{scheme}://{headers.get('host', 'localhost')}{self.base}"

    def proven(self, peer: str, sender: Sender) -> None:
        """The source itself has proven this party, "" for none. Raises HttpRefusal 401, 403, 429 where it may not enter."""
        if self._entrance is not None:
            self._entrance.admit(peer, sender)

    def warn(self, text: str) -> None:
        self._context.log.warning(text, extra={"channel": self._context.name})

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Listen. Fails with ConfigError."""
        return maybeDeferred(self._listen)

    def _listen(self) -> None:
        if self._entrance is not None:
            self._entrance.open()
        self._port = listen(self._server, self._options, self._context)
        self._pool.start()

    def stop(self) -> Deferred[None]:
        """Nothing new is taken from now on; fires when all that was is answered. May be called again."""
        self._server.stop()
        port, self._port = self._port, None
        stopped = maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)
        return stopped.addCallback(lambda _: self._admission.when_idle()).addCallback(self._stopped)

    def _stopped(self, _: Any) -> Deferred[None] | None:
        self._server.stop()  # the connections whose last answer has gone out
        if not self._pool.joined:
            self._pool.stop()
        return self._entrance.close() if self._entrance is not None else None

    # --- requests --------------------------------------------------------------------------------

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], connection: Connection) -> Receiving | None:
        """engine.http_server.Site"""
        try:
            sender = self._enter(start[1], headers, connection)
            if isinstance(sender, Deferred):
                return self._ask(sender, start, headers)
            if self._page(start[1]) is not None:
                _check_small(headers)
                return None
            upload = self._desk.begin(start, headers, sender)
        except Exception as error:  # noqa: BLE001  whatever it is, this client hears of it, and others go on
            raise self._refusal_of(error) from error.__cause__
        if upload is None:
            return None
        receiving = Receiving(upload, self._failed, partial(self._settled, sender))
        try:
            self._admit(sender)
        except HttpRefusal:
            upload.gone()
            raise
        return receiving

    def _ask(self, sender: Deferred[Sender], start: tuple[str, str, str], headers: Mapping[str, str]) -> Receiving:
        """The sender is known later, and so is what is done with the body."""

        def begin(sender: Sender) -> Upload | None:
            upload = self._desk.begin(start, headers, sender)
            try:
                self._admit(sender)
            except HttpRefusal:
                if upload is not None:
                    upload.gone()
                raise
            return upload

        def answer(body: bytes, sender: Sender) -> Answer | Deferred[Answer]:
            return self._desk.answer(Message(start, headers, body, keep_alive=True), sender)

        asking = Asking(sender, begin, answer, self._limits.most_body)
        return Receiving(asking, self._failed, lambda answer: self._settled(asking.sender, answer))

    def handle(self, message: Message, connection: Connection) -> Deferred[Answer]:
        """engine.http_server.Site"""
        try:
            sender = self._enter(message.start[1], message.headers, connection)
        except Exception as error:  # noqa: BLE001  the registry's file, say: this client hears of it
            return maybeDeferred(self.refused, self._refusal_of(error), connection)
        if not isinstance(sender, Deferred):
            return self._answered_by(sender, message)
        return sender.addCallbacks(self._answered_by, self._refused_late, callbackArgs=(message,))

    def _answered_by(self, sender: Sender, message: Message) -> Deferred[Answer]:
        try:
            self._admit(sender)
        except Exception as error:  # noqa: BLE001  as in `handle`
            refused = self._refusal_of(error)
            refused.sender = sender
            return maybeDeferred(self._worded, refused)
        answer: Deferred[Answer] = maybeDeferred(self._page(message.start[1]) or self._desk.answer, message, sender)  # type: ignore[call-overload]
        return answer.addErrback(self._failed).addCallback(self._done, sender)

    def _refused_late(self, failure: Failure) -> Answer:
        return self._worded(self._refusal_of(failure.value))

    def _page(self, target: str) -> Page | None:
        """Where whoever lets in answers itself."""
        return self._entrance.pages.get(target.partition("?")[0]) if self._entrance is not None else None

    def _enter(self, target: str, headers: Mapping[str, str], connection: Connection) -> Sender | Deferred[Sender]:
        """Who a request is from. Raises, or fails with, HttpRefusal."""
        shown = self._sender(connection)
        if self._entrance is None or self._page(target) is not None:
            return shown
        return self._entrance.enter(target, headers, shown)

    def _sender(self, connection: Connection) -> Sender:
        """Who is at the other end; proven once for each connection. A certificate that is not allowed has ended in the handshake; none
        at all, where that is optional there, ends here. Raises HttpRefusal 401."""
        if connection.sender is None:
            address = connection.transport.getPeer()
            peer = shown = ""
            if self._options.tls is not None:
                peer = self._context.tls.peer(connection.transport)
                if not peer and self._options.tls.allow and self._entrance is None:
                    event = f"{self._name}.refused"
                    self._context.audit(event, channel=self._context.name, remote=address.host, reason="no certificate shown")
                    raise HttpRefusal(401, "this server wants a client certificate", headers={"Connection": "close"})
                shown = self._context.tls.thumbprint(connection.transport) if self._entrance is not None else ""
            connection.sender = Sender(peer, f"{address.host}:{address.port}", certificate=shown)
        return connection.sender

    def _admit(self, sender: Sender) -> None:
        """One more request is under way. Raises HttpRefusal 503, 429 where that is more than the channel allows."""
        self._admission.check(sender, stopping=self.stopping)
        if self._entrance is not None:
            self._entrance.count(sender)
        self._admission.begun(sender)

    # --- answers ---------------------------------------------------------------------------------

    def refused(self, refused: HttpRefusal, connection: Connection) -> Answer:
        """engine.http_server.Site"""
        if connection.sender is None:  # before its first request, or without the certificate that it needs
            address = connection.transport.getPeer()
            refused.sender = Sender("", f"{address.host}:{address.port}")
        else:
            refused.sender = connection.sender
        return self._worded(refused)

    def _worded(self, refused: HttpRefusal) -> Answer:
        answer = self._desk.worded(refused)
        self._answers.count(answer.status)
        return answer

    def _failed(self, failure: Failure) -> Answer:
        return self._desk.worded(self._refusal_of(failure.value))

    def _refusal_of(self, error: BaseException | None) -> HttpRefusal:
        """What engine.http_uploads says of errors."""
        if isinstance(error, HttpRefusal):
            return error
        if isinstance(error, FramingError):
            return HttpRefusal(int(error.reply_hint or 400), error.text, location=error.location)
        if isinstance(error, StoreError):
            return HttpRefusal(503, error.text, headers=_LATER)
        self._context.log.error("unexpected failure in a request", exc_info=error, extra={"channel": self._context.name})
        return HttpRefusal(500, "an error in the server")

    def _done(self, answer: Answer, sender: Sender) -> Answer:
        self._settled(sender, answer)
        return answer

    def _settled(self, sender: Sender | None, answer: Answer | None) -> None:
        """A request is not under way any more; None for the sender of one that never was."""
        if answer is not None:
            self._answers.count(answer.status)
        if sender is not None:
            self._admission.ended(sender)


def _check_small(headers: Mapping[str, str]) -> None:
    """A form is collected before anybody has said who it is from. Raises FramingError where it says that it is larger than one."""
    if "transfer-encoding" in headers:
        raise FramingError("the length must be said", reply_hint="411")
    if content_length(headers.get("content-length", "0")) > MOST_FORM:
        raise FramingError("the body is larger than allowed", reply_hint="413")
