"""SOAP messages as documents: what filters, routes and searches read of them.

``PRPA_IN201311UV02/id/@extension`` is an attribute below the element in Body; ``Header/MessageID`` an element of the Header. Namespaces are
not looked at; ``entry[2]`` is the second of that name, without a number it is the first.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from lxml import etree

from engine.formats.soap.message import SoapMessage, read
from engine.formats.soap.names import local
from engine.message import SOAP

_NAME: Final = r"[^\W\d][\w.-]{0,127}"
_STEP: Final = re.compile(rf"({_NAME})(?:\[([1-9][0-9]{{0,4}})\])?")
_ATTRIBUTE: Final = re.compile(rf"@({_NAME})")


@lru_cache(maxsize=1024)
def steps(path: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """A path's elements with their numbers from 1, and its attribute ("" = none). Raises ValueError."""
    *names, last = path.split("/")
    attribute = _ATTRIBUTE.fullmatch(last)
    if attribute is None:
        names.append(last)
    matches = [_STEP.fullmatch(name) for name in names]
    if not names or not all(matches):
        raise ValueError(f"{path!r} is not a path such as Order/id or PRPA_IN201311UV02/id/@extension")
    return tuple((match[1], int(match[2] or 1)) for match in matches if match), attribute[1] if attribute else ""


def value_at(root: etree._Element | None, path: str) -> str | None:
    """The text at `path`, whose first name is that of `root`; None where there is none. Raises ValueError."""
    elements, attribute = steps(path)
    here = root if root is not None and local(root.tag) == elements[0][0] and elements[0][1] == 1 else None
    for name, number in elements[1:]:
        if here is None:
            return None
        found = [child for child in here if isinstance(child.tag, str) and local(child.tag) == name]
        here = found[number - 1] if len(found) >= number else None
    if here is None:
        return None
    if attribute:
        return next((str(value) for name, value in here.attrib.items() if local(str(name)) == attribute), None)
    return "".join(here.itertext()).strip()


class SoapDocument:
    """engine.contracts.Document"""

    def __init__(self, message: SoapMessage) -> None:
        self.message = message

    def get(self, path: str) -> str | None:
        if path.startswith("Header/"):
            return value_at(self.message.header, path)
        return value_at(self.message.payload, path)


class SoapCodec:
    """engine.contracts.Codec. Of a message in a file, the file is read where it lies."""

    content_type = SOAP
    headers = True

    def decode(self, body: bytes) -> SoapDocument:
        return SoapDocument(read(body))

    def decode_with(self, body: bytes, charset: str) -> SoapDocument:
        """Where HTTP said another character set than the document does (RFC 7303 clause 3.2)."""
        return SoapDocument(read(body, charset=charset))

    def check_path(self, path: str) -> None:
        steps(path)


codec: Final = SoapCodec()
