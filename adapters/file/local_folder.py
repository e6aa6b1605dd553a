"""A folder of this machine, or one that is mounted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.file.places import ALIVE, CLAIMED, Entry, first_free, last_part, numbered

if TYPE_CHECKING:
    from typing import BinaryIO

_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links say (FAT, some network shares)."""


class LocalFolder:
    """adapters.file.places.Place. `owner` is whose claims are ours: the same after a restart, and nobody else's."""

    def __init__(self, folder: Path, owner: str, said: str = "") -> None:
        self._folder, self._owner = folder, owner
        self._ours = f"{CLAIMED}/{owner}"
        self.said = said or f"folder {folder}"

    def open(self) -> None:
        """Nothing is held open."""

    def close(self) -> None:
        """Nothing is held open."""

    def list(self) -> Sequence[Entry]:
        return _files(self._folder, "")

    def read(self, name: str) -> BinaryIO:
        return os.fdopen(os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def local(self, name: str) -> Path | None:
        return self._folder / name

    # --- claims ------------------------------------------------------------------------------------

    def claim(self, name: str) -> str | None:
        self.beat()
        ours = f"{self._ours}/{name}"
        if os.path.lexists(self._folder / ours):  # only we rename into it: one of the same name is still under way
            return None
        try:
            os.rename(self._folder / name, self._folder / ours)
        except FileNotFoundError:
            return None
        return ours

    def claimed(self) -> Sequence[Entry]:
        try:
            return _files(self._folder / self._ours, f"{self._ours}/")
        except FileNotFoundError:
            return []

    def holds(self, claimed: str) -> bool:
        return os.path.lexists(self._folder / claimed)

    def beat(self) -> None:
        alive = self._folder / self._ours / ALIVE
        try:
            os.utime(alive)
        except FileNotFoundError:
            self._folder.stat()  # a place that is not mounted is not made
            alive.parent.mkdir(parents=True, exist_ok=True)
            alive.touch()

    def take_over(self, silent: float) -> Sequence[str]:
        now = (self._folder / self._ours / ALIVE).stat().st_mtime
        taken = []
        for other in os.scandir(self._folder / CLAIMED):
            if other.name != self._owner and other.is_dir(follow_symlinks=False) and now - _last_seen(Path(other.path)) > silent:
                names = [f"{CLAIMED}/{other.name}/{one.name}" for one in _files(Path(other.path), "")]
                taken += [ours for name in names if (ours := self._take(name)) is not None]
        return taken

    def _take(self, name: str) -> str | None:
        ours = f"{self._ours}/{last_part(name)}"
        if os.path.lexists(self._folder / ours):
            return None
        try:
            os.rename(self._folder / name, self._folder / ours)
        except FileNotFoundError:
            return None
        return ours

    def move(self, name: str, folder: str) -> str:
        source, target = self._folder / name, self._folder / folder
        target.mkdir(parents=True, exist_ok=True)
        number, linked = 1, source.lstat().st_nlink > 1  # by a process that was ended in between
        while not (_appear(source, wanted := target / numbered(last_part(name), number)) or os.path.samefile(source, wanted)):
            number = number + 1 if linked else first_free(lambda one: os.path.lexists(target / numbered(last_part(name), one)))
        _sync(target)
        source.unlink(missing_ok=True)
        _sync(source.parent)
        return f"{folder}/{wanted.name}" if folder else wanted.name

    # --- writing -----------------------------------------------------------------------------------

    def write(self, name: str, chunks: Iterable[bytes], folder: str = "") -> bool:
        target = self._folder / folder
        if folder:
            target.mkdir(parents=True, exist_ok=True)
        begun = target / f".{self._owner[:60]}.part"  # one write at a time, so what an ended process has left is written over
        try:
            with os.fdopen(os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660), "wb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            appeared = _appear(begun, target / name)
        finally:
            begun.unlink(missing_ok=True)
        _sync(target)
        return appeared

    def find(self, name: str, folder: str = "") -> Entry | None:
        path = f"{folder}/{name}" if folder else name
        try:
            found = os.lstat(self._folder / path)
        except FileNotFoundError:
            return None
        return Entry(path, found.st_size, found.st_mtime_ns // 1000)


def _files(folder: Path, prefix: str) -> list[Entry]:
    found = []
    with os.scandir(folder) as entries:
        for one in entries:
            if not one.name.startswith("."):
                try:
                    about = one.stat(follow_symlinks=False)
                except FileNotFoundError:  # another node has just claimed it
                    continue
                if stat.S_ISREG(about.st_mode):
                    found.append(Entry(prefix + one.name, about.st_size, about.st_mtime_ns // 1000))
    return found


def _last_seen(folder: Path) -> float:
    try:
        return (folder / ALIVE).stat().st_mtime
    except FileNotFoundError:
        return folder.stat().st_mtime


def _appear(source: Path, wanted: Path) -> bool:
    """Give `source` the name `wanted` too, or instead; False where that is taken."""
    try:
        os.link(source, wanted, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _appear_without_links(source, wanted)
    return True


def _appear_without_links(source: Path, wanted: Path) -> bool:
    """The name is taken first, so that the rename overwrites nothing but what we made."""
    try:
        os.close(os.open(wanted, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        return False
    try:
        os.rename(source, wanted)
    except OSError:
        wanted.unlink()  # an empty file would be taken for ours
        raise
    return True


def _sync(folder: Path) -> None:
    """Put names on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
