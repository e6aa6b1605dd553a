"""Whether a resource in JSON has the structure of FHIR R4: its elements, their types, cardinalities and codes, and its contained resources.

Sources: R4 2.6.2 (JSON), 2.24.0 (types), 2.26.4 (contained: dom-2, ref-1). Profiles and other invariants are not looked at, and an empty
list, which R4 has not, passes: it says nothing. Faults say where, and what would be right; never what was there. Pure; time and memory in
the size of the resource, faults bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from engine.formats.fhir_r4 import RESOURCE, Element, Type, types
from engine.formats.fhir_r4.primitives import FITS, WORDING

MOST_FAULTS: Final = 50
_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")
_ARTICLE: Final = {True: "a list of objects", False: "an object"}


class Fault(NamedTuple):
    """`code` of R4 valueset-issue-type, `expression` in FHIRPath (``Bundle.entry[3].resource.status``)."""

    code: str
    text: str
    expression: str


class _Enough(Exception):
    pass


def faults(resource: dict[str, Any]) -> list[Fault]:
    """The first MOST_FAULTS of a parsed resource; none where its structure is right."""
    walk = _Walk()
    with suppress(_Enough):
        walk.resource(resource, str(resource.get("resourceType", "Resource"))[:64])
    return walk.found


class _Walk:
    """One resource being looked through. `_holder` is the id of the contained resource we are in, "" outside, None within no resource."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self._types = types()
        self._holder: str | None = None
        self._local: list[tuple[str, str, str]] = []  # holder, target, where

    def _fault(self, code: str, text: str, path: str) -> None:
        self.found.append(Fault(code, text, path))
        if len(self.found) >= MOST_FAULTS:
            raise _Enough

    # --- resources -----------------------------------------------------------------------------------

    def resource(self, value: Any, path: str) -> None:
        """A resource that stands by itself, or in a Bundle or Parameters."""
        outer, self._holder, self._local, before = self._holder, "", [], self._local
        kind = self._kind_of(value, path)
        if kind is not None:
            self._object(kind, value, path)
            self._check_contained(value.get("contained"), path)
        self._holder, self._local = outer, before

    def _kind_of(self, value: Any, path: str) -> Type | None:
        name = value.get("resourceType") if isinstance(value, dict) else None
        kind = self._types.get(name) if isinstance(name, str) else None
        if kind is None or not kind.is_resource:
            self._fault("structure", "a resource is wanted here: an object whose resourceType is one of FHIR R4", path)
            return None
        return kind

    def _contained(self, value: Any, path: str) -> None:
        kind = self._kind_of(value, path)
        if kind is None:
            return
        given = value.get("id")
        if not isinstance(given, str):
            self._fault("required", "a contained resource needs an id", f"{path}.id")
        if "contained" in value:
            self._fault("structure", "a contained resource contains no other; the outer resource contains both", f"{path}.contained")
            return
        self._holder = given if isinstance(given, str) else ""
        self._object(kind, value, path)
        self._holder = ""

    def _check_contained(self, contained: Any, path: str) -> None:
        ids = [one.get("id") for one in contained if isinstance(one, dict)] if isinstance(contained, list) else []
        if len(set(map(str, ids))) != len(ids):
            self._fault("duplicate", "each contained resource needs an id of its own", f"{path}.contained")
        ways: dict[str, list[str]] = {}
        for holder, target, where in self._local:
            if target and target not in ids:
                self._fault("not-found", "a reference that begins with # names a contained resource by its id", where)
            elif holder:
                ways.setdefault(holder, []).append(target)
        if _has_circle(ways):
            self._fault("structure", "contained resources refer to each other in a circle", f"{path}.contained")

    # --- elements ------------------------------------------------------------------------------------

    def _object(self, kind: Type, value: dict[str, Any], path: str) -> None:
        elements = kind.elements
        if not value:
            self._fault("structure", "an object is not empty", path)
        for name, child in value.items():
            element = elements.get(name)
            if element is not None:
                if element.kind in FITS:
                    self._primitive(element, child, value.get(f"_{name}"), path)
                else:
                    self._complex(element, child, path)
            elif name != "resourceType" or not kind.is_resource:
                self._other(kind, name, child, value, path)
        for names in kind.required:
            if not any(name in value or f"_{name}" in value for name in names):
                self._fault("required", f"{kind.name} needs this element", f"{path}.{_stem(kind.elements[names[0]])}")
        chosen = [
            one.choice for name in value if (one := elements.get(name.removeprefix("_"))) is not None and one.choice and name[0] != "_"
        ]
        if len(set(chosen)) != len(chosen):
            self._fault("structure", "only one of the types of an element with a choice can be there", path)
        if kind.name == "Reference":
            self._reference(value.get("reference"), path)

    def _reference(self, reference: Any, path: str) -> None:
        if isinstance(reference, str) and reference.startswith("#"):
            self._local.append((self._holder or "", reference[1:], f"{path}.reference"))

    def _other(self, kind: Type, name: str, child: Any, value: dict[str, Any], path: str) -> None:
        """What the type has no element for, or the id and extensions of a primitive (R4 2.6.2.3)."""
        element = kind.elements.get(name[1:]) if name.startswith("_") else None
        if element is None or element.kind not in FITS or element.attribute:
            where = f"{path}.{name}" if _NAME.fullmatch(name) else path
            near = get_close_matches(name, kind.elements, 1) if len(name) <= 64 else []
            self._fault("structure", f"{kind.name} has no such element" + (f"; did you mean {near[0]}?" if near else ""), where)
            return
        where = f"{path}.{_stem(element)}"
        additions = child if element.repeats else [child]
        if not isinstance(additions, list):
            self._fault("structure", f"{name} goes with a list and is one", where)
            return
        if element.repeats and name[1:] in value and isinstance(value[name[1:]], list) and len(value[name[1:]]) != len(additions):
            self._fault("structure", f"{name} and {name[1:]} have the same number of places", where)
        for index, one in enumerate(additions):
            if isinstance(one, dict):
                self._object(self._types[_ADDED], one, f"{where}[{index}]" if element.repeats else where)
            elif one is not None or not element.repeats:
                self._fault("structure", f"{name} holds objects with id and extension", where)

    def _primitive(self, element: Element, value: Any, additions: Any, path: str) -> None:
        if not element.repeats:
            if not FITS[element.kind](value) or (element.codes and value not in element.codes):
                self._wrong(element, value, f"{path}.{_stem(element)}")
            return
        if not isinstance(value, list):
            self._fault("structure", f"{element.name} is a list", f"{path}.{_stem(element)}")
            return
        for index, one in enumerate(value):
            if one is None and isinstance(additions, list) and index < len(additions) and additions[index] is not None:
                continue
            if not FITS[element.kind](one) or (element.codes and one not in element.codes):
                self._wrong(element, one, f"{path}.{_stem(element)}[{index}]")

    def _wrong(self, element: Element, value: Any, path: str) -> None:
        if isinstance(value, list | dict):
            self._fault(
                "structure", f"{element.name} is {'one value' if isinstance(value, list) else 'a value'}: {WORDING[element.kind]}", path
            )
        elif element.codes:
            self._fault("code-invalid", f"{element.name} is one of {', '.join(element.codes)}", path)
        else:
            self._fault("value", f"{element.name} is {WORDING[element.kind]}", path)

    def _complex(self, element: Element, value: Any, path: str) -> None:
        where = f"{path}.{_stem(element)}"
        if not element.repeats:
            self._one(element, value, where)
        elif not isinstance(value, list):
            self._fault("structure", f"{element.name} is a list", where)
        else:
            for index, one in enumerate(value):
                self._one(element, one, f"{where}[{index}]")

    def _one(self, element: Element, value: Any, path: str) -> None:
        if element.kind == RESOURCE:
            if element.name == "contained":
                self._contained(value, path)
            else:
                self.resource(value, path)
        elif not isinstance(value, dict):
            self._fault("structure", f"{element.name} is {_ARTICLE[element.repeats]}", path)
        elif self._types[element.kind].is_resource:
            self.resource(value, path)
        else:
            self._object(self._types[element.kind], value, path)


_ADDED: Final = "Element"


def _stem(element: Element) -> str:
    """The name in FHIRPath: ``value`` for valueQuantity."""
    return element.choice.removesuffix("[x]") or element.name


def _has_circle(ways: dict[str, list[str]]) -> bool:
    done: set[str] = set()
    for start in ways:
        under_way: list[Iterator[str]] = [iter(ways.get(start, ()))]
        on_path = [start]
        while under_way and start not in done:
            target = next(under_way[-1], None)
            if target is None:
                under_way.pop()
                done.add(on_path.pop())
            elif target in on_path:
                return True
            elif target not in done:
                on_path.append(target)
                under_way.append(iter(ways.get(target, ())))
    return False
