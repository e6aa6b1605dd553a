"""multipart bodies (RFC 2046 clause 5.1.1) out of any chunking; knows no socket.

A part's content is given on as it comes, so its size costs no memory: what is held back are the few bytes that may begin a delimiter.
Strict where leniency would let two readers see different parts: a line that begins with the delimiter and goes on with something else
is refused, and so is a body that ends without its close delimiter. Bounded are the boundary, the preamble, the header of a part and the
number of parts; the epilogue is dropped.

Where the body lies in a file, `PartBegin.start` and `PartEnd.size` say where in it the content of a part is, so that none of it has to be
kept: DICOM instances are taken as they come, the attachments of a SOAP message (XOP clause 4.1, MTOM) are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from engine.errors import FramingError, LocalProtocolError

_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 has 70 characters at most; Orthanc sends 73."""
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00\r\n]*)")
_SOME_PADDING: Final = re.compile(rb"[ \t]*\r?|-")
_WHOLE_PADDING: Final = re.compile(rb"[ \t]*")
_PADDING: Final = 64
_FOLD: Final = re.compile(r"\r\n[ \t]+")


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part's header fields, by lower-case name, and the offset in the body at which its content starts."""

    headers: Mapping[str, str]
    start: int = 0


@dataclass(frozen=True, slots=True)
class PartContent:
    """The next bytes of the part; never empty."""

    content: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete, and had so many bytes of content."""

    size: int = 0


Event = PartBegin | PartContent | PartEnd


class MultipartFramer:
    """Cuts parts out of one body. `most_head` is in bytes and holds for the preamble too. `folded`: a header field of a part may go on
    in the next line (RFC 5322 clause 2.2.3), as mail libraries write it; HTTP has no such thing."""

    def __init__(
        self, boundary: str, *, most_head: int = 8192, most_fields: int = 20, most_parts: int = 100_000, folded: bool = False
    ) -> None:
        if _BOUNDARY.fullmatch(boundary) is None:
            raise FramingError("the boundary is missing or not one of RFC 2046", reply_hint="400")
        self._delimiter = b"\r\n--" + boundary.encode()
        self._most_head, self._most_fields, self._most_parts = most_head, most_fields, most_parts
        self._folded = folded
        self._buffer = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
        self._at = -2  # where in the body the buffer begins
        self._size = 0
        self._read = self._read_preamble
        self._parts = 0
        self.closed = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """What `data` brings, to be taken to its end. Raises FramingError after the events before the fault; unusable afterwards."""
        if self.closed:
            return
        self._buffer += data
        more = True
        while more:
            events: list[Event] = []
            more = self._read(events)
            yield from events

    def finish(self) -> None:
        """The body has ended. Raises FramingError where its close delimiter is missing."""
        if not self.closed:
            raise FramingError("the multipart body ends without its close delimiter", reply_hint="400")

    def wrap(self, payload: bytes) -> bytes:
        """A part without header fields. Raises LocalProtocolError where it contains the delimiter."""
        if self._delimiter in b"\r\n" + payload:
            raise LocalProtocolError("the content contains the delimiter")
        return self._delimiter + b"\r\n\r\n" + payload

    def close(self) -> bytes:
        """The close delimiter, as it goes onto the wire."""
        return self._delimiter + b"--\r\n"

    # --- where we stand: each reads on, and gives whether there may be more to read -----------------------

    def _read_preamble(self, events: list[Event]) -> bool:
        found = self._buffer.find(self._delimiter)
        if found < 0:
            if len(self._buffer) > self._most_head:
                raise FramingError("the multipart body does not begin with its boundary", reply_hint="400")
            return False
        self._drop(found + len(self._delimiter))
        self._read = self._read_delimiter
        return True

    def _read_delimiter(self, events: list[Event]) -> bool:
        """The rest of a delimiter's line: ``--`` closes, white space is padding."""
        if self._buffer[:2] == b"--":
            self.closed = True
            self._buffer.clear()
            return False
        end = self._buffer.find(b"\r\n", 0, _PADDING)
        padding = _SOME_PADDING.fullmatch(self._buffer) if end < 0 else _WHOLE_PADDING.fullmatch(self._buffer, 0, end)
        if padding is None or (end < 0 and len(self._buffer) >= _PADDING):
            raise FramingError("a delimiter of the multipart body is malformed", reply_hint="400")
        if end < 0:
            return False
        self._drop(end)  # its line end may belong to an empty header
        self._parts += 1
        if self._parts > self._most_parts:
            raise FramingError("the multipart body has too many parts", reply_hint="413")
        self._read = self._read_head
        return True

    def _read_head(self, events: list[Event]) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, self._most_head + 4)
        if end < 0:
            if len(self._buffer) > self._most_head:
                raise FramingError("the header of a part is too large", reply_hint="400")
            return False
        if self._delimiter in self._buffer[: end + 2]:
            raise FramingError("a part ends within its header", reply_hint="400")
        text = self._buffer[:end].decode("latin-1")
        lines = [line for line in (_FOLD.sub(" ", text) if self._folded else text).split("\r\n") if line]
        self._size = 0
        events.append(PartBegin(self._fields(lines), self._at + end + 4))
        self._drop(end + 2)  # the last line end may belong to the delimiter of an empty part
        self._read = self._read_line_end
        return True

    def _fields(self, lines: list[str]) -> dict[str, str]:
        if len(lines) > self._most_fields:
            raise FramingError("a part has too many header fields", reply_hint="400")
        fields: dict[str, str] = {}
        for line in lines:
            match = _FIELD.fullmatch(line)
            if match is None or match[1].lower() in fields:
                raise FramingError("a header field of a part is malformed", reply_hint="400")
            fields[match[1].lower()] = match[2].strip(" \t")
        return fields

    def _read_line_end(self, events: list[Event]) -> bool:
        """The line end after the header: it begins the content, or the delimiter at once where the content is empty."""
        if self._buffer.startswith(self._delimiter):
            return self._end_part(events, 0)
        if len(self._buffer) < len(self._delimiter) and self._delimiter.startswith(self._buffer):
            return False
        self._drop(2)
        self._read = self._read_content
        return True

    def _read_content(self, events: list[Event]) -> bool:
        found = self._buffer.find(self._delimiter)
        if found >= 0:
            return self._end_part(events, found)
        sure = len(self._buffer) - self._held_back()
        self._give(events, sure)
        return False

    def _held_back(self) -> int:
        """How many of the last bytes may be the beginning of a delimiter."""
        at = self._buffer.find(b"\r", max(0, len(self._buffer) - len(self._delimiter) + 1))
        while at >= 0:
            if self._delimiter.startswith(self._buffer[at:]):
                return len(self._buffer) - at
            at = self._buffer.find(b"\r", at + 1)
        return 0

    def _end_part(self, events: list[Event], at: int) -> bool:
        self._give(events, at)
        events.append(PartEnd(self._size))
        self._drop(len(self._delimiter))
        self._read = self._read_delimiter
        return True

    def _give(self, events: list[Event], size: int) -> None:
        if size > 0:
            events.append(PartContent(bytes(self._buffer[:size])))
            self._size += size
            self._drop(size)

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._at += size
