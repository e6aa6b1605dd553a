"""FHIR R4 XML to JSON (R4 2.6.1, 2.6.2), by the table of elements: nothing is guessed, and nothing is left out in silence.

What XML has no place in JSON for is refused: text between elements, attributes and elements that the type has not, elements out of the
standard's order. Not carried over, since they say nothing (R4 2.6.1): comments, processing instructions, white space between elements,
prefixes of namespaces, xsi:schemaLocation. Decimals keep their digits both ways. A narrative's div is written with the XHTML namespace as
its default; its content, white space included, stays. Pure.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lxml import etree

from engine.errors import ParseError
from engine.formats import fhir
from engine.formats.fhir_r4 import RESOURCE, XHTML, Element, Type, types
from engine.formats.fhir_r4.primitives import WORDING, XHTML_NAMESPACE
from engine.formats.fhir_r4.xml_writing import NAMESPACE, NUMBERS, in_xhtml
from engine.formats.xml import Limits
from engine.formats.xml import parse as parse_xml
from engine.message import FHIR_XML

MOST_ELEMENTS: Final = 400_000
_SPACE: Final = f"{{{NAMESPACE}}}"
_SCHEMA_LOCATION: Final = "{http://www.w3.org/2001/XMLSchema-instance}schemaLocation"
_NUMBER: Final = {
    "decimal": re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
    **dict.fromkeys(("integer", "positiveInt", "unsignedInt"), re.compile(r"-?(?:0|[1-9][0-9]*)")),
}
_MOST_DIGITS: Final = 1000
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


def from_xml(body: bytes, *, most: int = 16 << 20, charset: str = "") -> bytes:
    """The resource as JSON. Raises ParseError with the place in FHIRPath, or line and column, and nothing of the content."""
    root = parse_xml(body, Limits(size=most, depth=fhir.MOST_DEEP, elements=MOST_ELEMENTS), charset)
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
    additions: dict[str, Any] = {}
    at, last = -1, ""
    for child in element:
        name = _name_of(child, kind, path)
        one = kind.elements[name]
        place = kind.places[name]
        if place < at or (place == at and not one.repeats):
            wrong = "comes twice" if place == at else f"stands after {last}, and belongs before it (R4 2.6.1)"
            raise ParseError(f"{name} {wrong}", location=path)
        at, last = place, name
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
    if kind in NUMBERS:
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
    text: str = etree.tostring(in_xhtml(div), encoding="unicode", with_tail=False)
    return text


class Codec:
    """engine.contracts.Codec for application/fhir+xml: paths are those of the JSON form."""

    content_type = FHIR_XML

    def decode(self, body: bytes) -> fhir.Resource:
        return fhir.Resource(fhir.parse(from_xml(body)))

    def check_path(self, path: str) -> None:
        fhir.codec.check_path(path)

    check_repeating = check_path


codec: Final = Codec()
