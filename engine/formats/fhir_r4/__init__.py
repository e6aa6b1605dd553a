"""The elements of FHIR R4 (4.0.1): what a type has, in which order, of which kind, how often. Pure.

The table is elements.csv, made from the standard's structure definitions (R4 profiles-types, profiles-resources).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Final

RESOURCE: Final = "Resource"
"""The kind of an element that holds a whole resource, whose type its own resourceType says."""
XHTML: Final = "xhtml"


@dataclass(frozen=True, slots=True)
class Element:
    """One element under its JSON name. `kind` is a primitive type (R4 2.24.0), a type of this table, RESOURCE or XHTML. `choice` is the
    name in the standard (``value[x]``) where the type can be chosen, else "". `attribute`: XML has it as an attribute (R4 2.6.1).
    `codes`: those of a required binding, where they can be listed. `targets`: the resources that a Reference may lead to; none: any."""

    name: str
    kind: str
    repeats: bool = False
    required: bool = False
    choice: str = ""
    attribute: bool = False
    codes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(slots=True)
class Type:
    """A resource, data type or element with children (``Patient.contact``). `base` is its abstract type (R4 2.26.2)."""

    name: str
    base: str
    elements: dict[str, Element] = field(default_factory=dict)
    required: list[tuple[str, ...]] = field(default_factory=list)
    """For each required element the JSON names that it may have."""
    places: dict[str, int] = field(default_factory=dict)
    """Where each element stands in the order of the standard."""

    @property
    def is_resource(self) -> bool:
        return self.base in ("Resource", "DomainResource")


_ELEMENT: Final = (Element("id", "string", attribute=True), Element("extension", "Extension", repeats=True))
_BASES: Final[Mapping[str, tuple[Element, ...]]] = {
    "Element": _ELEMENT,
    "BackboneElement": (*_ELEMENT, Element("modifierExtension", "Extension", repeats=True)),
    "Resource": (Element("id", "id"), Element("meta", "Meta"), Element("implicitRules", "uri"), Element("language", "code")),
}
_DOMAIN: Final = (
    *_BASES["Resource"],
    Element("text", "Narrative"),
    Element("contained", RESOURCE, repeats=True),
    Element("extension", "Extension", repeats=True),
    Element("modifierExtension", "Extension", repeats=True),
)

PRIMITIVES: Final = frozenset(
    ("base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id", "instant", "integer", "markdown", "oid",
     "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid", XHTML)
)  # fmt: skip


@cache
def types() -> Mapping[str, Type]:
    """Every type by its name; read once, when it is first asked for."""
    found = {"Element": Type("Element", "Element", {one.name: one for one in _ELEMENT})}
    text = (files(__name__) / "elements.csv").read_text("utf-8")
    for name, element, kinds, repeats, required, codes, targets in csv.reader(text.splitlines()[2:]):
        if not element:
            found[name] = Type(name, kinds, {one.name: one for one in _BASES.get(kinds, _DOMAIN)})
            continue
        made = [
            replace(one, repeats=bool(repeats), required=bool(required), targets=tuple(targets.split()) if one.kind == "Reference" else ())
            for one in _elements(element, kinds.split(), tuple(codes.split()))
        ]
        found[name].elements.update((one.name, one) for one in made)
        if required:
            found[name].required.append(tuple(one.name for one in made))
    for kind in found.values():
        kind.places.update((name, place) for place, name in enumerate(kind.elements))
    return found


def _elements(name: str, kinds: list[str], codes: tuple[str, ...]) -> list[Element]:
    if name.endswith("[x]"):
        stem = name.removesuffix("[x]")
        return [Element(stem + kind[0].upper() + kind[1:], kind, choice=name) for kind in kinds]
    attribute, _, kind = kinds[0].rpartition(":")
    return [Element(name, kind, attribute=bool(attribute), codes=codes)]
