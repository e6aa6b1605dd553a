"""The kinds of columns that the landing schema's table may name: which SQL columns each becomes, and what goes into them.

Nothing in a resource can make this fail: what does not fit a column leaves it NULL, and stays in the text beside it and in the JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from adapters.database.landing import dates
from engine.formats.fhir import Exact


class Form(StrEnum):
    """What an SQL column holds."""

    TEXT = "text"
    ID = "id"  # R4 id or resource type: at most 64 characters
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMERIC = "numeric"
    DAY = "day"
    INSTANT = "instant"
    JSON = "json"


class Part(NamedTuple):
    """One SQL column of a kind: what is put behind the column's name, its form, and what it is, for comments."""

    suffix: str
    form: Form
    doc: str = ""


class Kind(NamedTuple):
    """`read` gives a value for each part, out of all that was found at the path (at least one). `main` is the part to index."""

    parts: tuple[Part, ...]
    read: Callable[[list[Any], tzinfo], tuple[Any, ...]]
    main: int = 0


def text_of(value: Any) -> str | None:
    """Primitives as they are written in JSON; None for what is no primitive."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list) or value is None:
        return None
    return value.digits if isinstance(value, Exact) else orjson.dumps(value).decode()


def _element(value: Any, name: str) -> str | None:
    return text_of(value.get(name)) if isinstance(value, dict) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    if number is None or number != number.to_integral_value() or abs(number) >= 1 << 63:
        return None
    return int(number)


def _number(value: Any) -> Decimal | None:
    """Up to 1,000 digits on either side of the point; whatever is larger is kept as text only."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = Decimal(text_of(value) or "")
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    return number if isinstance(exponent, int) and exponent > -1000 and number.adjusted() < 1000 else None


def _boolean(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    return (found[0] if isinstance(found[0], bool) else None,)


def _decimal(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    return _number(found[0]), text_of(found[0])


def _date(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    text = text_of(found[0])
    return (text, *dates.days(text or ""))


def _datetime(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    text = text_of(found[0])
    return (text, *dates.instants(text or "", zone))


def _coding(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    return tuple(_element(found[0], name) for name in ("code", "system", "display"))


def _concept(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    """The first coding that has a code, and the text."""
    codings = found[0].get("coding") if isinstance(found[0], dict) else None
    codings = [coding for coding in codings if isinstance(coding, dict)] if isinstance(codings, list) else []
    first = next((coding for coding in codings if coding.get("code")), codings[0] if codings else {})
    return (*_coding([first], zone), _element(found[0], "text"))


def _quantity(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    value = found[0] if isinstance(found[0], dict) else {}
    words = (_element(value, name) for name in ("comparator", "unit", "system", "code"))
    return (_number(value.get("value")), _element(value, "value"), *words)


def _reference(found: list[Any], zone: tzinfo) -> tuple[Any, ...]:
    """Type and id of what the repository here may hold; else what the reference says in other ways."""
    literal = _element(found[0], "reference") or ""
    kind, slash, name = literal.partition("/_history/")[0].partition("/")
    if slash and kind.isalpha() and 0 < len(name) <= 64 and "/" not in name and len(kind) <= 64:
        return kind, name, _element(found[0], "display")
    identifier = found[0].get("identifier") if isinstance(found[0], dict) else None
    logical = f"{_element(identifier, 'system') or ''}|{_element(identifier, 'value') or ''}" if isinstance(identifier, dict) else None
    kind = _element(found[0], "type") or ""
    return (kind if 0 < len(kind) <= 64 else None), None, literal or logical or _element(found[0], "display")


def _joined(mark: str) -> Callable[[list[Any], tzinfo], tuple[Any, ...]]:
    return lambda found, zone: (mark.join(text for text in map(text_of, found) if text is not None) or None,)


KINDS: Final[dict[str, Kind]] = {
    "text": Kind((Part("", Form.TEXT),), lambda found, zone: (text_of(found[0]),)),
    "words": Kind((Part("", Form.TEXT, "joined by blanks"),), _joined(" ")),
    "lines": Kind((Part("", Form.TEXT, "one to a line"),), _joined("\n")),
    "boolean": Kind((Part("", Form.BOOLEAN),), _boolean),
    "integer": Kind((Part("", Form.INTEGER),), lambda found, zone: (_integer(found[0]),)),
    "decimal": Kind((Part("", Form.NUMERIC), Part("_text", Form.TEXT, "with the digits as written")), _decimal),
    "date": Kind(
        (
            Part("", Form.TEXT, "as written, to its own precision"),
            Part("_from", Form.DAY, "first day"),
            Part("_to", Form.DAY, "first day after"),
        ),
        _date,
        1,
    ),
    "datetime": Kind(
        (
            Part("", Form.TEXT, "as written, to its own precision"),
            Part("_from", Form.INSTANT, "first moment"),
            Part("_to", Form.INSTANT, "first moment after"),
        ),
        _datetime,
        1,
    ),
    "coding": Kind(
        (Part("_code", Form.TEXT, "code"), Part("_system", Form.TEXT, "its code system"), Part("_display", Form.TEXT, "display")), _coding
    ),
    "concept": Kind(
        (
            Part("_code", Form.TEXT, "first code"),
            Part("_system", Form.TEXT, "its code system"),
            Part("_display", Form.TEXT, "display"),
            Part("_text", Form.TEXT, "in words"),
        ),
        _concept,
    ),
    "quantity": Kind(
        (
            Part("", Form.NUMERIC),
            Part("_text", Form.TEXT, "with the digits as written"),
            Part("_comparator", Form.TEXT, "< | <= | >= | >"),
            Part("_unit", Form.TEXT, "unit in words"),
            Part("_unit_system", Form.TEXT, "unit's code system"),
            Part("_unit_code", Form.TEXT, "unit's code"),
        ),
        _quantity,
    ),
    "reference": Kind(
        (
            Part("_type", Form.ID, "resource type"),
            Part("_id", Form.ID, "resource id"),
            Part("_text", Form.TEXT, "display; where there is no id, what the reference says instead"),
        ),
        _reference,
        1,
    ),
}


def named(column: str, part: Part) -> str:
    """The SQL column's name; the code of ``code`` is not called code_code."""
    return column if part.suffix == f"_{column}" else column + part.suffix
