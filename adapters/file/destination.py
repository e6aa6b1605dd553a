"""The destination `file`: each message a new file, on disk before it counts as delivered."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.file.naming import name_of
from adapters.file.places import MOST_NAME, numbered
from adapters.file.placing import place_of
from adapters.file.remote import Unanswered
from engine.errors import DeliveryError, PermanentDelivery, SecurityError, TransientDelivery, UncertainDelivery
from engine.message import BodyRef, Parcel, Receipt
from engine.templates import Content

if TYPE_CHECKING:
    from adapters.file.places import Place
    from engine.contracts import Context
    from engine.options import Settings

_CHUNK: Final = 1 << 20
_ITS_NAME: Final = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


class FileDestination:
    """engine.contracts.Destination. What is written once and told twice is recognized by its content, so that a repetition is no second
    file."""

    max_in_flight = 16
    reads_files = True

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._pool = ThreadPool(1, 1, name=f"file {context.name}")
        self._place: Place | None = None
        self._connected = False

    def open(self) -> Deferred[None]:
        """Does not look for the folder: one that is not mounted yet is waited for."""
        self._pool.start()
        return self._in_thread(self._make)

    def _make(self) -> None:
        self._place = place_of(self._options, self._context)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        return self._in_thread(self._deliver, parcel)

    def close(self) -> Deferred[None]:
        return self._in_thread(self._disconnect).addBoth(lambda _: self._pool.stop())

    def _in_thread(self, work: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, work, *arguments)

    # --- in the thread -----------------------------------------------------------------------------

    def _deliver(self, parcel: Parcel) -> Receipt:
        name = name_of(self._options.name, Content(parcel, self._context.name, self._context.body_file, {}).value)
        try:
            return self._write(name, parcel)
        except OSError as error:
            raise self._failed(error) from None
        except SecurityError as error:
            self._disconnect()
            raise TransientDelivery(error.text, whole_destination=True) from None

    def _write(self, wanted: str, parcel: Parcel) -> Receipt:
        assert self._place is not None
        if not self._connected:
            self._place.open()
            self._connected = True
        folder = self._options.into or ""
        for number in count(1):
            name = numbered(wanted, number)
            free = number == 1 or self._place.find(name, folder) is None  # a whole file is not written for each name that is taken
            if (free and self._place.write(name, self._chunks(parcel), folder)) or self._same(name, folder, parcel):
                break
            if self._options.existing == "refuse":
                raise PermanentDelivery("a file of that name is there with other content, and nothing is overwritten")
        if self._options.marker:
            self._place.write(name + self._options.marker, [], folder)
        return Receipt(name[:MOST_NAME])

    def _chunks(self, parcel: Parcel) -> Iterator[bytes]:
        if not isinstance(parcel.body, BodyRef):
            yield parcel.body
            return
        with self._context.body_file(parcel.body).open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def _same(self, name: str, folder: str, parcel: Parcel) -> bool:
        """Whether what is there is what we would write: it was, before an answer was lost."""
        assert self._place is not None
        found = self._place.find(name, folder)
        size = parcel.body.size if isinstance(parcel.body, BodyRef) else len(parcel.body)
        if found is None or found.size != size:
            return False
        there, ours = hashlib.sha256(), hashlib.sha256()
        for chunk in self._chunks(parcel):
            ours.update(chunk)
        with self._place.read(found.name) as file:
            while chunk := file.read(_CHUNK):
                there.update(chunk)
        return there.digest() == ours.digest()

    def _failed(self, error: OSError) -> DeliveryError:
        """A full disk, missing rights, a folder that is away: all of the destination waits until somebody has looked."""
        self._disconnect()
        reason = error.strerror or type(error).__name__
        if isinstance(error, Unanswered):
            return UncertainDelivery(reason, whole_destination=True)
        if error.errno in _ITS_NAME:
            return PermanentDelivery(f"the file cannot have that name: {reason}")
        return TransientDelivery(f"{self._place.said if self._place else 'the place'}: {reason}", whole_destination=True)

    def _disconnect(self) -> None:
        self._connected = False
        if self._place is not None:
            self._place.close()
