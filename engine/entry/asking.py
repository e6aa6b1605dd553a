"""A request whose sender is still being asked about: what comes of its body meanwhile waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from engine.errors import FramingError
from engine.http_answers import Answer, HttpRefusal, Sender
from engine.http_uploads import STOPS, Upload

Begin = Callable[[Sender], Upload | None]
"""Admits the sender, and gives what takes the body, None to have it collected. Raises as engine.http_source.Desk.begin."""
Whole = Callable[[bytes, Sender], Answer | Deferred[Answer]]


class Asking:
    """engine.http_uploads.Upload, which goes on as `begin` wants it once `sender` fires. A body that is to be collected has at most `most`
    bytes, and goes to `answer`. While nothing is known the connection is not read, so that no more than one read of it is kept here."""

    def __init__(self, sender: Deferred[Sender], begin: Begin, answer: Whole, most: int) -> None:
        self._begin, self._whole, self._most = begin, answer, most
        self._body = bytearray()
        self._inner: Upload | None = None
        self._fault: Failure | None = None
        self._left: Deferred[Any] = succeed(None)
        self._ended: Deferred[Any] | None = None
        self._asked = True
        self._over = False
        self._wake: Callable[[], None] = lambda: None
        self.sender: Sender | None = None
        """Once it is known, and admitted."""
        sender.addCallbacks(self._known, self._refused)

    def _known(self, sender: Sender) -> None:
        if self._over:
            return
        try:
            self._inner = self._begin(sender)
            self.sender = sender
            if self._inner is not None:
                self._hand_on(self._inner)
        except Exception:  # noqa: BLE001  engine.http_uploads.Receiving words it
            self._fault = Failure()
            self._left = self._let_go()
        self._go_on()

    def _hand_on(self, inner: Upload) -> None:
        inner.wake = self._wake
        waiting = bytes(self._body)
        self._body.clear()
        if waiting:
            inner.content(waiting)

    def _let_go(self) -> Deferred[Any]:
        """The upload hears `gone`, once."""
        inner, self._inner = self._inner, None
        return maybeDeferred(inner.gone) if inner is not None else succeed(None)

    def _refused(self, failure: Failure) -> None:
        self._fault = failure
        self._go_on()

    def _go_on(self) -> None:
        self._asked = False
        if self._ended is not None:
            self._ended.callback(None)
        self._wake()

    @property
    def wake(self) -> Callable[[], None]:
        return self._wake

    @wake.setter
    def wake(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self._inner is not None:
            self._inner.wake = wake

    @property
    def full(self) -> bool:
        return self._asked or (self._inner is not None and self._inner.full)

    @property
    def over(self) -> bool:
        return self._fault is not None or (self._inner is not None and self._inner.over)

    def content(self, data: bytes) -> None:
        """Upload"""
        if self._inner is not None:
            self._inner.content(data)
            return
        self._body += data
        if len(self._body) > self._most and not self._asked:
            raise FramingError("the body is larger than allowed", reply_hint="413")

    def ended(self) -> Answer | Deferred[Answer]:
        """Upload"""
        if not self._asked:
            return self._answer(None)
        self._ended = Deferred()
        return self._ended.addCallback(self._answer)

    def _answer(self, _: Any) -> Answer | Deferred[Answer]:
        if self._fault is not None:
            return self._left.addBoth(lambda _: self._fault)
        if self._inner is not None:
            return self._inner.ended()
        if len(self._body) > self._most:
            raise FramingError("the body is larger than allowed", reply_hint="413")
        assert self.sender is not None
        return self._whole(bytes(self._body), self.sender)

    def cut(self) -> None:
        """Upload"""
        if self._inner is not None:
            self._inner.cut()
        elif self._asked:
            raise HttpRefusal(503, STOPS, headers={"Retry-After": "5"})

    def gone(self) -> Deferred[Any] | None:
        """Upload"""
        self._over = True
        self._body.clear()
        return self._let_go() if self._fault is None else self._left
