"""Media types with their parameters (RFC 9110 clause 8.3.1): Content-Type, and what Accept and Content-Disposition share with it. Pure."""

from __future__ import annotations

import re
from typing import Final

from engine.errors import ParseError

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word
_TYPE: Final = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*")
_PARAMETER: Final = re.compile(rf';\s*(?:({_TOKEN})\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?\s*')
MOST: Final = 4096
"""Characters of one header field that are looked at."""


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """``multipart/related; type="text/xml"; Boundary=a``: the type and the names of the parameters in lower case, the values as they
    are, quotes and backslashes undone. A value without quotes may have what should stand in them (``start=<a@b>``, ``type=text/xml``):
    many write it so. A parameter that comes twice is refused, since two readers could take different ones. Raises ParseError."""
    if len(value) > MOST:
        raise ParseError("the media type is too long")
    name, parameters, end = read_media_type(value)
    if end != len(value):
        raise ParseError("the media type cannot be read")
    found = dict(parameters)
    if len(found) != len(parameters):
        raise ParseError("a parameter of the media type comes twice")
    return name, found


def read_media_type(text: str, at: int = 0) -> tuple[str, list[tuple[str, str]], int]:
    """The media type that begins at `at`, its parameters, and where it ends. Raises ParseError."""
    match = _TYPE.match(text, at)
    if match is None:
        raise ParseError("a media type cannot be read")
    name, at = match[1].lower(), match.end()
    parameters = []
    while (match := _PARAMETER.match(text, at)) is not None:
        if match[1]:
            value = match[2]
            parameters.append((match[1].lower(), re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value))
        at = match.end()
    return name, parameters, at
