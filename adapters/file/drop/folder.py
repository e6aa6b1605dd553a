"""A party's folder on our server, and what its clients may do there.

On disk: ``NAME`` is an upload that the client has closed, ``.begun/NAME`` one that it has not; the client sees both as ``NAME``. An upload
gets its place under NAME when it is closed by request, with all of it on disk; where the connection ends before, it stays begun, and can
be gone on with, begun again or removed. Nothing that was closed is overwritten, and only names that say that they are half-written are
removed. There are no folders for clients and no links, so there is no way out.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from adapters.file.places import is_plain

BEGUN: Final = ".begun"
_MEASURE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of one file, bytes and number of all; `half_written` are patterns of names."""

    most_size: int
    quota_size: int
    quota_files: int
    half_written: Sequence[str]


@dataclass(eq=False)
class Upload:
    """A file that a client has open. `size` is its end as far as it was written; `broken` that a write failed, so that it is not whole."""

    name: str
    handle: int
    size: int
    broken: bool = False


class DropFolder:
    """One user's, for all of its connections; used from one thread at a time. All methods raise OSError. `seconds` is a clock
    that only goes on."""

    def __init__(self, folder: Path, limits: Limits, seconds: Callable[[], float]) -> None:
        self._folder, self._limits, self._seconds = folder, limits, seconds
        self._open: dict[str, Upload] = {}
        self._measured_at: float | None = None
        self._size = self._files = 0

    def make(self) -> None:
        """Before the first client comes. What got its place just before the process ended loses its other name."""
        begun = self._folder / BEGUN
        begun.mkdir(parents=True, exist_ok=True)
        for one in begun.iterdir():
            if one.lstat().st_nlink > 1:  # writing into it would write into what was handed over
                one.unlink()

    # --- looking -----------------------------------------------------------------------------------

    def names(self) -> list[str]:
        return sorted(name for name, _ in self._all())

    def about(self, name: str) -> os.stat_result:
        """Of the upload that is begun, if there is one, else of the closed one."""
        for path in self._paths(name):
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                return found
        raise FileNotFoundError(errno.ENOENT, "there is no such upload")

    def _all(self) -> Iterator[tuple[str, int]]:
        for folder in (self._folder, self._folder / BEGUN):
            with os.scandir(folder) as entries:
                for one in entries:
                    if not one.name.startswith("."):
                        about = one.stat(follow_symlinks=False)
                        if stat.S_ISREG(about.st_mode):
                            yield one.name, about.st_size

    def _paths(self, name: str) -> tuple[Path, Path]:
        if not is_plain(name):
            raise OSError(errno.EINVAL, "a file cannot be called so")
        return self._folder / BEGUN / name, self._folder / name

    # --- uploading ---------------------------------------------------------------------------------

    def begin(self, name: str, *, create: bool = True, keep: bool = False, exclusive: bool = False) -> Upload:
        """An upload under a name that no closed one has, but one whose name says that it is half-written. With `keep` what was begun
        before is gone on with."""
        begun, closed = self._paths(name)
        if name in self._open:
            raise PermissionError(errno.EACCES, "it is being uploaded")
        if not exclusive and self._is_half_written(name) and os.path.lexists(closed):
            os.replace(closed, begun)  # it was not handed over
        if os.path.lexists(closed) or (exclusive and os.path.lexists(begun)):
            raise FileExistsError(errno.EEXIST, "it is there already")
        if not os.path.lexists(begun):
            if not create:
                raise FileNotFoundError(errno.ENOENT, "there is no such upload")
            self._room_for_one_more()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if keep else os.O_TRUNC)
        handle = os.open(begun, flags, 0o660)
        upload = self._open[name] = Upload(name, handle, os.fstat(handle).st_size)
        self._measured_at = None
        return upload

    def write(self, upload: Upload, offset: int, content: bytes) -> None:
        try:
            self._reserve(upload, offset + len(content))
            view = memoryview(content)
            while view:
                done = os.pwrite(upload.handle, view, offset)
                view, offset = view[done:], offset + done
        except OSError:
            upload.broken = True  # many clients close what they could not write to its end
            raise

    def _reserve(self, upload: Upload, end: int) -> None:
        if end > self._limits.most_size:
            raise OSError(errno.EFBIG, "the file is larger than is allowed here")
        self._measure()
        if end > upload.size:
            if self._size + end - upload.size > self._limits.quota_size:
                raise OSError(errno.EDQUOT, "there is no more room; what lies here must be taken in first")
            self._size += end - upload.size
            upload.size = end

    def sync(self, upload: Upload) -> None:
        """May be called in any thread."""
        os.fsync(upload.handle)

    def finish(self, upload: Upload) -> None:
        """It was closed by request, and is on disk (`sync`): it gets its place."""
        self.abandon(upload)
        if upload.broken:
            raise OSError(errno.EIO, "not all of it could be written; upload it again")
        begun, closed = self._paths(upload.name)
        try:
            os.link(begun, closed, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS) or os.path.lexists(closed):
                raise
            os.rename(begun, closed)  # a file system without links; nobody else writes here
        else:
            os.unlink(begun)
        self._sync_folder()

    def abandon(self, upload: Upload) -> None:
        """The connection has ended: it stays begun."""
        if self._open.get(upload.name) is upload:
            del self._open[upload.name]
            os.close(upload.handle)

    # --- names -------------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        """Of a closed one whose name says that it is half-written, to a name that is free."""
        begun, closed = self._paths(old)
        taken, wanted = self._paths(new)
        if old in self._open or (os.path.lexists(begun) and not os.path.lexists(closed)):
            raise PermissionError(errno.EACCES, "its upload has not ended")
        if not os.path.lexists(closed):
            raise FileNotFoundError(errno.ENOENT, "there is no such upload")
        if not self._is_half_written(old):
            raise PermissionError(errno.EACCES, "it was handed over already")
        if os.path.lexists(taken) or os.path.lexists(wanted):
            raise FileExistsError(errno.EEXIST, "it is there already")
        os.rename(closed, wanted)
        self._sync_folder()

    def remove(self, name: str) -> None:
        begun, closed = self._paths(name)
        if name in self._open:
            raise PermissionError(errno.EACCES, "it is being uploaded")
        if os.path.lexists(begun):
            os.unlink(begun)
        elif self._is_half_written(name):
            os.unlink(closed)
        elif os.path.lexists(closed):
            raise PermissionError(errno.EACCES, "it was handed over already")
        else:
            raise FileNotFoundError(errno.ENOENT, "there is no such upload")
        self._measured_at = None

    def _is_half_written(self, name: str) -> bool:
        return any(fnmatch(name.lower(), pattern.lower()) for pattern in self._limits.half_written)

    # --- quota -------------------------------------------------------------------------------------

    def _room_for_one_more(self) -> None:
        self._measured_at = None if self._files + 1 >= self._limits.quota_files else self._measured_at
        self._measure()
        if self._files >= self._limits.quota_files:
            raise OSError(errno.EDQUOT, "there are too many files here; they must be taken in first")

    def _measure(self) -> None:
        """What lies here, looked at anew now and then: the node takes files away meanwhile."""
        now = self._seconds()
        if self._measured_at is not None and now - self._measured_at < _MEASURE_SECONDS:
            return
        self._measured_at, self._size, self._files = now, 0, 0
        for _, size in self._all():
            self._size += size
            self._files += 1

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
