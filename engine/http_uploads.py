"""Request bodies that are taken as they come, because they may be larger than memory.

    begin (Desk) -> Upload
    content, content, ...          each piece of the body, on the reactor thread
    ended                          the body is complete: its Deferred fires with the answer
    or cut, then ended             the server stops
    or gone                        the client went away before the end; ended is not called

An upload does not have to be careful: what `content`, `ended` and `cut` raise, and what their Deferred fails with, becomes the answer.
Where that comes before the end of the body the rest is not read, the upload hears `gone`, and the connection closes after the answer.
    HttpRefusal    its own status
    FramingError   the status in its `reply_hint`, 400 without
    StoreError     503 with Retry-After
    anything else  a bug: 500, and logged
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from engine.http_answers import Answer, HttpRefusal

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http_coding import Decoder
    from engine.http_source import Reception
    from engine.message import BodyRef
    from engine.store.contract import Spool

IN_MEMORY: Final = 64 << 10
STOPS: Final = "the server stops; send again later"


class Upload(Protocol):
    """A request whose body is taken as it comes; see above for who calls what when.

    `full`: it cannot take more just now, and will call `wake` (set before the first `content`) when it can: meanwhile the client is not
    read, and nothing is held against it. `over`: it does not want the rest of the body, and its `ended` is called at once."""

    wake: Callable[[], None]

    @property
    def full(self) -> bool: ...

    @property
    def over(self) -> bool: ...

    def content(self, data: bytes) -> None:
        """The next bytes of the body; never empty."""

    def ended(self) -> Answer | Deferred[Answer]:
        """The body is complete, or the rest not wanted (then the answer must not have pieces in files). Called once."""

    def cut(self) -> None:
        """The server stops: raise HttpRefusal 503, or set `over` where something can be answered for already."""

    def gone(self) -> Deferred[Any] | None:
        """No more comes, and nobody hears an answer: let go of what was kept. A Deferred keeps the source from ending before it fires."""


class Receiving:
    """An upload held to its contract, whatever it does: what engine.http_server.Connection knows of it. `worded` makes an answer of a
    failure; `settled` is called once, with the answer (None: nobody hears one) when nothing of the upload is under way any more."""

    def __init__(self, upload: Upload, worded: Callable[[Failure], Answer], settled: Callable[[Answer | None], None]) -> None:
        self._upload, self._worded, self._settled = upload, worded, settled
        self._fault: Failure | None = None

    @property
    def full(self) -> bool:
        return self._fault is None and self._upload.full

    @property
    def over(self) -> bool:
        return self._fault is not None or self._upload.over

    def wake_by(self, wake: Callable[[], None]) -> None:
        self._upload.wake = wake

    def content(self, data: bytes) -> None:
        self._try(self._upload.content, data)

    def cut(self) -> None:
        self._try(self._upload.cut)

    def _try(self, step: Callable[..., None], *arguments: Any) -> None:
        if self.over:
            return
        try:
            step(*arguments)
        except Exception:  # noqa: BLE001  it must not end the connections of others; `worded` logs what is a bug
            self._fault = Failure()
            self._end = self._let_go()

    def ended(self) -> Deferred[Answer]:
        """Never fails."""
        answer: Deferred[Any]
        if self._fault is not None:
            fault = self._fault
            answer = self._end.addCallback(lambda _: self._worded(fault))
        else:
            answer = maybeDeferred(self._upload.ended)
            answer.addErrback(self._worded)
        return answer.addCallback(self._give)

    def _give(self, answer: Answer) -> Answer:
        self._settled(answer)
        return answer

    def gone(self) -> None:
        end = self._end if self._fault is not None else self._let_go()
        end.addCallback(lambda _: self._settled(None))

    def _let_go(self) -> Deferred[Any]:
        return maybeDeferred(self._upload.gone).addErrback(self._worded)


class WholeBody:
    """Upload of a body that becomes one message: decoded, bounded, in memory while it is small and in the store's spool beyond.

    `take` is handed what was kept when the body is complete, and gives the answer: bytes, or a BodyRef that is fsynced and can be opened
    (`Context.body_file`). A BodyRef goes to the intake, or to `Context.unspool` where the request is refused without becoming a message.
    `take` is not called once the source stops. `first` stands before the body in what is kept."""

    def __init__(
        self,
        reception: Reception,
        context: Context,
        decoder: Decoder,
        take: Callable[[bytes | BodyRef], Answer | Deferred[Answer]],
        first: bytes = b"",
    ) -> None:
        self._reception, self._context, self._decoder, self._take = reception, context, decoder, take
        self._memory = bytearray(first)
        self._spool: Spool | None = None
        self.full = self.over = False
        self.wake: Callable[[], None] = lambda: None

    def content(self, data: bytes) -> None:
        """Upload"""
        for piece in self._decoder.feed(data):
            self._keep(piece)

    def _keep(self, data: bytes) -> None:
        if self._spool is None:
            self._memory += data
            if len(self._memory) <= IN_MEMORY:
                return
            self._spool, data = self._context.spool(), bytes(self._memory)
            self._memory.clear()
        self._spool.write(data)

    def ended(self) -> Deferred[Answer]:
        """Upload"""
        try:
            self._decoder.finish()
        except Exception:
            self.gone()
            raise
        spool, self._spool = self._spool, None
        body: Deferred[Any] = succeed(bytes(self._memory)) if spool is None else self._reception.in_thread(spool.finish)
        self._memory.clear()
        return body.addCallback(self._hand_on)

    def _hand_on(self, body: bytes | BodyRef) -> Answer | Deferred[Answer]:
        if self._reception.stopping:
            if not isinstance(body, bytes):
                self._context.unspool(body)
            self.cut()
        return self._take(body)

    def cut(self) -> None:
        """Upload"""
        raise HttpRefusal(503, STOPS, headers={"Retry-After": "5"})

    def gone(self) -> None:
        """Upload"""
        self._memory.clear()
        if self._spool is not None:
            self._spool.abort()
            self._spool = None
