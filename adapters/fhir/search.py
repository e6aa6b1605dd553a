"""Search queries (R4 3.1.1): a query string as what is to be looked up.

A query with anything that is not indexed is refused, since a parameter silently ignored would return other patients' resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from adapters.fhir.instants import comparison
from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.parameters import PARAMETERS, Kind, Parameter
from adapters.fhir.resource_types import ID

DEFAULT_COUNT: Final = 50
MOST: Final = 1000


class Term(NamedTuple):
    """One parameter of a query: any of `alternatives` (value, system; None = any system) matches."""

    key: str
    alternatives: tuple[tuple[str, str | None], ...]


class Query(NamedTuple):
    """A search that can be carried out: all of it must match. Times in microseconds UTC, low <= t < high. `sender`: whose alone."""

    resource_type: str
    terms: tuple[Term, ...] = ()
    ids: tuple[str, ...] | None = None
    updated: tuple[tuple[int, int], ...] = ()
    most: int = DEFAULT_COUNT
    after: int = 0
    count_only: bool = False
    sender: str | None = None


def parse_query(resource_type: str, query: str, *, condition: bool = False, lenient: bool = False) -> Query:
    """Read a query string. A `condition` (If-None-Exist, a conditional reference or URL) must restrict and may not page.

    Raises FhirRefusal 400 for what is not supported; with `lenient` (Prefer: handling=lenient, R4 3.1.1.3.1) unknown names are ignored.
    """
    terms: list[Term] = []
    ids: tuple[str, ...] | None = None
    updated: list[tuple[int, int]] = []
    result: dict[str, Any] = {}
    known = PARAMETERS[resource_type]
    for name, value in _pairs(query):
        if name in known:
            terms.append(_term(known[name], value))
        elif name == "_id":
            ids = tuple(value.split(","))
        elif name == "_lastUpdated":
            updated.append(comparison(value))
        elif name in _RESULT and not condition:
            result.update(_RESULT[name](value))
        elif not lenient or condition:
            raise _unsupported(name, resource_type)
    if condition and not terms and ids is None:
        raise FhirRefusal(412, "a condition needs at least one search parameter", issue="required")
    return Query(resource_type, tuple(terms), ids, tuple(updated), **result)


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name:
            yield name, unquote_plus(value) if "%" in value or "+" in value else value


def _unsupported(name: str, resource_type: str) -> FhirRefusal:
    known = ", ".join(sorted({*PARAMETERS[resource_type], "_id", "_lastUpdated", "_count"}))
    shown = name if name.replace("-", "").replace("_", "").replace(":", "").replace(".", "").isalnum() else "this parameter"
    return FhirRefusal(400, f"search by {shown} is not supported for {resource_type}; supported: {known}", issue="not-supported")


def _term(parameter: Parameter, value: str) -> Term:
    if not value:
        raise FhirRefusal(400, f"search parameter {parameter.name} has no value", issue="value")
    read = _token_value if parameter.kind is Kind.TOKEN else _reference_value
    return Term(parameter.key, tuple(read(parameter, part) for part in _split(value)))


def _split(value: str) -> list[str]:
    """The alternatives of a value: commas part them, ``\\,`` ``\\|`` ``\\$`` ``\\\\`` are escaped (R4 3.1.1.4.0.1)."""
    if "\\" not in value:
        return value.split(",")
    parts, part, escaped = [], "", False
    for character in value:
        if escaped or character not in "\\,":
            part, escaped = part + character, False
        elif character == "\\":
            escaped = True
        else:
            parts.append(part)
            part = ""
    return [*parts, part]


def _token_value(parameter: Parameter, part: str) -> tuple[str, str | None]:
    system, bar, value = part.partition("|") if "|" in part else ("", "", part)
    if not value:
        raise FhirRefusal(400, f"search parameter {parameter.name} needs a value, not a system alone", issue="not-supported")
    return value, system if bar else None


def _reference_value(parameter: Parameter, part: str) -> tuple[str, str | None]:
    if "/" in part or part.startswith("urn:"):
        return part, None
    if parameter.target and ID.fullmatch(part):
        return f"{parameter.target}/{part}", None
    raise FhirRefusal(400, f"search parameter {parameter.name} needs a reference such as Patient/123", issue="value")


def _count(value: str) -> dict[str, Any]:
    if not value.isdecimal():
        raise FhirRefusal(400, "_count needs a whole number", issue="value")
    number = int(value)
    return {"most": min(number, MOST), "count_only": number == 0}


def _summary(value: str) -> dict[str, Any]:
    if value not in ("count", "false"):
        raise FhirRefusal(400, "_summary is supported as count or false", issue="not-supported")
    return {"count_only": value == "count"}


def _after(value: str) -> dict[str, Any]:
    if not value.isdecimal():
        raise FhirRefusal(400, "_after is made by this server's next links only", issue="value")
    return {"after": int(value)}


_RESULT: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    "_count": _count,
    "_summary": _summary,
    "_after": _after,
    "_format": lambda _: {},
    "_pretty": lambda _: {},
}
