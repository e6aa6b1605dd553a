"""Finds an element or attribute in a reply by names: ``MCCI_IN000002UV01/acknowledgement/@typeCode``. Pure.

Namespaces are ignored. The first name is looked for at any depth, the others are children; an XML document that is the text of an element
counts as its child, as the services of WS/T 846 and many others nest their payload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from lxml import etree

from engine.errors import ParseError
from engine.formats.xml import parse
from engine.options import Faulty, Kind

_NAME: Final = r"[^\W\d][\w.-]*"
_PATH: Final = re.compile(rf"{_NAME}(?:/{_NAME})*(?:/@{_NAME})?")
_MOST_NESTED: Final = 4


def _read(raw: Any) -> str:
    if not isinstance(raw, str) or not _PATH.fullmatch(raw):
        raise Faulty(f"{raw!r} is no path in a reply")
    return raw


ANSWER_PATH: Final = Kind(
    "path", "names with slashes, such as Result/status or MCCI_IN000002UV01/acknowledgement/@typeCode", _read, {"type": "string"}
)


def texts(root: etree._Element, path: str) -> list[str]:
    """What stands at every place that `path` names."""
    names, _, attribute = path.partition("/@") if "/@" in path else (path, "", "")
    found = _descend([one for one in _everywhere(root, _MOST_NESTED) if _local(one) == names.split("/")[0]], names.split("/")[1:])
    if not attribute:
        return ["".join(one.itertext()).strip() for one in found]
    return [value for one in found for name, value in one.attrib.items() if etree.QName(name).localname == attribute]


def _descend(elements: Sequence[etree._Element], names: Sequence[str]) -> Sequence[etree._Element]:
    for name in names:
        elements = [child for element in elements for child in _children(element) if _local(child) == name]
    return elements


def _children(element: etree._Element) -> Iterator[etree._Element]:
    yield from element
    nested = _nested(element)
    if nested is not None:
        yield nested


def _everywhere(root: etree._Element, deep: int) -> Iterator[etree._Element]:
    for element in root.iter():
        yield element
        nested = _nested(element) if deep else None
        if nested is not None:
            yield from _everywhere(nested, deep - 1)


def _nested(element: etree._Element) -> etree._Element | None:
    """The root of the document that an element's text is; None where it is none."""
    text = (element.text or "").lstrip()
    if not text.startswith("<"):
        return None
    try:
        return parse(text.encode(), charset="utf-8")
    except ParseError:
        return None


def _local(element: etree._Element) -> str:
    return str(etree.QName(element).localname)
