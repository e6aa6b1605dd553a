"""HTTP/1.1 messages out of any chunking of a byte stream (RFC 9112), for client and server; knows no socket.

Strict where leniency would let two readers see different messages: a message with both Content-Length and Transfer-Encoding, with
unequal Content-Lengths, with folded header lines, white space before the colon or a bare CR is refused, and so is any transfer coding
but chunked. FramingError.reply_hint is the HTTP status that a server answers (400, 413, 431, 505).

Bodies are collected, up to a limit; who wants one as it comes, because it may be larger than memory, gives a sink for it (`begin`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from engine.errors import FramingError

_REQUEST_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) (HTTP/1\.[01])")
_STATUS_LINE: Final = re.compile(r"(HTTP/1\.[01]) ([1-5]\d\d)(?: (.*))?")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00\r\n]*)")
"""The blanks around a value are not its matter: an expression that looks for them goes back over a line of blanks to the cube."""
_FORBIDDEN: Final = re.compile(r"[\x00\r\n]")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]*)?")
_LENGTHS: Final = re.compile(r"(\d+)(?:[ \t]*,[ \t]*\1)*", re.ASCII)
_CHUNK_LINE: Final = 256
_NO_BODY: Final = frozenset({"204", "304"})
_TRAILER, _SIZE_LINE, _CHUNK_END = -2, -1, -3  # what is next in a chunked body, where no content is

Sink = Callable[[bytes], None]
Begin = Callable[[tuple[str, str, str], Mapping[str, str]], Sink | None]
"""Called with start line and headers when a head is read; gives what takes the body as it comes, None to have it collected."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request (`start` = method, target, version) or response (version, status, reason). `headers` by lower-case name; a name
    that came several times has its values joined by commas. `keep_alive`: the connection may carry another message."""

    start: tuple[str, str, str]
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


class HttpFramer:
    """Cuts messages out of a stream. `most_body`, `most_head` in bytes, `most_fields` header lines. A body that goes to a sink is not
    limited here: the sink counts, and may raise FramingError; its Message has an empty body."""

    def __init__(
        self, *, responses: bool, most_body: int, most_head: int = 16384, most_fields: int = 100, begin: Begin | None = None
    ) -> None:
        self._responses, self._begin = responses, begin
        self._most_body, self._most_head, self._most_fields = most_body, most_head, most_fields
        self._buffer = bytearray()
        self._start: tuple[str, str, str] = ("", "", "")
        self._headers: dict[str, str] = {}
        self._in_body = self._chunked = self._until_close = False
        self._length = 0
        self._body = bytearray()
        self._sink: Sink | None = None
        self._chunk_left = _SIZE_LINE

    @property
    def expects_continue(self) -> bool:
        """The head is read, and its sender waits for ``100 Continue`` before it sends the body."""
        return self._in_body and not self._buffer and self._headers.get("expect", "").lower() == "100-continue"

    @property
    def idle(self) -> bool:
        """Between two messages."""
        return not self._in_body and not self._buffer

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises FramingError; unusable afterwards."""
        return list(self.each(data))

    def each(self, data: bytes) -> Iterator[Message]:
        """As `feed`, one by one, to be taken to its end: those before a fault are not lost to it."""
        self._buffer += data
        while (message := self._next()) is not None:
            yield message

    def finish(self) -> list[Message]:
        """The stream has ended: gives the response that ends with it, if any. Raises FramingError if a message is cut in two."""
        if self._until_close:
            self._take(len(self._buffer))
            return [self._complete(bytes(self._body), keep_alive=False)]
        if not self.idle:
            raise FramingError("the connection ended within a message", reply_hint="400")
        return []

    def _next(self) -> Message | None:
        if not self._in_body and not self._read_head():
            return None
        if self._chunked:
            return self._read_chunks()
        if self._until_close:
            self._limit(len(self._body) + len(self._buffer))
            self._take(len(self._buffer))
            return None
        if self._sink is not None:
            self._length -= self._take(self._length)
            return None if self._length else self._complete(b"", keep_alive=self._keeps_alive())
        if len(self._buffer) < self._length:
            return None
        body = bytes(self._buffer[: self._length])
        del self._buffer[: self._length]
        return self._complete(body, keep_alive=self._keeps_alive())

    def _take(self, most: int) -> int:
        """Move what is there of the body, up to `most` bytes, to where it belongs; gives how many that were."""
        part = bytes(self._buffer[:most])
        del self._buffer[:most]
        if self._sink is None:
            self._body += part
        elif part:
            self._sink(part)
        return len(part)

    def _complete(self, body: bytes, *, keep_alive: bool) -> Message:
        message = Message(self._start, self._headers, body, keep_alive)
        self._in_body = self._chunked = self._until_close = False
        self._body, self._sink = bytearray(), None
        self._chunk_left = _SIZE_LINE
        return message

    # --- head ------------------------------------------------------------------------------------

    def _read_head(self) -> bool:
        """Read a start line and header fields; gives whether they were there in full."""
        while True:
            while self._buffer[:2] == b"\r\n":  # an empty line before a request is to be ignored (RFC 9112 2.2)
                del self._buffer[:2]
            end = self._buffer.find(b"\r\n\r\n", 0, self._most_head + 4)
            if end < 0:
                if len(self._buffer) > self._most_head:
                    raise FramingError("the header fields are too large", reply_hint="431")
                return False
            lines = self._buffer[:end].decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            self._read_start(lines[0])
            if not (self._responses and self._start[1].startswith("1")):  # 1xx: the final response is still to come
                break
        self._read_fields(lines[1:])
        self._sink = self._begin(self._start, self._headers) if self._begin is not None else None
        self._frame_body()
        self._in_body = True
        return True

    def _read_start(self, line: str) -> None:
        match = (_STATUS_LINE if self._responses else _REQUEST_LINE).fullmatch(line)
        if match is None:
            raise FramingError("this is not HTTP/1.1", reply_hint="400")
        self._start = (match[1], match[2], match[3] or "")

    def _read_fields(self, lines: list[str]) -> None:
        if len(lines) > self._most_fields:
            raise FramingError("there are too many header fields", reply_hint="431")
        headers: dict[str, str] = {}
        self._headers = headers
        for line in lines:
            match = _FIELD.fullmatch(line)
            if match is None:
                raise FramingError("a header field is malformed", reply_hint="400")
            name, value = match[1].lower(), match[2].strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value

    def _frame_body(self) -> None:
        """How long the body is (RFC 9112 6.3)."""
        coding, length = self._headers.get("transfer-encoding"), self._headers.get("content-length")
        self._chunked, self._length, self._until_close = False, 0, False
        if self._responses and self._start[1] in _NO_BODY:
            return
        if coding is not None:
            if coding.lower() != "chunked" or length is not None or "HTTP/1.0" in (self._start[0], self._start[2]):  # 6.1
                raise FramingError("the transfer coding is not acceptable", reply_hint="400")
            self._chunked = True
        elif length is not None:
            self._length = content_length(length)
            self._limit(self._length)
        else:
            self._until_close = self._responses

    def _keeps_alive(self) -> bool:
        connection = self._headers.get("connection", "").lower()
        return "close" not in connection and ("keep-alive" in connection or "HTTP/1.0" not in (self._start[0], self._start[2]))

    def _limit(self, length: int) -> None:
        if length > self._most_body and self._sink is None:
            raise FramingError("the body is larger than allowed", reply_hint="413")

    # --- chunked body (RFC 9112 7.1) -----------------------------------------------------------------

    def _read_chunks(self) -> Message | None:
        while True:
            if self._chunk_left > 0:
                self._chunk_left -= self._take(self._chunk_left)
                if self._chunk_left > 0:
                    return None
                self._chunk_left = _CHUNK_END
            if self._chunk_left == _CHUNK_END and not self._end_chunk():
                return None
            line = self._line()
            if line is None:
                return None
            if self._chunk_left == _TRAILER:
                if not line:
                    return self._complete(bytes(self._body), keep_alive=self._keeps_alive())
                continue  # a trailer field: read and dropped
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise FramingError("a chunk is malformed", reply_hint="400")
            size = int(match[1], 16)
            self._limit(len(self._body) + size)
            self._chunk_left = size or _TRAILER

    def _end_chunk(self) -> bool:
        """The line end after a chunk's content; False where it is not there yet."""
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise FramingError("a chunk is malformed", reply_hint="400")
        del self._buffer[:2]
        self._chunk_left = _SIZE_LINE
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, _CHUNK_LINE)
        if end < 0:
            if len(self._buffer) >= _CHUNK_LINE:
                raise FramingError("a chunk is malformed", reply_hint="400")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


def content_length(said: str) -> int:
    """What a Content-Length says; the same number several times over is one (RFC 9110 clause 8.6). Nothing is that long where it has
    more than 19 digits. Raises FramingError."""
    match = _LENGTHS.fullmatch(said)
    if match is None:
        raise FramingError("the content length is malformed", reply_hint="400")
    return int(match[1].lstrip("0")[:19] or "0")


def head(start: str, headers: Mapping[str, str]) -> bytes:
    """A start line and header fields as they go onto the wire. Values must not contain line ends (they are replaced by spaces)."""
    lines = [start, *(f"{name}: {_FORBIDDEN.sub(' ', value)}" for name, value in headers.items()), "\r\n"]
    return "\r\n".join(lines).encode("latin-1", "replace")
