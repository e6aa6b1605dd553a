"""What a site's templates say with ``${…}`` where a message's own values go. Pure but for the file of a body too big for memory.

    ${message.type}              a fact of the message: FACTS
    ${tables.action}             a value of the destination's own tables (option `tables`)
    ${PID-3[1].1}                the text at a path of the content, as its format writes paths
    ${content.text}              the whole content: as text, or in base64. It stands alone in its place

Adapters put the values where they belong (a tree of XML, a bound parameter): never into the text of a statement or of markup.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from engine import registry
from engine.errors import MessageError, PermanentDelivery
from engine.message import HL7V2, WHOLE, BodyRef, Excerpt, Parcel
from engine.options import TEXT, Faulty, Kind, MapOf, Option, Spec

FACTS: Final = {
    "type": "message type, such as ADT^A01",
    "control_id": "the message's own identifier (MSH-10)",
    "patient_id": "what the destination keeps in order by: the patient's identifier",
    "content_type": "media type of the content",
    "received_at": "when it was received, as 2026-01-31T09:30:00Z",
    "received_local": "the same in the node's time zone, as 20260131093000",
    "id": "urn:uuid:…, the same at every attempt (wsa:MessageID)",
    "key": "the idempotency key, the same at every attempt",
}
WHOLE_CONTENT: Final = ("content.text", "content.base64")
PLACEHOLDER: Final = re.compile(r"\$\{([^{}]+)\}")
_DECLARED: Final = re.compile(rb"<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")

Value = Callable[[str], "str | None"]
"""The text for a placeholder's name; None where the message has none."""


def names_in(texts: Iterable[str], whole: tuple[str, ...] = WHOLE_CONTENT) -> tuple[str, ...]:
    """The placeholders in `texts`; those of `whole` may only stand alone. Raises Faulty."""
    names: dict[str, None] = {}
    for text in texts:
        for name in PLACEHOLDER.findall(text):
            if name in whole and not is_whole(text, whole):
                raise Faulty(f"${{{name}}} must stand alone")
            _check_name(name)
            names[name] = None
        if "${" in PLACEHOLDER.sub("", text):
            raise Faulty(f"a placeholder is not closed in {text[:60]!r}")
    return tuple(names)


def is_whole(text: str, whole: tuple[str, ...] = WHOLE_CONTENT) -> bool:
    """Whether `text` is the whole content's placeholder, alone."""
    alone = PLACEHOLDER.fullmatch(text.strip())
    return alone is not None and alone[1] in whole


def text_of(text: str, value: Value, fit: Callable[[str], str] = str) -> str | None:
    """`text` with its placeholders filled by what `fit` makes of their values; None where it is one alone and the message has none."""
    alone = PLACEHOLDER.fullmatch(text)
    if alone is not None:
        found = value(alone[1])
        return None if found is None else fit(found)
    return PLACEHOLDER.sub(lambda match: fit(value(match[1]) or ""), text)


def paths_in(names: Iterable[str]) -> list[str]:
    """Those that are paths of the content."""
    return [name for name in names if name.partition(".")[0] not in ("message", "tables", "content")]


def check_tables(names: Iterable[str], tables: Mapping[str, Any]) -> None:
    """Raises Faulty for ``${tables.NAME}`` that is not there, in `names` or in what a table asks."""
    for name in [*names, *(name for table in tables.values() for name in names_in([table.of]))]:
        if name.startswith("tables.") and name.removeprefix("tables.") not in tables:
            raise Faulty(f"there is no ${{{name}}}", ", ".join(f"tables.{one}" for one in tables))


def _check_name(name: str) -> None:
    if name.startswith("message.") and name.removeprefix("message.") not in FACTS:
        nearest = get_close_matches(name.removeprefix("message."), FACTS, 1)
        raise Faulty(f"there is no ${{{name}}}", ", ".join(f"message.{fact}" for fact in FACTS), f"message.{nearest[0]}" if nearest else "")


def _with_placeholders(raw: Any) -> str:
    text = str(TEXT.read(raw))
    if any(name.startswith("content.") for name in names_in([text], ())):
        raise Faulty("a table cannot be asked with the whole content")
    return text


_ASKED: Final = Kind("text", "text with ${…}", _with_placeholders, {"type": "string"})
TABLE: Final = Spec(
    "table",
    "A table of the site: what is said for what the message says.",
    [
        Option("of", _ASKED, "what is looked up, such as ${message.type}", required=True),
        Option("table", MapOf(TEXT), "what it may be: what is said then", required=True),
        Option("otherwise", TEXT, "what is said for all else; default: such a message is a dead letter"),
    ],
)


class Content:
    """A parcel read by a template. `name` is the destination's, so that two destinations do not use one message identifier."""

    def __init__(self, parcel: Parcel, name: str, body_file: Callable[[BodyRef], Path], tables: Mapping[str, Any]) -> None:
        self.parcel, self._name, self._body_file, self._tables = parcel, name, body_file, tables

    @cached_property
    def message_id(self) -> str:
        """The same at every attempt (WS-Addressing 1.0 clause 3.2: [message id])."""
        key = self.parcel.idempotency_key or f"{self.parcel.message_id}/{self.parcel.seq}"
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{self._name}/{key}')}"

    def value(self, name: str) -> str | None:
        """What stands for ``${name}``. Raises PermanentDelivery."""
        scope, _, rest = name.partition(".")
        if scope == "message":
            return self._fact(rest)
        if scope == "tables":
            return self._looked_up(rest)
        if scope == "content":
            return self.whole(rest)
        return self.at(name)

    def whole(self, form: str) -> str:
        """The content as ``text`` or in ``base64``. Raises PermanentDelivery."""
        raise NotImplementedError

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
        return self.looked_up(name, self.value)

    def looked_up(self, name: str, value: Value) -> str:
        """What the table says for what `value` reads. Raises PermanentDelivery where it has no row for it."""
        table = self._tables[name]
        said = text_of(table.of, value) or ""
        found = table.table.get(said, table.otherwise)
        if found is None:
            raise PermanentDelivery(f"tables.{name} has no row for this message, and no otherwise", location=table.of)
        return str(found)

    # --- the content -----------------------------------------------------------------------------

    def at(self, path: str) -> str | None:
        """The text at a path of the content. Raises PermanentDelivery."""
        try:
            found: str | None = self.document.get(path)
        except ValueError:
            raise PermanentDelivery("the template asks for a path that this content cannot have", location=path) from None
        return found

    @cached_property
    def document(self) -> Any:
        """engine.contracts.Document. Raises PermanentDelivery."""
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

    def in_memory(self, instead: str) -> bytes:
        """All of it. Raises PermanentDelivery, saying what can be done `instead`, where it is too big."""
        if isinstance(self.body, Excerpt):
            raise PermanentDelivery(f"content of more than {WHOLE >> 20} MB {instead}")
        return self.body

    def decoded(self, body: bytes) -> str:
        """In the character set that the content declares, UTF-8 otherwise. Raises PermanentDelivery where it is not text in that."""
        try:
            return body.decode(self._charset(body))
        except (UnicodeDecodeError, LookupError):
            raise PermanentDelivery("the content is not text in its character set: send it in base64") from None

    def _charset(self, body: bytes) -> str:
        if self.parcel.content_type == HL7V2:
            return str(self.document.charset)
        declared = _DECLARED.match(body)
        return declared[1].decode("ascii") if declared else "utf-8-sig"
