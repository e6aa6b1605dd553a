"""A place on another machine: the contract of places, in the few requests that file servers have in common."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from adapters.file.places import ALIVE, CLAIMED, Entry, first_free, last_part, numbered

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_BEAT_SECONDS: Final = 2.0
"""How often the owner's sign is renewed at most: every claim asks for it, and it costs three requests."""


class Wire(Protocol):
    """Requests to a file server. Paths are relative to the place's folder, with ``/``. It connects with its first request, and again after
    the connection was lost. All raise what a Place raises."""

    said: str

    def check(self) -> None:
        """Raises ConfigError where the site's own files cannot be used. Connects to nobody."""

    def disconnect(self) -> None:
        """Never raises, may be called twice."""

    def files(self, folder: str) -> list[Entry]:
        """The regular files in it, by their own names."""

    def folders(self, folder: str) -> list[Entry]:
        """The folders in it, by their own names; sizes mean nothing."""

    def about(self, path: str) -> Entry | None:
        """Of what is there, its name being `path`; None where nothing is. Raises OSError (ELOOP) for a link, (EISDIR) for a folder."""

    def read(self, path: str) -> BinaryIO: ...

    def store(self, path: str, chunks: Iterable[bytes]) -> None:
        """A file with this content, on the server's disk where it can say so; laid over one that is there."""

    def rename(self, old: str, new: str) -> None:
        """Atomic: of two that rename the same file only one can. Nothing is called `new`."""

    def appear(self, old: str, new: str) -> bool:
        """Rename, and overwrite nothing: False where something is called `new`. Raises Unanswered where it may have happened."""

    def remove(self, path: str) -> None:
        """Raises FileNotFoundError where nothing is there."""

    def make_folder(self, path: str) -> None:
        """One level; it may be there."""


class Unanswered(ConnectionError):
    """The connection broke after the request that decides was sent: it may have happened."""


class RemotePlace:
    """adapters.file.places.Place. `seconds` is a clock that only goes on."""

    def __init__(self, wire: Wire, owner: str, seconds: Callable[[], float]) -> None:
        self._wire, self._owner, self._seconds = wire, owner, seconds
        self._ours = f"{CLAIMED}/{owner}"
        self._beat_at: float | None = None
        self._made: set[str] = set()
        self.said = wire.said

    def open(self) -> None:
        self._wire.check()

    def close(self) -> None:
        self._wire.disconnect()
        self._beat_at = None
        self._made.clear()

    def list(self) -> Sequence[Entry]:
        return [entry for entry in self._wire.files("") if not entry.name.startswith(".")]

    def read(self, name: str) -> BinaryIO:
        if self._wire.about(name) is None:
            raise FileNotFoundError(2, f"it is not there any more: {self.said}")
        return self._wire.read(name)

    def local(self, name: str) -> Path | None:
        return None

    # --- claims ------------------------------------------------------------------------------------

    def claim(self, name: str) -> str | None:
        self.beat()
        return self._take(name)

    def _take(self, name: str) -> str | None:
        ours = f"{self._ours}/{last_part(name)}"
        if self._wire.about(ours) is not None:  # only we rename into it: one of the same name is still under way
            return None
        try:
            self._wire.rename(name, ours)
        except ConnectionError:
            raise
        except OSError:
            if self._wire.about(name) is None:  # not every server says why
                return None
            raise
        return ours

    def claimed(self) -> Sequence[Entry]:
        try:
            found = self._wire.files(self._ours)
        except FileNotFoundError:
            return []
        return [Entry(f"{self._ours}/{one.name}", one.size, one.modified) for one in found if not one.name.startswith(".")]

    def holds(self, claimed: str) -> bool:
        return self._wire.about(claimed) is not None

    def beat(self) -> None:
        now = self._seconds()
        if self._beat_at is not None and now - self._beat_at < _BEAT_SECONDS:
            return
        sign = f"{self._ours}/{ALIVE}"
        try:
            self._wire.store(sign, [b"."])
        except (ConnectionError, TimeoutError):
            raise
        except OSError:  # not every server says that the folder is missing
            self._wire.files("")  # a place that is not mounted is not made
            self._make(self._ours, anew=True)
            self._wire.store(sign, [b"."])
        self._beat_at = now

    def take_over(self, silent: float) -> Sequence[str]:
        now = self._last_seen(self._ours, 0)
        taken = []
        for other in self._wire.folders(CLAIMED):
            folder = f"{CLAIMED}/{other.name}"
            if other.name != self._owner and now - self._last_seen(folder, other.modified) > silent * 1_000_000:
                names = [f"{folder}/{one.name}" for one in self._wire.files(folder) if not one.name.startswith(".")]
                taken += [ours for name in names if (ours := self._take(name)) is not None]
        return taken

    def _last_seen(self, folder: str, otherwise: int) -> int:
        sign = self._wire.about(f"{folder}/{ALIVE}")
        return otherwise if sign is None else sign.modified

    def move(self, name: str, folder: str) -> str:
        if folder:
            self._make(folder)
        prefix = f"{folder}/" if folder else ""
        wanted = prefix + last_part(name)
        while not self._wire.appear(name, wanted):
            wanted = prefix + numbered(
                last_part(name), first_free(lambda number: self._is_taken(prefix + numbered(last_part(name), number)))
            )
        return wanted

    def _is_taken(self, path: str) -> bool:
        try:
            return self._wire.about(path) is not None
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.ELOOP):  # what is there is no file
                return True
            raise

    # --- writing -----------------------------------------------------------------------------------

    def write(self, name: str, chunks: Iterable[bytes], folder: str = "") -> bool:
        if folder:
            self._make(folder)
        prefix = f"{folder}/" if folder else ""
        begun = f"{prefix}.{self._owner[:60]}.part"  # one write at a time, so what an ended process has left is written over
        appeared = False
        try:
            self._wire.store(begun, chunks)
            appeared = self._wire.appear(begun, prefix + name)
        except ConnectionError:
            raise  # what is left is written over by the next
        except BaseException:
            self._discard(begun)
            raise
        if not appeared:
            self._discard(begun)
        return appeared

    def _discard(self, path: str) -> None:
        try:
            self._wire.remove(path)
        except OSError:
            return  # the next write lays its own over it

    def find(self, name: str, folder: str = "") -> Entry | None:
        return self._wire.about(f"{folder}/{name}" if folder else name)

    def _make(self, folder: str, *, anew: bool = False) -> None:
        """Every level, as far as it was not made before."""
        if folder in self._made and not anew:
            return
        parts = folder.split("/")
        for depth in range(1, len(parts) + 1):
            self._wire.make_folder("/".join(parts[:depth]))
        self._made.add(folder)
