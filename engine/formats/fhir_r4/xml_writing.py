"""FHIR R4 JSON to XML (R4 2.6.1), by the table of elements, whose order is that of the standard. What XML has no place for is
refused: nothing is left out in silence. Pure.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from lxml import etree

from engine.errors import ParseError
from engine.formats import fhir
from engine.formats.fhir_r4 import RESOURCE, XHTML, Element, Type, types
from engine.formats.fhir_r4.primitives import WORDING, XHTML_NAMESPACE
from engine.formats.xml import parse as parse_xml

NAMESPACE: Final = "http://hl7.org/fhir"
NUMBERS: Final = frozenset({"decimal", "integer", "positiveInt", "unsignedInt"})
"""Primitive types that JSON writes without quotation marks."""
_SPACE: Final = f"{{{NAMESPACE}}}"


class NotInXml(ParseError):
    """A resource in JSON that XML has no place for: an element that R4 has not, or a character that XML has not."""


def to_xml(body: bytes) -> bytes:
    """A resource in JSON as an XML document in UTF-8. Raises ParseError; NotInXml for what has no place there."""
    value = fhir.parse(body)
    try:
        root = _resource_element(None, value, "")
    except ValueError:  # lxml, of control characters
        raise NotInXml("the resource has a character that XML has not") from None
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return written


def _resource_element(parent: Any, value: Any, path: str) -> Any:
    name = value.get("resourceType") if isinstance(value, dict) else None
    kind = types().get(name) if isinstance(name, str) else None
    if kind is None or not kind.is_resource:
        raise NotInXml("this is no resource of FHIR R4", location=path)
    tag = _SPACE + kind.name
    element = etree.Element(tag, nsmap={None: NAMESPACE}) if parent is None else etree.SubElement(parent, tag)
    _fill(element, kind, {key: one for key, one in value.items() if key != "resourceType"}, path or kind.name)
    return element


def _fill(element: Any, kind: Type, value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise NotInXml(f"{kind.name} is an object", location=path)
    left = dict(value)
    for name, one in kind.elements.items() if left else ():
        if name not in left and f"_{name}" not in left:
            continue
        child, added = left.pop(name, None), left.pop(f"_{name}", None)
        if one.attribute:
            _attribute(element, name, child, path)
        elif one.repeats:
            _each_element(element, one, child, added, f"{path}.{name}")
        else:
            _element(element, one, child, added, f"{path}.{name}")
    if left:
        raise NotInXml(f"{kind.name} has an element that R4 has not", location=path)


def _attribute(element: Any, name: str, value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise NotInXml(f"{name} is a text", location=path)
    element.set(name, value)


def _each_element(parent: Any, one: Element, values: Any, additions: Any, path: str) -> None:
    values, additions = values if values is not None else [], additions if additions is not None else []
    if not isinstance(values, list) or not isinstance(additions, list):
        raise NotInXml(f"{one.name} is a list", location=path)
    for index in range(max(len(values), len(additions))):
        value = values[index] if index < len(values) else None
        added = additions[index] if index < len(additions) else None
        _element(parent, one, value, added, f"{path}[{index}]")


def _element(parent: Any, one: Element, value: Any, added: Any, path: str) -> None:
    if one.kind == XHTML:
        parent.append(_div_element(value, path))
        return
    child = etree.SubElement(parent, _SPACE + one.name)
    if one.kind in WORDING:
        if added is not None:
            _fill(child, types()["Element"], added, path)
        if value is not None:
            child.set("value", _text_of(one.kind, value, path))
        return
    if added is not None:
        raise NotInXml(f"{one.name} has its id and extensions within", location=path)
    if one.kind == RESOURCE or types()[one.kind].is_resource:
        _resource_element(child, value, path)
    else:
        _fill(child, types()[one.kind], value, path)


def _text_of(kind: str, value: Any, path: str) -> str:
    if kind == "boolean" and isinstance(value, bool):
        return "true" if value else "false"
    if kind in NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
        return value.digits if isinstance(value, fhir.Exact) else orjson.dumps(value).decode()
    if kind not in NUMBERS and kind != "boolean" and isinstance(value, str):
        return value
    raise NotInXml(f"the value is {WORDING[kind]}", location=path)


def _div_element(value: Any, path: str) -> Any:
    try:
        div = parse_xml(value.encode()) if isinstance(value, str) else None
    except ParseError as error:
        raise NotInXml("the narrative is not well-formed XHTML", location=path) from error
    if div is None or div.tag != f"{{{XHTML_NAMESPACE}}}div":
        raise NotInXml("the narrative is one div in the namespace of XHTML", location=path)
    return in_xhtml(div)


def in_xhtml(div: Any) -> Any:
    """A copy that declares no namespace but XHTML's own."""
    copy = etree.Element(div.tag, dict(div.attrib), nsmap={None: XHTML_NAMESPACE})
    pairs = [(div, copy)]
    while pairs:
        old, new = pairs.pop()
        new.text = old.text
        for child in old:
            made = etree.SubElement(new, child.tag, dict(child.attrib))
            made.tail = child.tail
            pairs.append((child, made))
    return copy
