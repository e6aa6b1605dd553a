"""Where a request says what it is: texts of the channel file with ``${…}`` for header fields, query parameters and places in the content.

    ${header.X-GitHub-Event}     a header field
    ${query.kind}                a parameter of the URL's query
    ${request.path}              what of the path is below `base`
    ${request.digest}            the SHA-256 of the content, in hex
    ${data.patient.no}           any other name: a path of the content, as its format writes paths

Where every place of a text is empty, the text is. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import parse_qsl

from engine.options import TEXT, Faulty, Kind
from engine.templates import PLACEHOLDER

_REQUEST: Final = ("path", "digest", "method")
_SCOPES: Final = ("header", "query", "request")
_MOST: Final = 500
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f]+")
_MOST_QUERY: Final = 200


class Place:
    """One such text, compiled; `paths` are those of the content."""

    def __init__(self, text: str) -> None:
        """Raises Faulty."""
        if "${" in PLACEHOLDER.sub("", text):
            raise Faulty(f"a placeholder is not closed in {text[:60]!r}")
        self.text = text
        self._names: Sequence[str] = PLACEHOLDER.findall(text)
        for name in self._names:
            _check(name)
        self.paths = [name for name in self._names if not _scoped(name)]

    def read(self, request: Request) -> str:
        """One line of at most 500 characters. Raises ParseError where the content has to be read and cannot be."""
        found = {name: request.value(name) for name in self._names}
        if found and not any(found.values()):
            return ""
        return _UNSEEN.sub(" ", PLACEHOLDER.sub(lambda match: found[match[1]], self.text)).strip()[:_MOST]


class Request:
    """What places are read of. `document` gives the content (engine.contracts.Document), None where nothing can look into it."""

    def __init__(
        self, method: str, path: str, query: str, headers: Mapping[str, str], digest: str = "", document: Callable[[], Any] | None = None
    ) -> None:
        self.method, self.path, self.digest = method, path, digest
        self._query_text, self._headers, self._document = query, headers, document
        self._query: dict[str, str] | None = None

    def value(self, name: str) -> str:
        """Raises ParseError."""
        scope, _, rest = name.partition(".")
        if scope == "header" and rest:
            return self._headers.get(rest.lower(), "")
        if scope == "query" and rest:
            return self._parameters().get(rest, "")
        if scope == "request" and rest in _REQUEST:
            return str(getattr(self, rest))
        return self._inside(name)

    def _parameters(self) -> dict[str, str]:
        if self._query is None:
            try:
                pairs = parse_qsl(self._query_text, keep_blank_values=True, max_num_fields=_MOST_QUERY)
            except ValueError:
                pairs = []
            self._query = dict(reversed(pairs))
        return self._query

    def _inside(self, path: str) -> str:
        document = self._document() if self._document is not None else None
        try:
            return (document.get(path) or "") if document is not None else ""
        except ValueError:  # a path of another of the formats that the channel takes
            return ""


def _scoped(name: str) -> bool:
    scope, _, rest = name.partition(".")
    return scope in _SCOPES and bool(rest)


def _check(name: str) -> None:
    scope, _, rest = name.partition(".")
    if scope == "request" and rest not in _REQUEST:
        nearest = get_close_matches(rest, _REQUEST, 1)
        raise Faulty(
            f"there is no ${{{name}}}", ", ".join(f"request.{one}" for one in _REQUEST), f"request.{nearest[0]}" if nearest else ""
        )


def _place(raw: Any) -> Place:
    return Place(str(TEXT.read(raw)))


PLACE: Final = Kind(
    "place", "text with ${header.NAME}, ${query.NAME}, ${request.path} or ${path.in.the.content}", _place, {"type": "string"}
)


def first(places: Sequence[Place], request: Request) -> str:
    """The first that says something. Raises ParseError."""
    return next((text for place in places if (text := place.read(request))), "")


def all_said(places: Sequence[Place], request: Request) -> tuple[str, ...]:
    """What they say, each once. Raises ParseError."""
    return tuple(dict.fromkeys(text for place in places if (text := place.read(request))))
