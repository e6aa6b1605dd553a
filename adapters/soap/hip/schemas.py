"""The standard's schemas, from a folder of the site: services/SERVICE.xsd and cdas/CODE.xsd. Compiled when first needed, then kept.

A schema refers to nothing outside its folder: what names another place, or one on the network, is not compiled. A fault is told by its
line, its place and what rule it breaks, never by the message's content (libxml2's own sentences quote it). Guarded for several threads.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lxml import etree

from engine.errors import ConfigError, ParseError
from engine.formats.xml import parse

SERVICES: Final = "services"
CDAS: Final = "cdas"
_XSD: Final = "http://www.w3.org/2001/XMLSchema"
_REFERRING: Final = tuple(f"{{{_XSD}}}{name}" for name in ("import", "include", "redefine", "override"))
_NAMED: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_ATTRIBUTE: Final = re.compile(r"[Aa]ttribute '([A-Za-z_][A-Za-z0-9_.-]{0,63})'")
_EXPECTED: Final = re.compile(r"Expected is (?:one of )?\( (.{1,1000}?) \)\.?\s*\Z")
_EXPANDED: Final = re.compile(r"\{[^}]*\}")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_RULES: Final = {
    "SCHEMAV_ELEMENT_CONTENT": "element not expected here, or one is missing 元素不符或缺失",
    "SCHEMAV_CVC_ELT_1": "no such element 未知的元素",
    "SCHEMAV_CVC_COMPLEX_TYPE_4": "attribute missing 缺少属性",
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1": "attribute not allowed 不允许的属性",
    "SCHEMAV_CVC_AU": "not the fixed value 与固定值不符",
    "SCHEMAV_CVC_ENUMERATION_VALID": "not one of the codes 不在值域内",
    "SCHEMAV_CVC_PATTERN_VALID": "not of the form 格式不符",
    "SCHEMAV_CVC_MINLENGTH_VALID": "too short 长度不足",
    "SCHEMAV_CVC_MAXLENGTH_VALID": "too long 长度超限",
    "SCHEMAV_CVC_LENGTH_VALID": "wrong length 长度不符",
    "SCHEMAV_CVC_TYPE_3_1_2": "text where there is none 不允许文本",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_3": "text where there is none 不允许文本",
}
_OTHERWISE: Final = "not a value of its type 数据类型不符"
_STEP: Final = re.compile(r"/([^/\[]+)(?:\[(\d+)\])?")
_MOST_EXPECTED: Final = 5
MOST: Final = 100
"""Faults of one message that are told."""
_CHUNK: Final = 16 << 10
_ELEMENT: Final = re.compile(r"Element '(\{[^}']*\})?([^']+)'")


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """`line` counts in the message as it travelled, 0 where it is not known; `place` is its path of local names."""

    line: int
    place: str
    rule: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.place}: {self.rule}" if self.line else f"{self.place}: {self.rule}"


class Schemas:
    """The folder of one endpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def __contains__(self, name: str) -> bool:
        """Whether `services/NAME` or `cdas/NAME` is there."""
        return _file(self.folder, name).is_file()

    def faults(self, name: str, element: Any) -> list[SchemaFault] | None:
        """What the schema `name` has against `element`, some of it where there are more than `MOST` faults, None where there is no such
        schema. Raises ConfigError where it cannot be used."""
        with self._guard:
            entry = self._entries.setdefault(name, _Entry())
        with entry.guard:
            if entry.schema is None:
                file = _file(self.folder, name)
                if not file.is_file():
                    return None
                entry.schema = compiled(file, self.folder)
        first = _first_errors(entry.schema, element)
        if len(first) > MOST:
            return [_fault(error, element) for error in first[:MOST]]
        if not first:
            return []
        with entry.guard:
            entry.schema.validate(element)
            return [_fault(error, element) for error in list(entry.schema.error_log)[:MOST]]


