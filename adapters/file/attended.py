"""A file whose reading takes long: with each megabyte its owner says that it is still there."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, Final

_BLOCK: Final = 1 << 20


def attended(file: BinaryIO, alive: Callable[[], None]) -> BinaryIO:
    """`file`, which is closed with it. `alive` is called before each block is read; what it raises ends the reading."""
    return io.BufferedReader(_Attended(file, alive), _BLOCK)


class _Attended(io.RawIOBase):
    def __init__(self, file: Any, alive: Callable[[], None]) -> None:
        super().__init__()
        self._file, self._alive = file, alive

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        self._alive()
        return int(self._file.readinto(buffer))

    def close(self) -> None:
        self._file.close()
        super().close()
