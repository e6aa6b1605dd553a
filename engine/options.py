"""Options, declared once.

A `Spec` lists what a folder of YAML may say. The same declaration parses it, checks it (every fault with
file:line, what is allowed, the nearest name), makes the JSON Schema for editors and the manual's tables, and masks secrets.

    SPEC = Spec("mllp source", "Listens for HL7 v2 over MLLP.", [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("idle", DURATION, "close a silent connection after this", default="5m"),
    ])
    settings = SPEC.parse(node, Place("channels/lab.yaml", 3), faults)
    settings.idle     # 300.0

Nodes are plain YAML values; mappings loaded by ruamel.yaml carry the line numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.errors import Fault


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands: file, 1-based line (0 = unknown), and the path of names down to it; `folder` is the site's."""

    file: str
    line: int = 0
    path: str = ""
    folder: Path | None = None

    def child(self, node: object, key: object) -> Place:
        """The place of `node[key]`, with its line where the loader kept it."""
        return Place(self.file, _line_of(node, key) or self.line, self._below(node, key), self.folder)

    def _below(self, node: object, key: object) -> str:
        """Items are counted from 1, as a person does."""
        if isinstance(key, int) and not isinstance(node, Mapping):
            return f"{self.path}[{key + 1}]"
        return f"{self.path}.{key}" if self.path else str(key)


def _line_of(node: object, key: object) -> int:
    marks = getattr(node, "lc", None)
    if marks is None:
        return 0
    try:
        position = marks.key(key) if isinstance(node, Mapping) else marks.item(key)
    except (KeyError, TypeError):
        return 0
    return int(position[0]) + 1


class Faulty(Exception):
    """Raised by a kind's parser: `text`, what is `allowed`, the `nearest` name."""

    def __init__(self, text: str, allowed: str = "", nearest: str = "") -> None:
        super().__init__(text)
        self.text, self.allowed, self.nearest = text, allowed, nearest


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: `read` turns a YAML scalar or list into the value or raises Faulty; `placed` tells the value where it stands."""

    name: str
    allowed: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    placed: Callable[[Any, Place], Any] | None = None


class Masked:
    """A value that is never shown."""

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class ListOf:
    """Zero or more of a kind; a single scalar is a list of one."""

    item: Kind | Spec


@dataclass(frozen=True, slots=True)
class MapOf:
    """Any names, each with a value of a kind."""

    item: Kind | Spec | ListOf


@dataclass(frozen=True, slots=True)
class Option:
    """One name a file may say. `default` is written as in YAML and parsed the same way."""

    name: str
    kind: Kind | Spec | ListOf | MapOf
    doc: str
    default: Any = None
    required: bool = False


class Settings(Mapping[str, Any]):
    """What was parsed: read-only, by attribute or by name. `lines` gives each name's line; secrets are masked in repr."""

    def __init__(self, spec: Spec, values: dict[str, Any], lines: dict[str, int] | None = None) -> None:
        self._spec, self._values, self.lines = spec, values, lines or {}
        self.__dict__.update((name, value) for name, value in values.items() if not hasattr(Settings, name))  # found without a call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # keeps copy and pickle, which probe before __init__ has run, from recursing
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def is_of(self, spec: Spec) -> bool:
        """Whether they were parsed by `spec`."""
        return self._spec is spec

    def masked(self) -> dict[str, Any]:
        """The values with every secret as ``***``: what logs and the console may show."""
        return {name: _masked(value) for name, value in self._values.items()}

    def __repr__(self) -> str:
        return f"Settings({self.masked()!r})"


