"""The interactions that a Bundle is made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from adapters.fhir.resource_types import RESOURCE_TYPES

_WRITES: Final = {"POST": "create", "PUT": "update", "DELETE": "delete"}
NOTHING: Final = "? ?"
"""What nobody may do."""


def bundled(content: Any) -> list[str]:
    """The interactions that a Bundle is made of, each once: ``Observation create``. An entry that says one type in its url and another in
    its resource is both; one that cannot be read is what nobody may do."""
    entries = content.get("entry") if isinstance(content, dict) else None
    return sorted({one for entry in entries for one in _of(entry)}) if isinstance(entries, list) else []


def _of(entry: Any) -> Sequence[str]:
    asked = entry.get("request") if isinstance(entry, dict) else None
    method, url = (asked.get("method"), asked.get("url")) if isinstance(asked, dict) else (None, None)
    if not isinstance(method, str) or not isinstance(url, str):
        return (NOTHING,)
    path, condition, _ = url.lstrip("/").partition("?")
    name, _, rest = path.partition("/")
    interaction = _WRITES.get(method) or (("search" if condition or not rest else "read") if method == "GET" else "")
    resource = entry.get("resource")
    said = resource.get("resourceType") if isinstance(resource, dict) else name
    known = interaction and name in RESOURCE_TYPES and isinstance(said, str) and said in RESOURCE_TYPES
    return (f"{name} {interaction}", f"{said} {interaction}") if known else (NOTHING,)
