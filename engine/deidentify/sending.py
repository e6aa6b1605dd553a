"""The destination that de-identifies what it hands to another destination.

    Delivery ──parcel──▶ Deidentifying ──parcel without its patient──▶ the adapter's destination

Invariants
1. What cannot be de-identified, or fails the check of its result, becomes a dead letter of this destination with its reason; nothing of it
   is handed on, and other destinations of the channel have the message all the same.
2. The same parcel gives the same bytes at every attempt: pseudonyms are keyed, and nothing else is chosen.
3. A body that is a file becomes a file, named by its digest, in a folder of this destination; it is there until the delivery has ended.
4. The work is done on a thread of its own, not on the reactor's.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from engine.deidentify.content import CONTENT, deidentify, deidentify_file
from engine.deidentify.policy import Policy, Service
from engine.errors import ConfigError, MessageError, PermanentDelivery, Quarantined, TransientDelivery
from engine.message import DICOM, BodyRef, Parcel, Receipt

if TYPE_CHECKING:
    from engine.contracts import Context, Destination
    from engine.options import Settings

_FOLDER: Final = "deidentified"


class Deidentifying:
    """engine.contracts.Destination around another, which `make` builds under a context that knows the de-identified files."""

    def __init__(self, options: Settings, context: Context, make: Callable[[Context], Destination]) -> None:
        self._service = Service(options)
        self._context = context
        self._folder = context.data / _FOLDER / re.sub(r"[^\w.-]", "_", context.name)
        self._users: Counter[str] = Counter()
        self._guard = Lock()  # a file may be made again while its last delivery ends
        self._inner = make(replace(context, body_file=self._body_file))
        self.max_in_flight = self._inner.max_in_flight
        self.reads_files = bool(getattr(self._inner, "reads_files", False))
        self._pool = ThreadPool(0, 1, name=f"deidentify {context.name}")

    def open(self) -> Deferred[None]:
        """What an earlier run has left is removed: it is made again when it is wanted."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for rest in self._folder.iterdir():
            rest.unlink(missing_ok=True)
        self._pool.start()
        return self._inner.open()

    def wind_up(self) -> None:
        """engine.delivery: no more comes; the inner destination gives back what may take long."""
        wind_up = getattr(self._inner, "wind_up", None)
        if wind_up is not None:
            wind_up()

    def close(self) -> Deferred[None]:
        def closed(result: Any) -> Any:
            self._pool.stop()
            return result

        return self._inner.close().addBoth(closed)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        made: Deferred[Parcel] = deferToThreadPool(self._context.reactor, self._pool, self._made, parcel)
        return made.addCallback(self._hand_on)

    def _hand_on(self, parcel: Parcel) -> Deferred[Receipt]:
        if not isinstance(parcel.body, BodyRef):
            return self._inner.deliver(parcel)
        digest = parcel.body.digest

        def ended(result: Any) -> Any:
            with self._guard:
                self._users[digest] -= 1
                if not self._users[digest]:
                    del self._users[digest]
                    self._file(digest).unlink(missing_ok=True)
            return result

        return maybeDeferred(self._inner.deliver, parcel).addBoth(ended)

    # --- on the thread ---------------------------------------------------------------------------

    def _made(self, parcel: Parcel) -> Parcel:
        """The parcel with a body that may leave. Raises PermanentDelivery where none may, TransientDelivery for want of a key."""
        try:
            policy = self._service.policy()
            if parcel.content_type not in CONTENT:
                raise Quarantined(f"content of the type {parcel.content_type or 'unknown'} cannot be de-identified")
            body, uid = (
                self._file_made(parcel.body, parcel, policy) if isinstance(parcel.body, BodyRef) else self._bytes_made(parcel, policy)
            )
        except MessageError as error:
            raise PermanentDelivery(f"quarantined: {error}") from None
        except ConfigError as error:
            raise TransientDelivery(f"nothing can be de-identified: {error.text}", whole_destination=True) from None
        except OSError as error:
            raise TransientDelivery(f"the content cannot be de-identified now: {error.strerror}") from None
        return replace(parcel, body=body, control_id=uid if parcel.content_type == DICOM else parcel.control_id)

    @staticmethod
    def _bytes_made(parcel: Parcel, policy: Policy) -> tuple[bytes, str]:
        assert isinstance(parcel.body, bytes)
        return deidentify(parcel.body, parcel.content_type, policy)

    def _file_made(self, ref: BodyRef, parcel: Parcel, policy: Policy) -> tuple[BodyRef | bytes, str]:
        source = self._context.body_file(ref)
        if parcel.content_type != DICOM:  # text, of at most what a listener takes
            return deidentify(source.read_bytes(), parcel.content_type, policy)
        handle, name = tempfile.mkstemp(dir=self._folder)
        digest, size = hashlib.sha256(), 0
        try:
            with source.open("rb") as file, os.fdopen(handle, "wb") as out:

                def write(piece: bytes) -> None:
                    nonlocal size
                    digest.update(piece)
                    size += len(piece)
                    out.write(piece)

                uid = deidentify_file(file, write, parcel.content_type, policy, self._folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        with self._guard:
            os.replace(name, self._file(digest.hexdigest()))
            self._users[digest.hexdigest()] += 1
        return BodyRef(digest.hexdigest(), size), uid

    def _file(self, digest: str) -> Path:
        return self._folder / digest

    def _body_file(self, ref: BodyRef) -> Path:
        own = self._file(ref.digest)
        return own if own.exists() else self._context.body_file(ref)