def _masked(value: Any) -> Any:
    if isinstance(value, Masked):
        return repr(value)
    if isinstance(value, Settings):
        return value.masked()
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return {name: _masked(item) for name, item in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True)
class Spec:
    """A named set of options. With `scalar`, a bare scalar stands for that option (``listen: 2575``); with `one_of`, exactly one of
    the options must be said. `check` gives what is wrong between options that are each right, "" when nothing is."""

    name: str
    doc: str
    options: Sequence[Option]
    scalar: str = ""
    one_of: bool = False
    check: Callable[[Settings], str] | None = field(default=None, repr=False, compare=False)
    by_name: dict[str, Option] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {option.name: option for option in self.options})

    def parse(self, node: object, place: Place, faults: list[Fault]) -> Settings:
        """Read `node`; everything wrong is added to `faults`, and defaults stand in for it."""
        if node is None:
            node = {}
        if self.scalar and not isinstance(node, Mapping):
            node = {self.scalar: node}
        if not isinstance(node, Mapping):
            faults.append(Fault(place.file, place.line, f"{place.path or self.name} must be a mapping of options", ", ".join(self.by_name)))
            node = {}
        before = len(faults)
        self._refuse_unknown(node, place, faults)
        values, lines = {}, {}
        for option in self.options:
            given = option.name in node
            if not given and option.required:
                faults.append(Fault(place.file, place.line, f"{place.path or self.name} needs {option.name!r}: {option.doc}"))
            where = place.child(node, option.name) if given else place
            lines[option.name] = where.line
            raw = node[option.name] if given else option.default
            values[option.name] = None if raw is None else _read(option.kind, raw, where, faults)
        settings = Settings(self, values, lines)
        wrong = self._wrong_together(node, settings) if len(faults) == before else ""
        if wrong:
            faults.append(Fault(place.file, place.line, f"{place.path or self.name}: {wrong}"))
        return settings

    def _wrong_together(self, node: Mapping[Any, Any], settings: Settings) -> str:
        if self.one_of and len(node) != 1:
            return f"needs exactly one of {', '.join(self.by_name)}"
        return self.check(settings) if self.check is not None else ""

    def _refuse_unknown(self, node: Mapping[Any, Any], place: Place, faults: list[Fault]) -> None:
        for key in node:
            if key not in self.by_name:
                where = place.child(node, key)
                nearest = get_close_matches(str(key), self.by_name, 1)
                text = f"{self.name} has no option {str(key)!r}"
                faults.append(Fault(where.file, where.line, text, ", ".join(self.by_name), nearest[0] if nearest else ""))

    def defaults(self, **values: Any) -> Settings:
        """Settings from defaults and `values` (YAML-shaped), for tests and embedded use. Raises ValueError on any fault."""
        faults: list[Fault] = []
        settings = self.parse(values, Place("<given>"), faults)
        if faults:
            raise ValueError("; ".join(map(str, faults)))
        return settings

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of this spec."""
        properties = {option.name: {"description": option.doc, **_schema(option.kind)} for option in self.options}
        for option in self.options:
            if option.default is not None:
                properties[option.name]["default"] = option.default
        required = [option.name for option in self.options if option.required]
        schema: dict[str, Any] = {"type": "object", "description": self.doc, "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = required
        if self.one_of:
            schema.update(minProperties=1, maxProperties=1)
        return {"anyOf": [schema, _schema(self.by_name[self.scalar].kind)]} if self.scalar else schema

    def manual(self) -> str:
        """The options as a Markdown table."""
        rows = ["| option | value | default | meaning |", "|---|---|---|---|"]
        for option in self.options:
            default = "**required**" if option.required else "" if option.default is None else f"`{_as_yaml(option.default)}`"
            cells = (f"`{option.name}`", _describe(option.kind), default, option.doc)
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        return "\n".join(rows)


def _as_yaml(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _read(kind: Kind | Spec | ListOf | MapOf, raw: Any, place: Place, faults: list[Fault]) -> Any:
    if isinstance(kind, Spec):
        return kind.parse(raw, place, faults)
    if isinstance(kind, ListOf):
        items = raw if isinstance(raw, Sequence) and not isinstance(raw, str) else [raw]
        read = [_read(kind.item, item, place.child(items, index), faults) for index, item in enumerate(items)]
        return [item for item in read if item is not None]  # what is at fault is not among them
    if isinstance(kind, MapOf):
        if not isinstance(raw, Mapping):
            faults.append(Fault(place.file, place.line, f"{place.path} must be a mapping"))
            return {}
        return {str(key): _read(kind.item, value, place.child(raw, key), faults) for key, value in raw.items()}
    try:
        value = kind.read(raw)
        return kind.placed(value, place) if kind.placed is not None else value
    except Faulty as faulty:
        faults.append(Fault(place.file, place.line, f"{place.path}: {faulty.text}", faulty.allowed or kind.allowed, faulty.nearest))
        return None


def _schema(kind: Kind | Spec | ListOf | MapOf) -> dict[str, Any]:
    if isinstance(kind, Spec):
        return kind.json_schema()
    if isinstance(kind, ListOf):
        item = _schema(kind.item)
        return {"anyOf": [{"type": "array", "items": item}, item]}
    if isinstance(kind, MapOf):
        return {"type": "object", "additionalProperties": _schema(kind.item)}
    return dict(kind.schema)


def _describe(kind: Kind | Spec | ListOf | MapOf) -> str:
    if isinstance(kind, Spec):
        return f"{kind.name} options"
    if isinstance(kind, ListOf):
        return f"list of {_describe(kind.item)}"
    if isinstance(kind, MapOf):
        return f"name: {_describe(kind.item)}"
    return kind.allowed


# --- kinds ---------------------------------------------------------------------------------------

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"(\d+)\s*(|B|KB|MB|GB)", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\s]+):)?(?P<port>\d{1,5})")


def _text(raw: Any) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise Faulty("must be text")
    return str(raw)


def _flag(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise Faulty(f"{raw!r} is not yes or no")
    return raw


def _duration(raw: Any) -> float:
    match = _DURATION.fullmatch(str(raw))
    if not match:
        raise Faulty(f"{raw!r} is not a duration")
    return float(match[1]) * _UNITS[match[2]]


def _size(raw: Any) -> int:
    match = _SIZE.fullmatch(str(raw))
    if not match:
        raise Faulty(f"{raw!r} is not a size")
    return int(match[1]) * _SIZES[match[2].upper()]


def _address(raw: Any) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(str(raw))
    if not match or int(match["port"]) > 65535:
        raise Faulty(f"{raw!r} is not a port or host:port")
    return (match["host"] or "").strip("[]"), int(match["port"])


def _url(raw: Any) -> str:
    parts = urlsplit(str(raw))
    if "@" in parts.netloc:  # nor is it repeated here
        raise Faulty("an address must not hold a user or password")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Faulty(f"{raw!r} is not an http or https address")
    return str(raw).rstrip("/")


def _zone(raw: Any) -> ZoneInfo:
    try:
        return ZoneInfo(str(raw))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a part of a name, such as Asia, is a folder
        raise Faulty(f"{raw!r} is not a time zone such as Asia/Shanghai") from None


def integer(low: int, high: int) -> Kind:
    """Whole numbers from `low` to `high`, both included."""

    def read(raw: Any) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise Faulty(f"{raw!r} is not a whole number in range")
        return raw

    return Kind("integer", f"{low} to {high}", read, {"type": "integer", "minimum": low, "maximum": high})


def choice(*names: str) -> Kind:
    """One of `names`."""

    def read(raw: Any) -> str:
        word = str(raw)
        if word not in names:
            nearest = get_close_matches(word, names, 1)
            raise Faulty(f"{word!r} is not one of the choices", nearest=nearest[0] if nearest else "")
        return word

    return Kind("choice", " | ".join(names), read, {"enum": list(names)})


TEXT: Final = Kind("text", "text", _text, {"type": ["string", "number"]})
FLAG: Final = Kind("flag", "true | false", _flag, {"type": "boolean"})
DURATION: Final = Kind("duration", "a duration such as 500ms, 30s, 5m, 2h, 3d", _duration, {"type": "string", "pattern": _DURATION.pattern})
SIZE: Final = Kind("size", "a size such as 64KB, 16MB", _size, {"type": ["string", "integer"]})
ADDRESS: Final = Kind("address", "a port (2575) or host:port (10.0.0.5:2575)", _address, {"type": ["string", "integer"]})
ZONE: Final = Kind("zone", "a time zone such as Asia/Shanghai, UTC", _zone, {"type": "string"})
URL: Final = Kind("url", "an http or https address", _url, {"type": "string", "format": "uri"})
