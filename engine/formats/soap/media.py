"""One media type with its parameters (RFC 2045 clause 5.1, RFC 9110 clause 8.3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from engine.errors import ParseError

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word
_TYPE: Final = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*")
_PARAMETER: Final = re.compile(rf';\s*(?:({_TOKEN})\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]*))?\s*')
_MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class MediaType:
    """`name` and the parameters' names in lower case, their values as they are."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """A parameter, "" where there is none."""
        return self.parameters.get(name, "")


def parse_media_type(text: str) -> MediaType:
    """Raises ParseError: no media type, a parameter twice, or very long."""
    match = _TYPE.match(text) if len(text) <= _MOST else None
    if match is None:
        raise ParseError("the media type cannot be read")
    parameters: dict[str, str] = {}
    at = match.end()
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None or (found[1] and found[1].lower() in parameters):
            raise ParseError("the parameters of the media type cannot be read")
        if found[1]:
            value = found[2]
            parameters[found[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        at = found.end()
    return MediaType(match[1].lower(), parameters)


def quoted(value: str) -> str:
    """A parameter's value as a quoted string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
