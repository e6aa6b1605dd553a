"""FHIR R4 XML to JSON and back (R4 2.6.1, 2.6.2), by the table of elements: nothing is guessed, and nothing is left out in silence.

What XML has no place in JSON for is refused: text between elements, attributes and elements that the type has not, elements out of the
standard's order. Not carried over, since they say nothing (R4 2.6.1): comments, processing instructions, white space between elements,
prefixes of namespaces, xsi:schemaLocation. Decimals keep their digits both ways. A narrative's div is written with the XHTML namespace as
its default; its content, white space included, stays. Pure.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
from lxml import etree

from engine.errors import ParseError
from engine.formats import fhir
from engine.formats.fhir_r4 import RESOURCE, XHTML, Element, Type, types
from engine.formats.fhir_r4.primitives import WORDING, XHTML_NAMESPACE
from engine.formats.xml import Limits
from engine.formats.xml import parse as parse_xml
from engine.message import FHIR_XML

NAMESPACE: Final = "http://hl7.org/fhir"
_SPACE: Final = f"{{{NAMESPACE}}}"
_SCHEMA_LOCATION: Final = "{http://www.w3.org/2001/XMLSchema-instance}schemaLocation"
_NUMBERS: Final = frozenset({"decimal", "integer", "positiveInt", "unsignedInt"})
_NUMBER: Final = {
    "decimal": re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
    **dict.fromkeys(("integer", "positiveInt", "unsignedInt"), re.compile(r"-?(?:0|[1-9][0-9]*)")),
}
_MOST_DIGITS: Final = 1000
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


class NotInXml(ParseError):
    """A resource in JSON that XML has no place for: an element that R4 has not, or a character that XML has not."""


# --- XML to JSON -------------------------------------------------------------------------------------


def from_xml(body: bytes, *, most: int = 16 << 20, charset: str = "") -> bytes:
    """The resource as JSON. Raises ParseError with the place in FHIRPath, or line and column, and nothing of the content."""
    root = parse_xml(body, Limits(size=most, depth=fhir.MOST_DEEP), charset)
    root.attrib.pop(_SCHEMA_LOCATION, None)
    return fhir.dump(_resource_of(root, str(root.tag).rpartition("}")[2][:64]))


def _resource_of(element: Any, path: str) -> dict[str, Any]:
    space, _, name = str(element.tag).rpartition("}")
    kind = types().get(name)
    if space + "}" != _SPACE or kind is None or not kind.is_resource:
        raise ParseError(f"the root of a resource is one of FHIR R4 in the namespace {NAMESPACE}", location=_shown(path, name))
    return {"resourceType": name, **_object_of(kind, element, path)}


def _object_of(kind: Type, element: Any, path: str) -> dict[str, Any]:
    """The children and attributes of an element, in the order of the standard."""
    _no_text(element, path)
    found: dict[str, Any] = {}
    for name, value in element.attrib.items():
        one = kind.elements.get(name)
        if one is None or not one.attribute:
            raise ParseError("this element has an attribute that FHIR has not", location=path)
        found[name] = value
    order, at, additions = list(kind.elements), -1, {}
    for child in element:
        name = _name_of(child, kind, path)
        one = kind.elements[name]
        place = order.index(name)
        if place < at or (place == at and not one.repeats):
            wrong = "comes twice" if place == at else f"stands after {order[at]}, and belongs before it (R4 2.6.1)"
            raise ParseError(f"{name} {wrong}", location=path)
        at = place
        _take(one, child, f"{path}.{name}[{len(found.get(name, ()))}]" if one.repeats else f"{path}.{name}", found, additions)
    found.update((f"_{name}", value) for name, value in additions.items() if value is not None and any(_each(value)))
    for name in [name for name, value in found.items() if name in additions and not any(one is not None for one in _each(value))]:
        del found[name]
    if not found and not kind.is_resource:
        raise ParseError("an element has a value or children", location=path)
    return found


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _name_of(child: Any, kind: Type, path: str) -> str:
    space, _, name = str(child.tag).rpartition("}")
    one = kind.elements.get(name)
    right = one is not None and not one.attribute and space == ("{" + XHTML_NAMESPACE if one.kind == XHTML else _SPACE[:-1])
    if not right:
        raise ParseError(f"{kind.name} has no such element in the namespace of FHIR", location=_shown(f"{path}.{name}", name, path))
    return name


def _take(one: Element, child: Any, path: str, found: dict[str, Any], additions: dict[str, Any]) -> None:
    """Put a child where JSON has it. `additions` gets the id and extensions of primitives, in step with their values."""
    if one.kind == XHTML:
        found[one.name] = _div_text(child)
    elif one.kind in WORDING:
        value, added = _primitive_of(one, child, path)
        if one.repeats:
            found.setdefault(one.name, []).append(value)
            additions.setdefault(one.name, []).append(added)
        else:
            found[one.name], additions[one.name] = value, added
    else:
        value = _complex_of(one, child, path)
        if one.repeats:
            found.setdefault(one.name, []).append(value)
        else:
            found[one.name] = value


def _complex_of(one: Element, child: Any, path: str) -> dict[str, Any]:
    if one.kind != RESOURCE:
        kind = types()[one.kind]
        if not kind.is_resource:
            return _object_of(kind, child, path)
    _no_text(child, path)
    if len(child) != 1 or child.attrib:
        raise ParseError("this element holds one resource, and nothing else", location=path)
    return _resource_of(child[0], path)


def _primitive_of(one: Element, child: Any, path: str) -> tuple[Any, dict[str, Any] | None]:
    text = child.attrib.pop("value", None)
    added = _object_of(types()["Element"], child, path) if len(child) or child.attrib or text is None else None
    _no_text(child, path)
    return (None if text is None else _value_of(one.kind, text, path)), added


def _value_of(kind: str, text: str, path: str) -> Any:
    """The JSON value of a value attribute. Strings are taken as they are; what they may be is the check of structure's matter."""
    if kind == "boolean":
        if text not in ("true", "false"):
            raise ParseError("the value is true or false", location=path)
        return text == "true"
    if kind in _NUMBERS:
        if len(text) > _MOST_DIGITS or not _NUMBER[kind].fullmatch(text):
            raise ParseError(f"the value is {WORDING[kind].replace(', without quotation marks', '')}", location=path)
        return fhir.Exact(text)
    return text


