"""MLLP framing (HL7 v2 transport, releases 1 and 2): ``0B content 1C 0D``; knows no socket.

Any chunking of the same bytes gives the same frames. Memory is bounded by `max_size`. What stands between frames is not thrown away
in silence: the frame after it carries it as `before`, and `finish` gives what is left, so that the caller can quarantine it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.errors import FramingError, LocalProtocolError

START: Final = b"\x0b"
END: Final = b"\x1c\r"
COMMIT: Final = b"\x06"
"""Release 2: the content was committed to safe storage."""
NOT_COMMITTED: Final = b"\x15"

_KEEP_ALIVE: Final = b"\r\n\x00 "
_MOST_STRAY: Final = 4096


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame's content, and stray bytes that stood before it (line ends and blanks between frames do not count)."""

    content: bytes
    before: bytes = b""


class MllpFramer:
    """engine.contracts.Framer. Unusable after it has raised."""

    __slots__ = ("_buffer", "_inside", "_max_size", "_searched", "_stray")

    def __init__(self, max_size: int = 16 << 20) -> None:
        self._max_size = max_size
        self._buffer = bytearray()
        self._inside = False
        self._searched = 0
        self._stray = b""

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises FramingError for a frame longer than `max_size` or without its start."""
        if data.endswith(END) and not self._inside and not self._stray and len(data) <= self._max_size:
            content = data[1:-2]  # the usual case: one chunk is one frame
            if data[:1] == START and START not in content and END not in content:
                return [Frame(content)]
        self._buffer += data
        frames: list[Frame] = []
        while True:
            if not self._inside and not self._find_start():
                return frames
            end = self._buffer.find(END, self._searched)
            if end < 0 or end > self._max_size:
                self._searched = max(0, len(self._buffer) - 1)
                self._check_size()
                return frames
            content = bytes(self._buffer[:end])
            self._check_content(content)
            frames.append(Frame(content, self._stray.rstrip(_KEEP_ALIVE)))
            del self._buffer[: end + 2]
            self._inside, self._searched, self._stray = False, 0, b""

    def _find_start(self) -> bool:
        start = self._buffer.find(START)
        stray = self._buffer if start < 0 else self._buffer[:start]
        self._stray = (self._stray + bytes(stray)).lstrip(_KEEP_ALIVE)
        del self._buffer[: len(self._buffer) if start < 0 else start + 1]
        if len(self._stray) > _MOST_STRAY or (END in self._stray):
            raise FramingError("bytes without a start block (0B)", reply_hint="100")
        self._inside, self._searched = start >= 0, 0
        return self._inside

    def _check_size(self) -> None:
        if len(self._buffer) > self._max_size:
            raise FramingError(f"a frame is longer than {self._max_size} bytes", reply_hint="207")

    @staticmethod
    def _check_content(content: bytes) -> None:
        if START in content:
            raise FramingError("a start block (0B) inside a frame: the end block of the one before is missing", reply_hint="100")

    def finish(self) -> bytes:
        """The stream has ended: gives stray bytes after the last frame. Raises FramingError where a frame was cut in two."""
        if self._inside:
            raise FramingError("the connection ended inside a frame")
        return self._stray.rstrip(_KEEP_ALIVE)

    @property
    def rest(self) -> bytes:
        """What is held and is no frame yet: for the quarantine, after FramingError."""
        return self._stray + bytes(self._buffer)

    def wrap(self, payload: bytes) -> bytes:
        """Raises LocalProtocolError for content that would break the frame."""
        if START in payload or END in payload:
            raise LocalProtocolError("the content holds an MLLP start or end block")
        return START + payload + END
