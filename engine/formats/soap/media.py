"""One media type with its parameters (RFC 2045 clause 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.formats.media_types import parse_content_type


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
    return MediaType(*parse_content_type(text))


def quoted(value: str) -> str:
    """A parameter's value as a quoted string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
