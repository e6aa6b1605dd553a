"""Bodies too big for a database row: files named by the SHA-256 of their content.

On disk: ``bodies/ab/cdef…`` (complete, immutable) and ``bodies/spool/*`` (being written). A file has its name, and it and its folder are
fsynced, before any row refers to it, so a row never points into nothing.

A new name is linked before the file is fsynced: then one commit of the file system's journal has both, where a rename after the fsync
needs a second one. After a crash a file without a row may therefore be incomplete; who spools the same content again finds the name
taken, and replaces the file by one that is fsynced already. The same holds where the name is taken by the file of a row.

Removal (invariants)
1. Only the writer thread removes, in a transaction of its own: no row is pending, and no other process can write one meanwhile.
2. What was spooled is pinned until its accept has ended; what is pinned is not removed, whatever the rows say.
3. `accept` looks for the file in the transaction that makes the row, so a row cannot come after a removal either.

What no row refers to any more (a purge or a settlement took the last one, a commit failed, the process died) is found by the sweep,
which walks through the files in small steps; a purge removes what it has orphaned at once.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from engine.errors import StoreCorrupt, StoreError, StoreFull
from engine.message import BodyRef, Excerpt

WRITE_BACK: Final = 8 << 20
"""Bytes after which the disk is told to begin."""
_FOR_NOW: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN)


class Bodies:
    """The content-addressed files of one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spool = folder / "spool"
        self._pinned: Counter[str] = Counter()
        self._guard = threading.Lock()  # of the pins: the reactor thread spools, the writer thread removes
        self._walk: Iterator[str] = iter(())

    def open(self) -> None:
        """Make the folders, and remove what a crash left half written."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._spool.mkdir(mode=0o700, exist_ok=True)
        for rest in self._spool.iterdir():
            rest.unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:]

    def keep(self, body: bytes) -> BodyRef:
        """Write a body that is in memory. Raises OSError."""
        spool = FileSpool(self._spool, self.path)  # not pinned: its row comes in the same transaction
        spool.write(body)
        return spool.finish()

    def spool(self) -> FileSpool:
        """Begin a body that comes in pieces; it is pinned from its `finish` until `unpin`. Raises StoreFull."""
        return FileSpool(self._spool, self.path, self.pin, self.unpin)

    def pin(self, digest: str) -> None:
        with self._guard:
            self._pinned[digest] += 1

    def unpin(self, digest: str) -> None:
        """The row is committed, or will not come. Harmless for what was never pinned."""
        with self._guard:
            if self._pinned[digest] <= 1:
                del self._pinned[digest]
            else:
                self._pinned[digest] -= 1

    def has(self, ref: BodyRef) -> bool:
        """Whether the file is there, in its full size. Not whether its content is right: that is checked at every reading."""
        try:
            return self.path(ref.digest).stat().st_size == ref.size
        except OSError:
            return False

    def read(self, ref: BodyRef, most: int = 0) -> bytes:
        """The whole body, checked; of one of more than `most` bytes (0: of none) an Excerpt of the first `most`, unchecked. Raises
        StoreCorrupt when it is not what it was or cannot be read, StoreError when it cannot be read now."""
        try:
            if 0 < most < ref.size:
                with self.path(ref.digest).open("rb") as file:
                    return Excerpt(file.read(most), ref.digest, self.path(ref.digest))
            body = self.path(ref.digest).read_bytes()
        except OSError as error:
            kind = StoreError if error.errno in _FOR_NOW else StoreCorrupt
            raise kind(f"the body {ref.digest[:12]} cannot be read: {error.strerror}") from None
        if hashlib.sha256(body).hexdigest() != ref.digest:
            raise StoreCorrupt(f"the body {ref.digest[:12]} is not what was stored")
        return body

    def remove(self, digest: str) -> bool:
        """Remove a file that no row refers to, unless it is pinned. For the writer thread, in a transaction of its own."""
        with self._guard:
            if digest in self._pinned:
                return False
            self.path(digest).unlink(missing_ok=True)
            return True

    def next_files(self, most: int) -> list[str]:
        """The digests of the next files in an endless walk through all of them; fewer than `most` at the end of a round."""
        found = list(islice(self._walk, most))
        if len(found) < most:
            self._walk = self._files()
        return found

    def _files(self) -> Iterator[str]:
        for folder in sorted(os.listdir(self._folder)):
            if len(folder) == 2:
                yield from (folder + name for name in os.listdir(self._folder / folder))


class FileSpool:
    """engine.store.contract.Spool"""

    def __init__(
        self,
        folder: Path,
        path: Callable[[str], Path],
        pin: Callable[[str], None] = lambda digest: None,
        unpin: Callable[[str], None] = lambda digest: None,
    ) -> None:
        try:
            handle, name = tempfile.mkstemp(dir=folder)
        except OSError as error:
            raise StoreFull(f"a body cannot be written: {error.strerror}") from None
        self._file = os.fdopen(handle, "wb")
        self._name, self._path, self._pin, self._unpin = Path(name), path, pin, unpin
        self._digest = hashlib.sha256()
        self._size = self._begun = 0

    def write(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self.abort()
            raise StoreFull(f"a body cannot be written: {error.strerror}") from None
        self._digest.update(data)
        self._size += len(data)
        if self._size - self._begun >= WRITE_BACK and hasattr(os, "posix_fadvise"):
            self._begin_write_back()

    def _begin_write_back(self) -> None:
        """Have the disk begin with what has come, so that little is left for the fsync; Linux takes this advice so."""
        with suppress(OSError):
            os.posix_fadvise(self._file.fileno(), self._begun, self._size - self._begun, os.POSIX_FADV_DONTNEED)
        self._begun = self._size

    def peek(self) -> Path:
        try:
            self._file.flush()
        except OSError as error:
            self.abort()
            raise StoreFull(f"a body cannot be written: {error.strerror}") from None
        return self._name

    def finish(self) -> BodyRef:
        ref = BodyRef(self._digest.hexdigest(), self._size)
        target = self._path(ref.digest)
        self._pin(ref.digest)  # before it has its name: a removal under way must see the pin, or be over
        try:
            self._file.flush()
            made = _make_folder(target.parent)
            linked = self._link(target)
            os.fsync(self._file.fileno())
            self._file.close()
            if not linked:
                self._name.replace(target)
            _sync_folder(target.parent)
            if made:
                _sync_folder(target.parent.parent)
            if linked:
                self._name.unlink()
        except OSError as error:
            self.abort()
            self._unpin(ref.digest)  # what has the name now may be another's, and is swept if it is nobody's
            raise StoreFull(f"a body cannot be written: {error.strerror}") from None
        return ref

    def _link(self, target: Path) -> bool:
        """Give it its name, unless that is taken, or the file system has no links."""
        try:
            os.link(self._name, target)
        except OSError:
            return False
        return True

    def abort(self) -> None:
        self._name.unlink(missing_ok=True)
        with suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()


def _make_folder(folder: Path) -> bool:
    """Whether it had to be made."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
