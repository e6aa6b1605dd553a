"""Something read from files, and read again when they change. For several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from engine.errors import ConfigError

T = TypeVar("T")


class Watched(Generic[T]):
    """`warn` hears, once for each change, of files that cannot be used; what was read before them stays in force."""

    def __init__(self, files: Sequence[Path], read: Callable[[], T], warn: Callable[[str], object] = lambda _: None) -> None:
        self._files, self._read_files, self._warn = files, read, warn
        self._seen: object = None
        self._value: T | None = None
        self._lock = threading.Lock()

    def current(self) -> T:
        """Raises ConfigError where nothing could be read yet."""
        with self._lock:
            seen = [_stamp(file) for file in self._files]
            if self._value is None or seen != self._seen:
                self._seen = seen
                self._look()
            assert self._value is not None
            return self._value

    def _look(self) -> None:
        try:
            self._value = self._read_files()
        except ConfigError as error:
            if self._value is None:
                raise
            self._warn(f"what was read before stays in force: {error}")


def _stamp(file: Path) -> tuple[int, int, int, int]:
    try:
        state = file.stat()
    except OSError:  # gone, or not there yet
        return 0, 0, 0, 0
    return state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size