def _first_errors(schema: Any, element: Any) -> list[Any]:
    """What a parser that validates says until it has said more than enough. Told without places: in a tree libxml2 counts siblings for
    each fault, so that a message of many wrong ones would take hours."""
    parser = etree.XMLParser(schema=schema, resolve_entities=False, no_network=True, huge_tree=True)
    written = etree.tostring(element, encoding="utf-8", with_tail=False)
    try:
        for begin in range(0, len(written), _CHUNK):
            parser.feed(written[begin : begin + _CHUNK])
            if len(parser.feed_error_log) > MOST:
                return list(parser.feed_error_log)
        parser.close()
    except etree.XMLSyntaxError:  # valid or not is told so
        pass
    return list(parser.feed_error_log)


@dataclass
class _Entry:
    guard: threading.Lock = field(default_factory=threading.Lock)
    schema: Any = None


def _file(folder: Path, name: str) -> Path:
    kind, _, stem = name.partition("/")
    if kind not in (SERVICES, CDAS) or not _NAMED.fullmatch(stem):
        raise ValueError(f"{name!r} is no name of a schema")
    return folder / kind / f"{stem}.xsd"


def compiled(file: Path, folder: Path) -> Any:
    """The schema of a file below `folder`. Raises ConfigError naming the file."""
    seen: set[Path] = set()
    _look_through(file, folder.resolve(), seen)
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        return etree.XMLSchema(etree.parse(str(file), parser))
    except (etree.XMLSchemaParseError, etree.XMLSyntaxError) as error:
        raise ConfigError(f"{file} is no schema that can be used: line {getattr(error.error_log.last_error, 'line', 0)}") from None


def _look_through(file: Path, folder: Path, seen: set[Path]) -> None:
    """Every file that a schema refers to lies in the folder."""
    here = file.resolve()
    if here in seen:
        return
    seen.add(here)
    if not here.is_relative_to(folder):
        raise ConfigError(f"{file} lies outside {folder}")
    try:
        root = parse(here.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except ParseError as error:
        raise ConfigError(f"{file} is no schema: {error.text}") from None
    for location in _locations(root):
        if ":" in location or location.startswith(("/", "\\")):
            raise ConfigError(f"{file} refers to a place outside its folder; only files of the folder are read")
        _look_through(here.parent / location, folder, seen)


def _locations(root: Any) -> Iterator[str]:
    for reference in root.iter(*_REFERRING):
        location = (reference.get("schemaLocation") or "").strip()
        if location:
            yield location


def _fault(error: Any, element: Any) -> SchemaFault:
    rule = _RULES.get(error.type_name, _OTHERWISE)
    attribute = _ATTRIBUTE.search(error.message)
    place = (_place(error.path, element) if error.path else _named(error.message)) + (f"/@{attribute[1]}" if attribute else "")
    expected = _EXPECTED.search(error.message)
    if expected:
        names = [_EXPANDED.sub("", name).strip() for name in expected[1].split(",")]
        shown = [name for name in names if _PLAIN.fullmatch(name)][:_MOST_EXPECTED]
        rule = f"{rule} (expected 应为: {', '.join(shown)})" if shown else rule
    return SchemaFault(int(error.line), place, rule)


def _place(path: str | None, element: Any) -> str:
    """libxml2 says ``/*/*[3]`` (``/v3:a/v3:b[2]`` where there are prefixes); people want names. Steps count from the message's root."""
    names = [_shown(element)]
    for name, number in _STEP.findall(path or "")[1:]:
        children = [child for child in element if isinstance(child.tag, str)]
        counted = children if name == "*" else [child for child in children if _qualified(child) == name]
        index = int(number or 1) - 1
        if index >= len(counted):
            break
        element = counted[index]
        alike = [child for child in children if child.tag == element.tag]
        names.append(_shown(element) + (f"[{alike.index(element) + 1}]" if len(alike) > 1 else ""))
    return "/" + "/".join(names)


def _named(message: str) -> str:
    """Of the element whose fault has no path: ``//name``."""
    found = _ELEMENT.match(message)
    return f"//{found[2]}" if found and _PLAIN.fullmatch(found[2]) else "//*"


def _qualified(element: Any) -> str:
    local = str(element.tag).rpartition("}")[2]
    return f"{element.prefix}:{local}" if element.prefix else local


def _shown(element: Any) -> str:
    """A sender's name of an element, where it looks like one."""
    name = str(element.tag).rpartition("}")[2]
    return name if _PLAIN.fullmatch(name) else "*"
