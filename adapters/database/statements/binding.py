"""What a statement's parameter is bound to: a template or a constant, its type, its zone. Pure."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from adapters.database.statements.conversions import KINDS, Misfit, converted
from engine import templates
from engine.errors import PermanentDelivery
from engine.message import HL7V2
from engine.options import FLAG, TEXT, ZONE, Faulty, Kind, Option, Settings, Spec, choice

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

REPEAT: Final = "[*]"
"""Stands in paths for the index of what a statement goes through (`each`)."""


class Content(templates.Content):
    """A parcel read by bindings."""

    def whole(self, form: str) -> str:
        body = self.in_memory("cannot be bound as a parameter")
        return self.decoded(body) if form == "text" else b64encode(body).decode("ascii")

    def indexes(self, path: str) -> range:
        """Raises PermanentDelivery."""
        document = self.document
        if not hasattr(document, "indexes"):
            raise PermanentDelivery(f"content of type {self.parcel.content_type} has nothing that a statement could go through")
        try:
            found: range = document.indexes(path)
        except ValueError:
            raise PermanentDelivery("`each` is a path that this content cannot have", location=path) from None
        return found

    def native(self, path: str) -> Any:
        """The value at a path, in its own type where the content has types. HL7's null is none."""
        try:
            own = getattr(self.document, "native", None)
            if own is not None:
                return own(path)
        except ValueError:
            raise PermanentDelivery("the record's value is not of its type, or it cannot have this path", location=path) from None
        text = self.at(path)
        return None if text == '""' and self.parcel.content_type == HL7V2 else text


class Item:
    """One of what a statement goes through: its content with an index for each ``[*]``."""

    def __init__(self, content: Content, index: int | None = None) -> None:
        self.content, self._index = content, "" if index is None else f"[{index}]"

    def value(self, name: str) -> str | None:
        """For engine.templates. Raises PermanentDelivery."""
        if name.startswith("tables."):
            return self.content.looked_up(name.removeprefix("tables."), self.value)
        return self.content.value(self._placed(name))

    def native(self, name: str) -> Any:
        """As `value`, in the type that the content has it in."""
        return self.value(name) if not templates.paths_in([name]) else self.content.native(self._placed(name))

    def _placed(self, path: str) -> str:
        return path.replace(REPEAT, self._index) if self._index else path

    # engine.expressions.Subject

    def fact(self, name: str) -> str:
        return self.content.value(f"message.{name}") or ""

    def text(self, path: str) -> str:
        return self.value(path) or ""


def _scalar(raw: Any) -> Any:
    """A constant keeps the type that YAML gives it."""
    if raw is None or isinstance(raw, bool | int):
        return raw
    text = TEXT.read(raw)
    templates.names_in([text])
    return text


_VALUE: Final = Kind("value", "text with ${…}, or a constant", _scalar, {"type": ["string", "number", "boolean"]})


def _fitting(settings: Settings) -> str:
    if settings.zone is not None and settings.type not in ("datetime", "instant"):
        return "zone is for the types datetime and instant"
    if settings.format is not None and settings.type not in ("date", "time", "datetime", "instant"):
        return "format is for dates and times"
    if not isinstance(settings.value, str):
        return ""
    names = templates.names_in([settings.value])
    if "content.base64" in names and settings.type not in ("binary", "text"):
        return "${content.base64} is the content's bytes: type: binary, or text"
    if names or settings.type is None:
        return ""
    try:
        converted(settings.value, settings.type, settings.zone, settings.format)
    except Misfit as error:
        return f"the constant {error}"
    return ""


BINDING: Final = Spec(
    "with",
    "What a parameter or column gets.",
    [
        Option("value", _VALUE, "text with ${…}, or a constant", required=True),
        Option(
            "type",
            choice(*KINDS),
            "what it is: datetime is local time, instant a point in time, binary is given in base64. Default: text; of a record "
            "(application/rows+json) the type that it had",
        ),
        Option("zone", ZONE, "for datetime and instant: the local time zone; default: the destination's"),
        Option("format", TEXT, "how a date is written where it is neither ISO 8601 nor HL7's, as Python's strptime has it: %d.%m.%Y"),
        Option("required", FLAG, "a message that has no such value is a dead letter", default=False),
    ],
    scalar="value",
    check=_fitting,
)


@dataclass(frozen=True)
class Binding:
    """A compiled one."""

    name: str
    value: Any
    kind: str | None
    zone: ZoneInfo | None
    form: str | None
    required: bool

    @classmethod
    def of(cls, name: str, settings: Settings, zone: ZoneInfo | None) -> Binding:
        return cls(name, settings.value, settings.type, settings.zone or zone, settings.format, settings.required)

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders in it."""
        return templates.names_in([self.value]) if isinstance(self.value, str) else ()

    def bound(self, item: Item) -> Any:
        """The value as Python has it. Raises PermanentDelivery, whose location is the parameter."""
        value = self._said(item)
        if value is None or (value == "" and self.kind not in (None, "text")):
            if self.required:
                raise PermanentDelivery("the message has no such value, which is required", location=self.name)
            return None
        if self.kind is None:
            return value
        if isinstance(value, bytes) and self.kind == "binary":
            return value
        try:
            return converted(value, self.kind, self.zone, self.form)
        except Misfit as error:
            raise PermanentDelivery(f"the value {error}", location=self.name) from None

    def _said(self, item: Item) -> Any:
        if not isinstance(self.value, str):
            return self.value
        alone = templates.PLACEHOLDER.fullmatch(self.value)
        return item.native(alone[1]) if alone is not None else templates.text_of(self.value, item.value)


def check_names(bindings: dict[str, Settings], tables: Any, *, repeated: bool) -> None:
    """Raises Faulty."""
    for name, settings in bindings.items():
        found = templates.names_in([settings.value]) if isinstance(settings.value, str) else ()
        templates.check_tables(found, tables)
        if not repeated and any(REPEAT in one for one in found):
            raise Faulty(f"{name}: {REPEAT} stands for what `each` goes through; there is no each")
