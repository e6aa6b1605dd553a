"""The files of an archive: ``ab/cdef…`` by the SHA-256 of their content, immutable; ``spool/*`` while they are being written.

A file is in place, and that fsynced, before a row refers to it. It is removed in a transaction that has seen that no row does, and placed
in one too, so that the two cannot cross (`adapters.dicom.archive.book`).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Final

from engine.errors import StoreError, StoreFull

_NO_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


class Files:
    """Methods that write raise StoreFull, StoreError."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._spool = folder, folder / "spool"

    def open(self) -> None:
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self._folder, self._spool):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _store_error(error) from None

    def path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest[2:]

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def stage(self, content: bytes | Path) -> Path:
        """A second name for a file of the store, or what is in memory as a file; on disk when this returns."""
        try:
            handle, name = tempfile.mkstemp(dir=self._spool)
            os.close(handle)
            staged = Path(name)
            if isinstance(content, bytes) or not self._link(content, staged):
                _write(staged, content)
        except OSError as error:
            raise _store_error(error) from None
        return staged

    def _link(self, content: Path, staged: Path) -> bool:
        """False where the store's disk is another one, or gives no links."""
        staged.unlink()
        try:
            os.link(content, staged)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return False
        return True

    def place(self, staged: Path, digest: str) -> None:
        """Give a staged file its name. The folder is on disk after `settle`."""
        target = self.path(digest)
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            staged.replace(target)
            staged.unlink(missing_ok=True)  # where both were names of one file already, replace does nothing
        except OSError as error:
            raise _store_error(error) from None

    def settle(self, digests: set[str]) -> None:
        """The names of these files are on disk when this returns."""
        try:
            for folder in {self.path(digest).parent for digest in digests} | {self._folder}:
                _sync_folder(folder)
        except OSError as error:
            raise _store_error(error) from None

    def remove(self, digest: str) -> None:
        try:
            self.path(digest).unlink(missing_ok=True)
        except OSError as error:
            raise _store_error(error) from None


def digest_of(body: bytes) -> str:
    return sha256(body).hexdigest()


def _write(staged: Path, content: bytes | Path) -> None:
    with staged.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _store_error(error: OSError) -> StoreError:
    kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
    return kind(f"the archive's files cannot be written now: {error.strerror}")
