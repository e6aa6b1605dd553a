"""MLLP framing (HL7 v2 transport, releases 1 and 2): ``0B content 1C 0D``; knows no socket.

Any chunking of the same bytes gives the same frames. Memory is bounded by `max_size`. What stands between frames is not thrown away
in silence: the frame after it carries it as `before`, and `finish` gives what is left, so that the caller can quarantine it.
Frames that are whole before a fault in the same bytes are given first; the fault is then in `error`, and the next call raises it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.errors import FramingError, LocalProtocolError

START: Final = b"\x0b"
END: Final = b"\x1c\r"
_END: Final = END[:1]
"""Sought first, since one byte is found much faster than two."""
COMMIT: Final = b"\x06"
"""Release 2: the content was committed to safe storage."""
NOT_COMMITTED: Final = b"\x15"

MOST_STRAY: Final = 4096
_KEEP_ALIVE: Final = b"\r\n\x00 "


class Frame(NamedTuple):
    """One frame's content, and stray bytes that stood before it (line ends and blanks between frames do not count)."""

    content: bytes
    before: bytes = b""


class MllpFramer:
    """engine.contracts.Framer. Unusable once `error` is set; `rest` then has what is in no frame.

    `max_size` is the longest content in bytes. `inside` tells whether a frame has begun and not ended.
    """

    __slots__ = ("_buffer", "_max_size", "_searched", "_stray", "error", "inside")

    def __init__(self, max_size: int = 16 << 20) -> None:
        self._max_size = max_size
        self._buffer = bytearray()
        self._searched = 0
        self._stray = b""
        self.inside = False
        self.error: FramingError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises FramingError for a frame that is longer than `max_size` or lacks its start or end."""
        if not self.inside and data[:1] == START and data[-2:] == END and not self._stray and self.error is None:
            content = data[1:-2]  # the usual case: one chunk is one frame
            if _END not in content and START not in content and len(content) <= self._max_size:
                return [Frame(content)]
        if self.error is not None:
            raise self.error
        self._buffer += data
        frames: list[Frame] = []
        try:
            while self.inside or self._find_start():
                found = self._find_end()
                if found is None:
                    break
                frames.append(Frame(found, self._stray.rstrip(_KEEP_ALIVE)))
                self.inside, self._stray = False, b""
        except FramingError as error:
            self.error = error
            if not frames:
                raise
        return frames

    def _find_start(self) -> bool:
        start = self._buffer.find(START)
        stray = self._buffer if start < 0 else self._buffer[:start]
        if stray:
            self._stray = (self._stray + bytes(stray)).lstrip(_KEEP_ALIVE)
        del self._buffer[: len(self._buffer) if start < 0 else start + 1]
        self.inside, self._searched = start >= 0, 0
        if len(self._stray) > MOST_STRAY or END in self._stray:
            raise FramingError("bytes without a start block (0B)", reply_hint="100")
        return self.inside

    def _find_end(self) -> bytes | None:
        """The content of the frame that has begun, None while its end is not there."""
        buffer = self._buffer
        end = buffer.find(END, self._searched)
        size = end if end >= 0 else len(buffer) - buffer.endswith(_END)
        if size > self._max_size:
            raise FramingError(f"a message is longer than {self._max_size} bytes", reply_hint="207")
        if end < 0:
            self._searched = size
            return None
        content = bytes(memoryview(buffer)[:end])
        if START in content:
            raise FramingError("a start block (0B) inside a frame: the end block of the one before is missing", reply_hint="100")
        del buffer[: end + 2]
        return content

    def finish(self) -> bytes:
        """The stream has ended: gives stray bytes after the last frame. Raises FramingError where a frame was cut in two."""
        if self.error is not None:
            raise self.error
        if self.inside:
            raise FramingError("the connection ended inside a frame")
        return self._stray.rstrip(_KEEP_ALIVE)

    @property
    def rest(self) -> bytes:
        """What is held and is no frame (without the start block of the one that has begun): for the quarantine."""
        return self._stray + bytes(self._buffer)

    @staticmethod
    def wrap(payload: bytes) -> bytes:
        """Raises LocalProtocolError for content that would break the frame."""
        if START in payload or (_END in payload and END in payload):
            raise LocalProtocolError("the content holds an MLLP start or end block")
        return START + payload + END
