"""The digest of an element under Exclusive XML Canonicalization 1.0, without comments; streamed, so that no copy of a document is made.

A signature is over the XML as it would be without XOP (XOP 1.0 clause 5: the original infoset), so that what an xop:Include stands for
is digested in its place, as base64 without line ends. A part that is not covered by its Body's digest would be anyone's to exchange.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from lxml import etree

from adapters.soap.security.names import XOP_INCLUDE
from adapters.soap.security.refusal import Code, Refusal

_MOST: Final = 192 << 20
"""Of one canonical form: a document may not be 64 MB and its canonical form gigabytes, as one with long names of namespaces would be."""
ContentOf = Callable[[etree._Element], Iterable[bytes | memoryview]]
"""xop:Include -> the bytes that it stands for, piece by piece."""


def no_parts(_: etree._Element) -> Iterable[bytes]:
    """For a message without parts. Raises Refusal."""
    raise Refusal(Code.INVALID_SECURITY, "an xop:Include in a message without parts")


def digest(element: etree._Element, algorithm: str, prefixes: Sequence[str] = (), content_of: ContentOf = no_parts) -> bytes:
    """`algorithm` is a name of hashlib; `prefixes` are those of InclusiveNamespaces. Raises Refusal where there is no canonical form,
    or it is too big."""
    hashed = hashlib.new(algorithm)
    includes = list(element.iter(XOP_INCLUDE))
    if not includes:
        _write(element, _Sink(hashed.update), prefixes)
        return hashed.digest()
    with _marked(includes) as mark:
        whole = bytearray()
        _write(element, _Sink(whole.extend), prefixes)
        pieces = bytes(whole).split(mark)
    if len(pieces) != len(includes) + 1:
        raise Refusal(Code.INVALID_SECURITY, "the place of an xop:Include cannot be told")
    hashed.update(pieces[0])
    for include, piece in zip(includes, pieces[1:], strict=True):
        for encoded in _base64(content_of(include)):
            hashed.update(encoded)
        hashed.update(piece)
    return hashed.digest()


def canonical(element: etree._Element, prefixes: Sequence[str] = ()) -> bytes:
    """The canonical form of something small. Raises Refusal."""
    whole = bytearray()
    _write(element, _Sink(whole.extend), prefixes)
    return bytes(whole)


def _base64(content: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    rest = b""
    for piece in content:
        begin = (-len(rest)) % 3 if rest else 0
        rest += bytes(piece[:begin])
        if len(rest) == 3:
            yield b64encode(rest)
            rest = b""
        end = begin + (len(piece) - begin) // 3 * 3 if len(piece) > begin else begin
        yield b64encode(piece[begin:end])
        rest += bytes(piece[end:])
    yield b64encode(rest)


@contextmanager
def _marked(includes: Sequence[etree._Element]) -> Iterator[bytes]:
    """Text of our own in the place of each xop:Include, put back afterwards. The text is one that the document does not hold."""
    root = includes[0].getroottree().getroot()
    number = 0
    while root.xpath("boolean(//text()[contains(., $mark)] | //@*[contains(., $mark)])", mark=(mark := f"xop-include-{number}")):
        number += 1
    taken = []
    try:
        for include in includes:
            parent = include.getparent()
            if parent is None or len(parent) != 1 or (parent.text or "").strip() or (include.tail or "").strip():
                raise Refusal(Code.INVALID_SECURITY, "an xop:Include that is not alone in its element")  # XOP 1.0 clause 2.1
            taken.append((parent, parent.text, include))
            parent.remove(include)
            parent.text = mark
        yield mark.encode()
    finally:
        for parent, text, include in taken:
            parent.text = text
            parent.append(include)


class _Sink:
    """What a canonical form is written to: hands it on, and ends it where it grows too big."""

    def __init__(self, take: Callable[[bytes], Any]) -> None:
        self._take, self._size = take, 0

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > _MOST:
            raise Refusal(Code.INVALID_SECURITY, f"a canonical form of more than {_MOST} bytes")
        self._take(data)


def _write(element: etree._Element, sink: _Sink, prefixes: Sequence[str]) -> None:
    try:
        etree.ElementTree(element).write_c14n(sink, exclusive=True, with_comments=False, inclusive_ns_prefixes=list(prefixes) or None)
    except etree.C14NError:  # a namespace that is a relative reference has none
        raise Refusal(Code.INVALID_SECURITY, "an element without a canonical form") from None
