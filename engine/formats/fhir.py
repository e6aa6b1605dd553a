"""FHIR R4 JSON: strict and exact. Duplicate keys are refused; decimals keep their digits (1.50 stays 1.50: FHIR R4, datatypes#decimal)."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import orjson

from engine.errors import ParseError

MOST_DEEP: Final = 64
_STEP: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[([0-9]{1,5})\])?")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.\[\]]{1,400}")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class Exact(float):
    """A number with the digits it was written in."""

    __slots__ = ("digits",)
    digits: str

    def __new__(cls, digits: str) -> Exact:
        self = super().__new__(cls, digits)
        self.digits = digits
        return self

    def __repr__(self) -> str:
        return self.digits


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises ParseError: not UTF-8, not JSON, a key twice, deeper than MOST_DEEP, not an object.

    A body that orjson reads and writes again as the same bytes has no key twice and no decimal that a float would change; that is
    several times faster than the strict parser, which takes all others.
    """
    value = parse_any(body)
    if not isinstance(value, dict):
        raise ParseError("the body is not a JSON object")
    return value


def parse_any(body: bytes) -> Any:
    """Any JSON value, by the same rules. Raises ParseError."""
    value = _canonical(body)
    if value is None:
        value = _strict(body)
    if value.__class__ in (dict, list) and _depth(value) > MOST_DEEP:
        raise ParseError(f"the body is nested deeper than {MOST_DEEP} levels")
    return value


def _canonical(body: bytes) -> Any:
    """The value, None where reading and writing it does not give the same bytes."""
    try:
        value = orjson.loads(body)
        return value if orjson.dumps(value) == body else None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def _strict(body: bytes) -> Any:
    try:
        text, pairs_of = body.decode("utf-8-sig"), _Objects()
        value = json.loads(text, object_pairs_hook=pairs_of.take, parse_float=Exact, parse_int=_integer, parse_constant=_no_constant)
        if pairs_of.twice:
            raise _came_twice(value)
        if _SURROGATE.search(body):
            dump(value)
    except UnicodeDecodeError:
        raise ParseError("the body is not UTF-8") from None
    except orjson.JSONEncodeError:
        raise ParseError("the body has half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise ParseError("the body is nested too deeply") from None
    except ValueError as error:
        raise ParseError(f"the body is not JSON: {_where(error)}") from None
    return value


def _integer(digits: str) -> int | Exact:
    """What a machine word does not hold, and minus zero, keeps its digits too."""
    return int(digits) if len(digits) < 19 and digits != "-0" else Exact(digits)


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    return str(error)


class _Twice(dict[str, Any]):
    """An object in which a key came twice; `name` says which."""

    name: str


class _Objects:
    """Makes objects of their pairs, and notices where a key comes twice in one."""

    twice = False

    def take(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.twice, wrong = True, _Twice(found)
        names = Counter(name for name, _ in pairs)
        wrong.name = next(name for name, times in names.items() if times > 1)
        return wrong


def _came_twice(value: Any) -> ParseError:
    """With the place, where the names on the way are those of elements."""
    under_way = [(value, str(value.get("resourceType", ""))[:64] if isinstance(value, dict) else "")]
    while under_way:
        here, path = under_way.pop()
        if here.__class__ is _Twice:
            text = f"the body is not JSON: the element {here.name[:40]!r} occurs twice in one object"
            place = f"{path}.{here.name}".lstrip(".")
            return ParseError(text, location=place if _PLAIN.fullmatch(place) else "")
        children = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        under_way += [
            (child, f"{path}.{name}" if isinstance(name, str) else f"{path}[{name}]")
            for name, child in children
            if isinstance(child, dict | list)
        ]
    return ParseError("the body is not JSON: an element occurs twice in one object")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            child
            for parent in level
            for child in (parent.values() if parent.__class__ is dict else parent)
            if child.__class__ is dict or child.__class__ is list
        ]
    return deepest


def dump(value: Any, *, indent: bool = False) -> bytes:
    """JSON, compact or with indents of two, keys in the order given, decimals with their own digits."""
    option = orjson.OPT_PASSTHROUGH_SUBCLASS | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(value, default=_plain, option=option)


def _plain(value: Any) -> Any:
    if isinstance(value, Exact):
        return orjson.Fragment(value.digits)
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(type(value).__name__)


class Resource:
    """engine.contracts.Document for FHIR JSON: element paths such as ``entry[0].resource.resourceType``."""

    __slots__ = ("value",)

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value

    def get(self, path: str) -> str | None:
        """The text at `path`, None where there is none; an array without an index means its first element."""
        here: Any = self.value
        for name, index in _steps(path):
            if not isinstance(here, dict) or name not in here:
                return None
            here = here[name]
            if isinstance(here, list):
                if index >= len(here):
                    return None
                here = here[index]
            elif index:
                return None
        if here is None or isinstance(here, str):
            return here
        return dump(here).decode()

    def indexes(self, path: str) -> range:
        """The indexes of the array at `path`; of what is no array 0, and of what is not there none. Raises ValueError."""
        here: Any = self.value
        for name, index in _steps(path):
            if isinstance(here, list):
                here = here[0] if here else None
            here = here.get(name) if isinstance(here, dict) else None
            if isinstance(here, list) and index:
                here = here[index] if index < len(here) else None
        return range(len(here) if isinstance(here, list) else here is not None)


@lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[tuple[str, int], ...]:
    steps = [_STEP.fullmatch(step) for step in path.split(".")]
    if not all(steps):
        raise ValueError(f"{path!r} is not a FHIR element path such as entry[0].resource.resourceType")
    return tuple((step[1], int(step[2] or 0)) for step in steps if step)


class Codec:
    """engine.contracts.Codec for application/fhir+json."""

    content_type = "application/fhir+json"

    def decode(self, body: bytes) -> Resource:
        return Resource(parse(body))

    def check_path(self, path: str) -> None:
        _steps(path)

    check_repeating = check_path


codec: Final = Codec()
