"""Reads an instance back by WADO-RS (PS3.18 clause 10.4) and compares its data set with what was sent.

What the server stored is asked for in the transfer syntax that it has. The data set alone is compared: a server may write the file meta
information anew. The Retrieve URL's path below ``/studies/`` is asked of the server that we know, whatever host the URL names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool

from adapters.dicom.forward.part10 import DataSetDigest
from engine.errors import FramingError, ParseError, PermanentDelivery, TransientDelivery
from engine.formats.media_types import parse_content_type
from engine.formats.multipart import MultipartFramer, PartContent
from engine.http_client import refusal_of

if TYPE_CHECKING:
    from adapters.dicom.forward.instance import Instance
    from engine.contracts import Context
    from engine.http1 import Message, Sink
    from engine.http_client import HttpClient

_ACCEPT: Final = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
_BELOW: Final = re.compile(r"(/studies/[0-9.]+/series/[0-9.]+/instances/[0-9.]+)(?:/|$)")


class Retrieval:
    """Compares one instance after another with what the server gives back."""

    def __init__(self, client: HttpClient, context: Context) -> None:
        self._client, self._context = client, context

    def compare(self, instance: Instance, retrieve_url: str) -> Deferred[None]:
        """Fires when they agree. Fails with PermanentDelivery where they do not, with another DeliveryError where it cannot be told."""
        below = _BELOW.search(retrieve_url)
        if below is None:
            return fail(PermanentDelivery("it cannot be read back: the server gives no Retrieve URL of the instance"))
        reactor = self._context.reactor
        ours = deferToThreadPool(reactor, reactor.getThreadPool(), instance.data_set_digest)
        return ours.addCallback(self._ask, f"{self._client.path}{below[1]}")

    def _ask(self, ours: bytes, target: str) -> Deferred[None]:
        reading = Reading()
        asked = self._client.request("GET", target, _ACCEPT, begin=reading.begin)
        return asked.addCallback(self._check, reading, ours)

    def _check(self, message: Message, reading: Reading, ours: bytes) -> None:
        if message.start[1] != "200":
            error = refusal_of(message, message.body[:65536], self._context.clock)
            text = f"it cannot be read back: {error.text}"  # not permanent: what was stored may be findable a moment later
            raise TransientDelivery(text, answer=error.answer, retry_after=error.retry_after)
        theirs = reading.finish()
        if theirs != ours:
            raise PermanentDelivery("what the server stored is not what was sent: their data sets differ")


class Reading:
    """The digest of the one data set in an answer, while it comes: in a multipart body of one part, or as the body itself."""

    def __init__(self) -> None:
        self._digest = DataSetDigest()
        self._parts: MultipartFramer | None = None
        self._fault = ""

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str]) -> Sink | None:
        """engine.http1.Begin"""
        if start[1] != "200":
            return None
        try:
            name, parameters = parse_content_type(headers.get("content-type") or "application/dicom")
            if name == "multipart/related":
                self._parts = MultipartFramer(parameters.get("boundary", ""), most_parts=1)
        except (FramingError, ParseError) as error:
            self._fault = error.text
        return self._feed

    def _feed(self, data: bytes) -> None:
        """A fault is kept for the end: the connection is still of use."""
        if self._fault:
            return
        try:
            for piece in self._contents(data):
                self._digest.feed(piece)
        except (FramingError, ParseError) as error:
            self._fault = error.text

    def _contents(self, data: bytes) -> Iterator[bytes]:
        if self._parts is None:
            yield data
            return
        for event in self._parts.feed(data):
            if isinstance(event, PartContent):
                yield event.content

    def finish(self) -> bytes:
        """Raises TransientDelivery where the answer cannot be read."""
        try:
            if not self._fault and self._parts is not None:
                self._parts.finish()
            digest = self._digest.finish() if not self._fault else b""
        except (FramingError, ParseError) as error:
            self._fault = error.text
        if self._fault:
            raise TransientDelivery(f"it cannot be read back: {self._fault}")
        return digest
