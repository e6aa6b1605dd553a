"""A file on an SFTP server as a stream of this thread."""

from __future__ import annotations

from contextlib import suppress
from io import RawIOBase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.file.ssh.wire import SftpWire


class Reading(RawIOBase):
    """A remote file from its beginning."""

    def __init__(self, wire: SftpWire, file: Any) -> None:
        self._wire, self._file, self._at = wire, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._wire.ask(lambda _: self._file.read(len(buffer), self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            with suppress(OSError):
                self._wire.let_go(self._file)
