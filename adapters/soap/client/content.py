"""What a parcel has to say: facts, texts at paths, and the content whole, from memory or from its file. Pure but for that file."""

from __future__ import annotations

import re
import secrets
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from lxml import etree

from adapters.soap.client.template import NOT_IN_XML, WHOLE_CONTENT, Template, text_of
from engine import registry
from engine.errors import MessageError, PermanentDelivery
from engine.formats.soap import FilePart, Package
from engine.formats.xml import LIMITS, parse
from engine.message import HL7V2, SOAP, WHOLE, BodyRef, Excerpt, Parcel

_DECLARED: Final = re.compile(rb"<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")


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


class Content:
    """A parcel read by a template. `name` is the destination's, so that two destinations do not use one message identifier."""

    def __init__(
        self,
        parcel: Parcel,
        name: str,
        body_file: Callable[[BodyRef], Path],
        tables: Mapping[str, Any],
        documents: Mapping[str, Template] | None = None,
    ) -> None:
        self.parcel, self._name, self._body_file, self._tables, self._documents = parcel, name, body_file, tables, documents or {}
        self.markers: dict[str, str] = {}
        """Stands for the whole content in a filled tree -> which form of it is meant."""

    @cached_property
    def message_id(self) -> str:
        """The same at every attempt (WS-Addressing 1.0 clause 3.2: [message id])."""
        key = self.parcel.idempotency_key or f"{self.parcel.message_id}/{self.parcel.seq}"
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{self._name}/{key}')}"

    def value(self, name: str) -> str | None:
        """For adapters.soap.client.template. Raises PermanentDelivery."""
        scope, _, rest = name.partition(".")
        if scope == "message":
            return self._fact(rest)
        if scope == "tables":
            return self._looked_up(rest)
        if scope == "documents":
            filled: Any = self._documents[rest].fill(self._within)
            return str(etree.tostring(filled, encoding="unicode"))
        if name in WHOLE_CONTENT:
            marker = f"content-{secrets.token_hex(16)}"
            self.markers[marker] = rest
            return marker
        return self._text(name)

    def _within(self, name: str) -> str | None:
        """For a document in the message, which is text itself. Raises PermanentDelivery."""
        if name == "content.text":
            return self.text()
        return self.blob().base64() if name == "content.base64" else self.value(name)

    def _fact(self, name: str) -> str:
        parcel = self.parcel
        received = datetime.fromtimestamp(parcel.received_at / 1e6, UTC)
        facts: dict[str, Callable[[], str]] = {
            "type": lambda: parcel.message_type,
            "control_id": lambda: parcel.control_id,
            "patient_id": lambda: parcel.order_key,
            "content_type": lambda: parcel.content_type,
            "received_at": lambda: received.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "received_local": lambda: received.astimezone().strftime("%Y%m%d%H%M%S"),
            "id": lambda: self.message_id,
            "key": lambda: parcel.idempotency_key,
        }
        return facts[name]()

    def _looked_up(self, name: str) -> str:
        """Raises PermanentDelivery where the table has no row for what the message says."""
        table = self._tables[name]
        said = text_of(table.of, self.value) or ""
        found = table.table.get(said, table.otherwise)
        if found is None:
            raise PermanentDelivery(f"tables.{name} has no row for this message, and no otherwise", location=table.of)
        return str(found)

    # --- the content -----------------------------------------------------------------------------

    def _text(self, path: str) -> str | None:
        try:
            found: str | None = self._document.get(path)
        except ValueError:
            raise PermanentDelivery("the template asks for a path that this content cannot have", location=path) from None
        return found

    @cached_property
    def _document(self) -> Any:
        codec = registry.codec(self.parcel.content_type)
        if codec is None or (isinstance(self.body, Excerpt) and not getattr(codec, "headers", False)):
            raise PermanentDelivery(f"a template cannot look into content of type {self.parcel.content_type}, or of this size")
        try:
            return codec.decode(self.body)
        except MessageError as error:
            raise PermanentDelivery(f"the content cannot be read: {error.text}", location=error.location) from None

    @cached_property
    def body(self) -> bytes:
        """All of it, or an Excerpt. Raises PermanentDelivery."""
        body = self.parcel.body
        if isinstance(body, bytes):
            return body
        file = self._body_file(body)
        try:
            with file.open("rb") as opened:
                return Excerpt(opened.read(WHOLE), body.digest, file)
        except OSError as error:
            raise PermanentDelivery(f"the content cannot be read back: {error.strerror}") from None

    def blob(self) -> Blob:
        """The content as it came."""
        content_type = self.parcel.content_type or "application/octet-stream"
        body = self.parcel.body
        if isinstance(body, bytes):
            return Blob(body, content_type)
        return Blob(FilePart(self._body_file(body), 0, body.size), content_type)

    def text(self) -> str:
        """In the character set that it declares, UTF-8 otherwise. Raises PermanentDelivery for what is no text that XML can hold."""
        body = self._in_memory()
        try:
            text = body.decode(self._charset(body))
        except (UnicodeDecodeError, LookupError):
            raise PermanentDelivery("the content is not text in its character set: send it in base64") from None
        if NOT_IN_XML.search(text):
            raise PermanentDelivery("the content holds characters that XML cannot: send it in base64")
        return text

    def _charset(self, body: bytes) -> str:
        if self.parcel.content_type == HL7V2:
            return str(self._document.charset)
        declared = _DECLARED.match(body)
        return declared[1].decode("ascii") if declared else "utf-8-sig"

    def element(self) -> etree._Element:
        """Raises PermanentDelivery for what is no XML."""
        try:
            return parse(self._in_memory(), LIMITS)
        except MessageError as error:
            raise PermanentDelivery(f"the content is no XML that can be sent: {error.text}", location=error.location) from None

    def _in_memory(self) -> bytes:
        if isinstance(self.body, Excerpt):
            raise PermanentDelivery(f"content of more than {WHOLE >> 20} MB can only go as an attachment")
        return self.body

    @property
    def is_soap(self) -> bool:
        return self.parcel.content_type == SOAP