def _no_text(element: Any, path: str) -> None:
    if (element.text and element.text.strip()) or any(child.tail and child.tail.strip() for child in element):
        raise ParseError("there is text between elements; FHIR has values in attributes", location=path)


def _shown(path: str, name: str, otherwise: str = "") -> str:
    return path if _NAME.fullmatch(name) else otherwise


def _div_text(div: Any) -> str:
    """A narrative as JSON has it: one div, whose default namespace is XHTML's."""
    text: str = etree.tostring(_in_xhtml(div), encoding="unicode", with_tail=False)
    return text


def _in_xhtml(div: Any) -> Any:
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


class Codec:
    """engine.contracts.Codec for application/fhir+xml: paths are those of the JSON form."""

    content_type = FHIR_XML

    def decode(self, body: bytes) -> fhir.Resource:
        return fhir.Resource(fhir.parse(from_xml(body)))

    def check_path(self, path: str) -> None:
        fhir.codec.check_path(path)

    check_repeating = check_path


codec: Final = Codec()

# --- JSON to XML -------------------------------------------------------------------------------------


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
    if kind in _NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
        return value.digits if isinstance(value, fhir.Exact) else orjson.dumps(value).decode()
    if kind not in _NUMBERS and kind != "boolean" and isinstance(value, str):
        return value
    raise NotInXml(f"the value is {WORDING[kind]}", location=path)


def _div_element(value: Any, path: str) -> Any:
    try:
        div = parse_xml(value.encode()) if isinstance(value, str) else None
    except ParseError as error:
        raise NotInXml("the narrative is not well-formed XHTML", location=path) from error
    if div is None or div.tag != f"{{{XHTML_NAMESPACE}}}div":
        raise NotInXml("the narrative is one div in the namespace of XHTML", location=path)
    return _in_xhtml(div)
