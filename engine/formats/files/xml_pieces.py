"""An XML document cut at a path: each element there becomes a document of its own, by the secure parser of engine.formats.xml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from lxml import etree

from engine.errors import ParseError
from engine.formats import xml
from engine.formats.files import Piece

_EVERY: Final = "*"


def steps(path: str) -> tuple[str, ...]:
    """``export/documents/ClinicalDocument``: names without prefixes, or ``*``; ``{namespace}name`` too. Raises ValueError."""
    found, inside, name = [], False, ""
    for one in path.strip("/"):
        inside = one == "{" or (inside and one != "}")
        if one == "/" and not inside:
            found.append(name)
            name = ""
        else:
            name += one
    found.append(name)
    if not all(found) or len(found) > 20:
        raise ValueError(f"{path!r} is not a path such as export/ClinicalDocument")
    return tuple(found)


def pieces(stream: BinaryIO, path: Sequence[str], content_type: str, most: int) -> Iterator[Piece]:
    """`most` bytes of one element as it is written out again: in UTF-8, with the namespaces that hold at its place. Raises ParseError where
    the document stops being one: what stood before is whole."""
    cutter = _Cutter(path, content_type, most)
    begin = stream.read(xml.MOST_PROLOG + 1)
    if not begin.strip():
        raise ParseError("there is no XML document")
    parser = xml.pull_parser(xml.checked_encoding(begin, ""))
    try:
        chunk = begin
        while chunk:
            parser.feed(chunk)
            yield from cutter.take(parser)
            cutter.grown(len(chunk))
            chunk = stream.read(xml.CHUNK)
        parser.close()
        yield from cutter.take(parser)
        cutter.check_found()
    except etree.XMLSyntaxError:
        yield from cutter.take(parser)  # what was whole before
        raise xml.not_well_formed(parser) from None


class _Cutter:
    """Follows the parser's events; what was given out or stands elsewhere is cut off the tree."""

    def __init__(self, path: Sequence[str], content_type: str, most: int) -> None:
        self._path, self._type, self._most = path, content_type, most
        self._limits = xml.Limits(size=most)
        self._count = xml.Count(self._limits)
        self._depth = self._matched = self._number = self._held = self._seen = 0
        self._listed = False  # the outermost element is that of the path

    def take(self, parser: Any) -> Iterator[Piece]:
        for event, element in parser.read_events():
            self._count.take(event, element)
            if event == "start":
                self._seen += 1
                if self._depth == self._matched and self._depth < len(self._path) and _fits(element.tag, self._path[self._depth]):
                    self._matched += 1
                    self._listed = True
                self._depth += 1
            elif event == "end":
                yield from self._end(element)

    def check_found(self) -> None:
        """At the document's end. Raises ParseError where none of its elements is at the path, and it is no empty list: one of the two is
        not what the other was made for."""
        if not self._number and (self._seen > 1 or not self._listed):
            raise ParseError(f"no element of the document is at {'/'.join(self._path)}")

    def grown(self, size: int) -> None:
        """The tree is that much bigger than it was. Raises ParseError before it is too big for memory."""
        self._held += size
        if self._held > 2 * self._most + xml.CHUNK:
            raise ParseError(f"an element has more than {self._most} bytes", location=f"after element {self._number}")

    def _end(self, element: Any) -> Iterator[Piece]:
        whole = self._depth == self._matched == len(self._path)
        if whole:
            self._number += 1
            yield self._piece(element)
        if self._matched == self._depth:
            self._matched -= 1
        self._depth -= 1
        if whole or self._matched < len(self._path):  # nothing of it is wanted any more
            self._forget(element)

    def _forget(self, element: Any) -> None:
        parent = element.getparent()
        self._count.elements = self._held = 0  # the limits are one piece's
        if parent is None:
            return
        element.clear()
        while element.getprevious() is not None:
            del parent[0]

    def _piece(self, element: Any) -> Piece:
        tail, element.tail = element.tail, None
        body = etree.tostring(element, encoding="UTF-8", xml_declaration=True)
        element.tail = tail
        line, name = element.sourceline or 0, etree.QName(element).localname
        if len(body) > self._most:
            fault = ParseError(f"the element has more than {self._most} bytes")
            return Piece(self._number, body[: self._most], self._type, line, message_type=name, fault=fault)
        return Piece(self._number, body, self._type, line, message_type=name)


def _fits(tag: str, wanted: str) -> bool:
    return wanted in (_EVERY, tag) or tag.rpartition("}")[2] == wanted
