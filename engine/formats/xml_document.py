"""Any XML document: what filters, routes and templates read of it.

``Order/Patient/Id`` is an element below the root, ``Order/@id`` an attribute; namespaces are not looked at; ``Item[2]`` is the second of
that name.
"""

from __future__ import annotations

from typing import Final

from lxml import etree

from engine.formats.soap.codec import steps, value_at
from engine.formats.xml import parse
from engine.message import XML


class XmlDocument:
    """engine.contracts.Document"""

    __slots__ = ("root",)

    def __init__(self, root: etree._Element) -> None:
        self.root = root

    def get(self, path: str) -> str | None:
        return value_at(self.root, path)


class XmlCodec:
    """engine.contracts.Codec"""

    content_type = XML

    def decode(self, body: bytes) -> XmlDocument:
        return XmlDocument(parse(body))

    def decode_with(self, body: bytes, charset: str) -> XmlDocument:
        """Where HTTP said another character set than the document does (RFC 7303 clause 3.2)."""
        return XmlDocument(parse(body, charset=charset))

    def check_path(self, path: str) -> None:
        steps(path)


codec: Final = XmlCodec()
