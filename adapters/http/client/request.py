"""A parcel as a request: address, header fields, body. Pure but for the file of a body that is not small."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.http.authentication.schemes import scheme_of
from adapters.http.client.options import named, template_of
from engine import templates
from engine.errors import PermanentDelivery
from engine.message import BodyRef, Parcel
from engine.options import Settings

BLOCK: Final = 256 << 10
_LINE_ENDS: Final = re.compile(r"[\x00-\x1f\x7f]+")


class Content(templates.Content):
    """A parcel read by templates."""

    def whole(self, form: str) -> str:
        body = self.in_memory("cannot be in a template: send it as it is")
        return self.decoded(body) if form == "text" else b64encode(body).decode("ascii")

    def file(self) -> Path:
        """Where the content lies that is not in memory."""
        assert isinstance(self.parcel.body, BodyRef)
        return self._body_file(self.parcel.body)


@dataclass(frozen=True)
class Outgoing:
    """`body` is bytes, or the file that it lies in."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | Path
    size: int

    def pieces(self) -> Iterator[bytes]:
        """Raises PermanentDelivery where the file is no longer what it was."""
        if isinstance(self.body, bytes):
            yield self.body
            return
        try:
            with self.body.open("rb") as file:
                left = self.size
                while left:
                    block = file.read(min(BLOCK, left))
                    if not block:
                        raise OSError("the file is shorter than it was")
                    left -= len(block)
                    yield block
        except OSError as error:
            raise PermanentDelivery(f"the content cannot be read back: {error.strerror or error}") from None


def build(options: Settings, parcel: Parcel, name: str, body_file: Callable[[BodyRef], Path]) -> Outgoing:
    """Without credentials and signature. Raises PermanentDelivery."""
    content = Content(parcel, name, body_file, options.tables)
    template = template_of(options)
    kind = options.content_type or (template.content_type if template is not None else parcel.content_type) or "application/octet-stream"
    headers = {"Content-Type": kind} if options.method != "DELETE" or template is not None else {}
    for header, text in options.headers.items():
        said = templates.text_of(text, content.value)
        if said is not None:
            headers[header] = _sayable(said, header)
    if parcel.idempotency_key:
        headers[options.idempotency_header] = _sayable(parcel.idempotency_key, options.idempotency_header)
    body, size = _body(options, content)
    if options.gzip and isinstance(body, bytes) and body:
        body = gzip.compress(body, 5, mtime=0)
        size, headers["Content-Encoding"] = len(body), "gzip"
    return Outgoing(options.method, options.url.fill(content.value), headers, body, size)


def _body(options: Settings, content: Content) -> tuple[bytes | Path, int]:
    template = template_of(options)
    if template is not None:
        filled: bytes = template.fill(content.value)
        return filled, len(filled)
    if options.method == "DELETE":
        return b"", 0
    body = content.parcel.body
    return (body, len(body)) if isinstance(body, bytes) else (content.file(), body.size)


def _sayable(text: str, header: str) -> str:
    """No value of a message ends a header field (RFC 9110 clause 5.5). Raises PermanentDelivery for what no field can hold."""
    said = _LINE_ENDS.sub(" ", text).strip()
    try:
        said.encode("latin-1")
    except UnicodeEncodeError:
        raise PermanentDelivery("a header field cannot hold this value: it is not ISO 8859-1", location=header) from None
    return said


def signed(options: Settings, outgoing: Outgoing, message_id: str, now: int) -> Mapping[str, str]:
    """The header fields of its signature. Reads the body; to be called in a thread where that is a file. `now` in microseconds UTC.
    Raises ConfigError, PermanentDelivery."""
    if options.signature is None:
        return {}
    scheme = scheme_of(options.signature)
    timestamp = str(now * scheme.unit // 1_000_000)
    mac = scheme.begin(scheme.key_of(options.signature.secret), message_id, timestamp)
    for piece in outgoing.pieces():
        mac.update(piece)
    return scheme.headers(mac.digest(), message_id, timestamp)


def content_paths(options: Settings) -> Iterable[tuple[int, str]]:
    """Each path that the templates ask for, with its line."""
    return [(line, path) for line, names in named(options) for path in templates.paths_in(names)]
