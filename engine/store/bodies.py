"""Bodies too big for a database row: files named by the SHA-256 of their content.

On disk: ``bodies/ab/cdef…`` (complete, immutable) and ``bodies/spool/*`` (being written). A file is fsynced, renamed into place and its
folder fsynced before any row refers to it, so a row never points into nothing. Files that no row refers to are removed by the
purge that took their last row, or at the next start.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine.errors import StoreCorrupt, StoreFull
from engine.message import BodyRef


class Bodies:
    """The content-addressed files of one store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spool = folder / "spool"

    def open(self) -> None:
        """Make the folders, and remove what a crash left half written."""
        self._spool.mkdir(parents=True, exist_ok=True)
        for rest in self._spool.iterdir():
            rest.unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:]

    def keep(self, body: bytes) -> BodyRef:
        """Write a body that is in memory. Raises OSError."""
        spool = self.spool()
        spool.write(body)
        return spool.finish()

    def spool(self) -> FileSpool:
        """Begin a body that comes in pieces."""
        return FileSpool(self._spool, self.path)

    def read(self, ref: BodyRef) -> bytes:
        """The whole body, checked. Raises StoreCorrupt when it is not what it was."""
        try:
            body = self.path(ref.digest).read_bytes()
        except OSError as error:
            raise StoreCorrupt(f"the body {ref.digest[:12]} cannot be read: {error.strerror}") from None
        if hashlib.sha256(body).hexdigest() != ref.digest:
            raise StoreCorrupt(f"the body {ref.digest[:12]} is not what was stored")
        return body

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def sweep(self, referred: Callable[[str], bool]) -> int:
        """Remove files that nothing refers to; gives how many."""
        gone = 0
        for folder in self._folder.iterdir():
            if folder.name != "spool":
                for file in folder.iterdir():
                    if not referred(folder.name + file.name):
                        file.unlink(missing_ok=True)
                        gone += 1
        return gone


class FileSpool:
    """engine.store.contract.Spool"""

    def __init__(self, folder: Path, path: Callable[[str], Path]) -> None:
        handle, name = tempfile.mkstemp(dir=folder)
        self._file = os.fdopen(handle, "wb")
        self._name, self._path = Path(name), path
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self.abort()
            raise StoreFull(f"a body cannot be written: {error.strerror}") from None
        self._digest.update(data)
        self._size += len(data)

    def finish(self) -> BodyRef:
        ref = BodyRef(self._digest.hexdigest(), self._size)
        target = self._path(ref.digest)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target.parent.mkdir(exist_ok=True)
            self._name.replace(target)
            for folder in (target.parent, target.parent.parent):
                _sync_folder(folder)
        except OSError as error:
            self.abort()
            raise StoreFull(f"a body cannot be written: {error.strerror}") from None
        return ref

    def abort(self) -> None:
        self._name.unlink(missing_ok=True)
        with suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
