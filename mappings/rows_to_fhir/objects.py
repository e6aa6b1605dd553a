"""Any JSON object as a record, for rules that take such (`json`). Pure.

{"patient": {"no": "1"}, "tags": ["a"], "items": [{"code": "K"}]}
row {"patient.no": "1", "tags[0]": "a"}, details {"items": [{"code": "K"}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from engine.errors import MappingError
from engine.formats.rows import Record
from engine.options import Settings
from mappings.rows_to_fhir.views import plain

ORIGIN: Final = "json"


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """Columns by their paths; an array of objects stays what it is. Raises MappingError where two members are one column (``"a.b"`` and
    ``b`` of ``a``): whoever looked for it before would have seen the other."""
    columns: dict[str, Any] = {}
    for path, value in _leaves(content, ""):
        if path in columns:
            raise MappingError("two members of the object are the same column")
        columns[path] = value
    return columns


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and not _of_objects(value):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def _of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def matches(whole: Mapping[str, Any], settings: Settings) -> bool:
    """Whether an object, flattened, is one of those that the rules are for."""
    return all(plain(whole.get(column)) == said for column, said in settings.when.items())


def object_record(content: Mapping[str, Any], whole: Mapping[str, Any], settings: Settings) -> Record:
    """The record of an object; `settings` are those of the rules file. Raises MappingError where its row is not there."""
    path = settings.json.row
    columns = whole if path is None else flattened(_at(content, path))
    row = {name: value for name, value in columns.items() if not _of_objects(value)}
    details = {name: [flattened(item) for item in value] for name, value in columns.items() if _of_objects(value)}
    key = {column: plain(whole.get(column)) for column in settings.json.key}
    missing = next((column for column, said in key.items() if not said), None)
    if missing is not None:
        raise MappingError("what identifies the object is not there", location=missing)
    return Record(ORIGIN, settings.table[0], row, key=key, details=details)


def _at(content: Any, path: str) -> Mapping[str, Any]:
    here = content
    for name in path.split("."):
        here = here.get(name) if isinstance(here, Mapping) else None
    if not isinstance(here, Mapping):
        raise MappingError("the member that has the row is no object", location=path)
    return here
