"""What a parcel has to say: facts, texts at paths, and the content whole, from memory or from its file. Pure but for that file."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree

from adapters.soap.client.template import NOT_IN_XML, Template
from engine import templates
from engine.errors import MessageError, PermanentDelivery
from engine.formats.soap import FilePart, Package
from engine.formats.xml import LIMITS, parse
from engine.message import SOAP, WHOLE, BodyRef, Parcel


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes to be sent, in memory or a piece of a file."""

    content: bytes | FilePart
    content_type: str = "application/octet-stream"

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.length

    def base64(self) -> str:
        """Canonical, as the infoset has it (XOP clause 3.1). Raises PermanentDelivery where it is too big to be in a message in memory."""
        if self.size > WHOLE:
            raise PermanentDelivery(f"content of more than {WHOLE >> 20} MB can only go as an attachment: see mtom")
        return b64encode(b"".join(self.pieces())).decode("ascii")

    def pieces(self) -> Iterator[bytes]:
        """Raises PermanentDelivery."""
        return pieces_of(Package(self.content_type, [self.content]))


def pieces_of(package: Package) -> Iterator[bytes]:
    """Raises PermanentDelivery where a file is no longer what it was."""
    try:
        yield from package.pieces()
    except OSError as error:
        raise PermanentDelivery(f"the content cannot be read back: {error.strerror or error}") from None


class Content(templates.Content):
    """A parcel read by a template."""

    def __init__(
        self,
        parcel: Parcel,
        name: str,
        body_file: Callable[[BodyRef], Path],
        tables: Mapping[str, Any],
        documents: Mapping[str, Template] | None = None,
    ) -> None:
        super().__init__(parcel, name, body_file, tables)
        self._documents = documents or {}
        self.markers: dict[str, str] = {}
        """Stands for the whole content in a filled tree -> which form of it is meant."""

    def value(self, name: str) -> str | None:
        """For adapters.soap.client.template. Raises PermanentDelivery."""
        scope, _, rest = name.partition(".")
        if scope != "documents":
            return super().value(name)
        filled: Any = self._documents[rest].fill(self._within)
        return str(etree.tostring(filled, encoding="unicode"))

    def whole(self, form: str) -> str:
        marker = f"content-{secrets.token_hex(16)}"
        self.markers[marker] = form
        return marker

    def _within(self, name: str) -> str | None:
        """For a document in the message, which is text itself. Raises PermanentDelivery."""
        if name == "content.text":
            return self.text()
        return self.blob().base64() if name == "content.base64" else self.value(name)

    def blob(self) -> Blob:
        """The content as it came."""
        content_type = self.parcel.content_type or "application/octet-stream"
        body = self.parcel.body
        if isinstance(body, bytes):
            return Blob(body, content_type)
        return Blob(FilePart(self._body_file(body), 0, body.size), content_type)

    def text(self) -> str:
        """In the character set that it declares, UTF-8 otherwise. Raises PermanentDelivery for what is no text that XML can hold."""
        text = self.decoded(self.in_memory("can only go as an attachment"))
        if NOT_IN_XML.search(text):
            raise PermanentDelivery("the content holds characters that XML cannot: send it in base64")
        return text

    def element(self) -> etree._Element:
        """Raises PermanentDelivery for what is no XML."""
        try:
            return parse(self.in_memory("can only go as an attachment"), LIMITS)
        except MessageError as error:
            raise PermanentDelivery(f"the content is no XML that can be sent: {error.text}", location=error.location) from None

    @property
    def is_soap(self) -> bool:
        return self.parcel.content_type == SOAP
