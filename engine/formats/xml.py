"""XML from strangers: no document type, no entities, bounded size, depth, elements and attributes.

A document type declaration is looked for before anything is parsed, so that no entity is ever declared; a document in a character set
in which that cannot be seen is refused. What is left of the attacks on parsers is bounded by `Limits`.

Sources: XML 1.0 (5th ed.) clause 2.8 (prolog) and appendix F (detection of the encoding); SOAP 1.2 part 1 clause 5 (no DTD).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from engine.errors import ParseError

CHUNK: Final = 64 << 10
_UTF_8: Final = b"\xef\xbb\xbf"
_WIDE: Final = ((b"\xff\xfe", "utf-16le"), (b"\xfe\xff", "utf-16be"), (b"<\x00", "utf-16le"), (b"\x00<", "utf-16be"))
_NARROW: Final = frozenset(
    ["utf-8", "utf8", "us-ascii", "ascii", "gb18030", "gbk", "gb2312", "big5", "euc-jp", "euc-kr", "windows-1251", "windows-1252"]
    + [f"iso-8859-{part}" for part in (*range(1, 12), 13, 14, 15)]
)
"""Where an ASCII character is its own byte, in lower case; beside UTF-16."""
_DECLARED: Final = re.compile(rb"\A<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"'][^>]{0,100}?\?>")
_PROLOG: Final = re.compile(rb"(?:[ \t\r\n]+|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)
MOST_PROLOG: Final = 64 << 10
"""Bytes before the root element."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one document: bytes, levels, elements in all, attributes of one element, and declarations of namespaces that hold at one place
    (a reader that looks for a prefix goes through them)."""

    size: int = 16 << 20
    depth: int = 100
    elements: int = 1_000_000
    attributes: int = 100
    namespaces: int = 400


LIMITS: Final = Limits()


def parse(body: bytes, limits: Limits = LIMITS, charset: str = "") -> etree._Element:
    """The root element, without comments and processing instructions. `charset` is what the transport said (RFC 7303 clause 3.2: it
    goes before the declaration). Raises ParseError, whose text holds nothing of the content."""
    if len(body) > limits.size:
        raise ParseError(f"the XML document has more than {limits.size} bytes")
    if not body:
        raise ParseError("there is no XML document")
    encoding = checked_encoding(body, charset)
    parser = pull_parser(encoding)
    count = Count(limits)
    try:
        for begin in range(0, len(body), CHUNK):
            parser.feed(body[begin : begin + CHUNK])
            for event, element in parser.read_events():
                count.take(event, element)
        root = parser.close()
    except etree.XMLSyntaxError:
        raise not_well_formed(parser) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise ParseError(_NO_DTD)
    return root


def pull_parser(encoding: str) -> etree.XMLPullParser:
    """One that opens nothing and believes nothing; the limits are the caller's to keep (`Count`)."""
    return etree.XMLPullParser(
        events=("start", "end", "start-ns", "end-ns"),
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=True,  # our own limits
        remove_comments=True,
        remove_pis=True,
    )


class Count:
    """What has been seen so far of a document, against its limits."""

    __slots__ = ("depth", "elements", "limits", "namespaces")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.depth = self.elements = self.namespaces = 0

    def take(self, event: str, element: Any) -> None:
        """The next event of the parser. Raises ParseError."""
        if event == "end":
            self.depth -= 1
        elif event == "start":
            self._begin(element)
        elif event == "end-ns":
            self.namespaces -= 1
        else:
            self.namespaces += 1
            if self.namespaces > self.limits.namespaces:
                raise ParseError(f"more than {self.limits.namespaces} namespaces are declared at one place of the XML document")

    def _begin(self, element: etree._Element) -> None:
        self.depth, self.elements = self.depth + 1, self.elements + 1
        if self.depth > self.limits.depth:
            raise ParseError(f"the XML document is nested deeper than {self.limits.depth} levels")
        if self.elements > self.limits.elements:
            raise ParseError(f"the XML document has more than {self.limits.elements} elements")
        if len(element.attrib) > self.limits.attributes:
            raise ParseError(f"an element has more than {self.limits.attributes} attributes")


def not_well_formed(parser: etree.XMLPullParser) -> ParseError:
    """In libxml2's name of the first fault: its sentence quotes the document."""
    first = next(iter(parser.feed_error_log), None)
    if first is None:
        return ParseError("not well-formed XML: it ends before its root element does")
    fault = first.type_name.removeprefix("ERR_").replace("_", " ").lower()
    return ParseError(f"not well-formed XML: {fault}", location=f"line {first.line}, column {first.column}")


_NO_DTD: Final = "the XML document has a document type declaration, which is not allowed"


def checked_encoding(body: bytes, charset: str) -> str:
    """The encoding to parse with, which the parser is told: it would guess others, and believe a declaration that was not seen here.
    Raises ParseError for one that is not on the list, and where a document type declaration stands before the root."""
    wide = next((name for mark, name in _WIDE if body.startswith(mark)), "")
    prolog = body[:MOST_PROLOG]
    if wide:
        prolog = prolog.decode(wide, "replace").lstrip("\ufeff").encode("utf-8", "replace")
    prolog = prolog.removeprefix(_UTF_8)
    declared = _DECLARED.match(prolog) if not body.startswith(_UTF_8) else None
    said = wide or charset.strip("\"'") or (declared.group(1).decode("ascii") if declared else "utf-8")
    if not wide and said.lower() not in _NARROW:
        raise ParseError(f"XML in the character set {said!r} is not taken" if len(said) <= 40 else "XML in an unknown character set")
    before_root = _PROLOG.match(prolog)
    rest = prolog[before_root.end() :] if before_root else prolog
    if len(body) > MOST_PROLOG and (b"<!--".startswith(rest[:4]) or rest.startswith(b"<?")):
        raise ParseError(f"more than {MOST_PROLOG} bytes stand before the root element of the XML document")
    if rest.startswith(b"<!"):
        raise ParseError(_NO_DTD)
    return said
