"""Templates of a site: what a request says, with ``${…}`` where the message's own values go (engine.templates). Pure.

    ${documents.message}         a message in the message: an XML file of the site, filled like this one, as text (option `documents`)
    ${content.text}              the whole content: as text, in base64, as an attachment, as XML. One of these stands alone in its place

A template is YAML, whose names are the parameters of the operation, or an XML file, whose root is the child of the SOAP Body. Values are
put into the finished tree, never into its text, so nothing that they hold can become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from engine import templates
from engine.errors import ParseError, PermanentDelivery
from engine.formats.xml import Limits, parse
from engine.options import Faulty
from engine.templates import Value

WHOLE_CONTENT: Final = ("content.text", "content.base64", "content.attachment", "content.xml")
NOT_IN_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LIMITS: Final = Limits(size=1 << 20, depth=50, elements=20_000)


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled one: `tree` is YAML's (mappings, lists, texts) or an element; `names` are the placeholders in it."""

    tree: Any
    names: tuple[str, ...]

    @property
    def root(self) -> str:
        """The qualified name of the body element, "" where the template is YAML."""
        return str(self.tree.tag) if isinstance(self.tree, etree._Element) else ""

    def fill(self, value: Value) -> Any:
        """A new tree. Raises PermanentDelivery where a value cannot be in XML."""
        return _filled_element(self.tree, value) if isinstance(self.tree, etree._Element) else _filled(self.tree, value)


def of_yaml(tree: Any) -> Template:
    """Raises Faulty."""
    plain = _plain(tree)
    return Template(plain, _checked(_texts(plain)))


def of_xml(content: bytes) -> Template:
    """Raises Faulty."""
    try:
        root = parse(content, _LIMITS)
    except ParseError as error:
        raise Faulty(f"{error.text} ({error.location})" if error.location else error.text) from None
    for element in root.iter():
        if any(_whole(text or "") for text in (element.tail, *element.attrib.values())):
            raise Faulty("the content can be in an element only, and alone there")
    return Template(root, _checked(_texts_of_element(root)))


def text_of(text: str, value: Value) -> str | None:
    """As engine.templates has it. Raises PermanentDelivery where a value cannot be in XML."""
    return templates.text_of(text, value, _fit)


# --- checks --------------------------------------------------------------------------------------------


def _checked(texts: Iterable[str]) -> tuple[str, ...]:
    return templates.names_in(texts, WHOLE_CONTENT)


def _whole(text: str) -> bool:
    return templates.is_whole(text, WHOLE_CONTENT)


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, list):
        for item in tree:
            yield from _texts(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from _texts(item)


def _texts_of_element(root: etree._Element) -> Iterator[str]:
    for element in root.iter():
        yield from (element.text or "", element.tail or "", *element.attrib.values())


# --- filling -------------------------------------------------------------------------------------------


def _plain(tree: Any) -> Any:
    """What YAML gave, as mappings, lists and texts. Raises Faulty."""
    if isinstance(tree, Mapping):
        return {str(name): _plain(item) for name, item in tree.items()}
    if isinstance(tree, list):
        return [_plain(item) for item in tree]
    if isinstance(tree, bool):
        return "true" if tree else "false"
    if tree is None or isinstance(tree, str | int | float):
        return None if tree is None else str(tree)
    raise Faulty(f"{type(tree).__name__} cannot be in a template; write it in quotes")


def _filled(tree: Any, value: Value) -> Any:
    if isinstance(tree, str):
        return text_of(tree, value)
    if isinstance(tree, list):
        return [_filled(item, value) for item in tree]
    return {name: _filled(item, value) for name, item in tree.items()} if isinstance(tree, dict) else None


def _filled_element(template: etree._Element, value: Value) -> etree._Element:
    """An attribute whose value the message does not have is left out."""
    root: etree._Element = deepcopy(template)
    for element in root.iter():
        element.text = text_of(element.text.strip() if _whole(element.text) else element.text, value) if element.text else None
        element.tail = text_of(element.tail, value) if element.tail else None
        for name, text in list(element.attrib.items()):
            filled = text_of(text, value)
            if filled is None:
                del element.attrib[name]
            else:
                element.set(name, filled)
    return root


def _fit(text: str) -> str:
    """XML 1.0 clause 2.2 (characters)."""
    if NOT_IN_XML.search(text):
        raise PermanentDelivery("a value of the message holds characters that XML cannot")
    return text
