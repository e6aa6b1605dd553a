"""POCT1-A2 (CLSI POCT01): the XML messages of point-of-care devices. A pure codec.

A message is kept with the HEL.R01 with which its device introduced itself in the same conversation, since nothing in an observation says
who measured it: two documents, each as it came, one behind the other. A value stands in the attribute V of its element;
``OBS.value`` is the V of the first element of that name, ``OBS.value@U`` its unit. Elements of DEV are also looked for in the hello.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser
from xml.etree.ElementTree import ParseError as XmlError

from engine.errors import ParseError
from engine.message import POCT1A

HELLO: Final = "HEL.R01"
DEEPEST: Final = 32
_DECLARATION: Final = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,20})[\"'][^>]*\?>|<\?xml[^>]*\?>")
_CHARSETS: Final = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "latin-1", "gb18030": "gb18030", "gbk": "gb18030",
                    "gb2312": "gb18030"}  # fmt: skip
_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}(?:@[A-Za-z]{1,8})?")
_BETWEEN: Final = re.compile(rb"</HEL\.R01\s*>")


class Message:
    """engine.contracts.Document. Lossless: `encode` gives the bytes that were decoded."""

    content_type = POCT1A

    def __init__(self, body: bytes) -> None:
        self._body = body
        first, rest = split(body)
        self.hello = parse(first) if first else None
        self.root = parse(rest)

    @property
    def kind(self) -> str:
        """The message's type, such as OBS.R01."""
        return self.root.tag

    def get(self, path: str) -> str | None:
        name, _, attribute = _checked(path).partition("@")
        found = next(self.root.iter(name), None)
        if found is None and self.hello is not None:
            found = next(self.hello.iter(name), None)
        return (found.get(attribute or "V") or None) if found is not None else None

    def encode(self) -> bytes:
        return self._body


def value(element: Element | None, name: str, attribute: str = "V") -> str:
    """An attribute of a child, "" where there is none."""
    found = element.find(name) if element is not None else None
    return (found.get(attribute) or "").strip() if found is not None else ""


def split(body: bytes) -> tuple[bytes, bytes]:
    """(the hello, the message) of a kept message; b"" where it was kept without one."""
    end = _BETWEEN.search(body)
    if end is None or not body[end.end() :].strip():
        return b"", body
    return body[: end.end()], body[end.end() :].lstrip()


def parse(document: bytes) -> Element:
    """One document. Raises ParseError: not well formed, a document type (no message has one), deeper than DEEPEST, a character set that
    is not taken."""
    declared = _DECLARATION.match(document.lstrip(b"\xef\xbb\xbf \t\r\n"))
    name = declared[1].decode().lower() if declared and declared[1] else "utf-8"
    charset = _CHARSETS.get(name)
    if charset is None:
        raise ParseError(f"the character set {name} is not taken; taken are {', '.join(_CHARSETS)}", hl7_code="102")
    try:
        text = document.decode(charset)
    except UnicodeDecodeError:
        raise ParseError(f"the bytes are not in the character set {name}", hl7_code="102") from None
    text = re.sub(r"^\ufeff?\s*<\?xml[^>]*\?>", "", text)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ParseError("a document type declaration is not allowed")
    parser = XMLParser(target=_Shallow())  # noqa: S314  # no document type gets here, so no entities
    try:
        parser.feed(text)
        root: Element = parser.close()
    except XmlError as error:
        raise ParseError("the message is not well-formed XML", location=f"line {error.position[0]}") from None
    return root


class _Shallow(TreeBuilder):
    """Refuses what is nested too deep."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> Element:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ParseError(f"elements are nested deeper than {DEEPEST}")
        return super().start(tag, attributes)

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag)


def services(root: Element) -> Iterator[Element]:
    """The services (SVC) of an observation message."""
    return root.iter("SVC")


def _checked(path: str) -> str:
    """Raises ValueError for what can never be a path."""
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not an element such as OBS.value or OBS.value@U")
    return path


class Poct1aCodec:
    """engine.contracts.Codec"""

    content_type = POCT1A

    def decode(self, body: bytes) -> Message:
        return Message(body)

    def check_path(self, path: str) -> None:
        _checked(path)


codec = Poct1aCodec()
