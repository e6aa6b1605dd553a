"""A file with what is known of it (application/vnd.meridian.file): one line of JSON, then the file as it is.

    {"name": "P1001_discharge_20260131.pdf", "content_type": "application/pdf", "size": 48213, "sha256": "…", "sha1": "…",
     "facts": {"patient": "P1001", "type": "discharge", "date": "20260131"}}

The label is written by whoever takes the file in, so that a mapping knows what stands only in its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.errors import ParseError
from engine.formats.fhir import dump, parse
from engine.message import FILE
from engine.values import value

_MOST: Final = 64 << 10
_TEXTS: Final = ("name", "content_type", "sha256", "sha1")


@value(frozen=True, slots=True)
class Label:
    """`size` in bytes; the digests are of the file alone, in lower-case hex. `facts` were read out of its name."""

    name: str
    content_type: str
    size: int
    sha256: str
    sha1: str
    facts: Mapping[str, str]


def head(label: Label) -> bytes:
    """What goes before the file's bytes."""
    content = {name: getattr(label, name) for name in ("name", "content_type", "size", "sha256", "sha1")}
    return dump({**content, "facts": dict(label.facts)}) + b"\n"


def read(body: bytes) -> tuple[Label, int]:
    """The label, and where the file begins in the body, which may be an Excerpt. Raises ParseError."""
    end = body.find(b"\n", 0, _MOST)
    if end < 0:
        raise ParseError("the label of the file is missing")
    content = parse(bytes(body[:end]))
    facts, size, texts = content.get("facts"), content.get("size"), [content.get(name) for name in _TEXTS]
    if not all(isinstance(text, str) for text in texts) or not isinstance(facts, dict) or not isinstance(size, int):
        raise ParseError("the label of the file lacks something")
    name, kind, sha256, sha1 = map(str, texts)
    return Label(name, kind, size, sha256, sha1, {fact: str(said) for fact, said in facts.items()}), end + 1


class Document:
    """engine.contracts.Document: ``name``, ``content_type``, ``size``, ``sha256``, ``facts.patient`` …"""

    __slots__ = ("begin", "label")

    def __init__(self, label: Label, begin: int) -> None:
        self.label, self.begin = label, begin

    def get(self, path: str) -> str | None:
        """Raises ValueError."""
        check_path(path)
        if path.startswith("facts."):
            return self.label.facts.get(path.removeprefix("facts."))
        found: Any = getattr(self.label, path)
        return str(found)


def check_path(path: str) -> None:
    """Raises ValueError."""
    if path not in (*_TEXTS, "size") and not (path.startswith("facts.") and path.removeprefix("facts.").isidentifier()):
        raise ValueError(f"{path!r} is not one of name, content_type, size, sha256, sha1, facts.NAME")


class Codec:
    """engine.contracts.Codec for application/vnd.meridian.file; of a big one the beginning is enough."""

    content_type = FILE
    headers = True

    def decode(self, body: bytes) -> Document:
        return Document(*read(body))

    def check_path(self, path: str) -> None:
        check_path(path)


codec: Final = Codec()
