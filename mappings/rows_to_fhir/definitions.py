"""What rules may say of FHIR R4: where a path leads, what a part needs. So that a rule that cannot be is said at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

from engine.formats.fhir_r4 import Element, types
from mappings.conditions import Unreadable
from mappings.paths import Step

_PRIMITIVE: Final = "Element"
"""What ``_birthDate`` is: where the extensions of a primitive stand."""
_CONTAINERS: Final = ("Bundle", "Parameters", "OperationOutcome", "Binary")


def elements(kind: str) -> dict[str, Element]:
    """Those of a type; a primitive has none."""
    found = types().get(kind)
    return found.elements if found is not None else {}


def resource_types() -> tuple[str, ...]:
    """Those that can be made of rows."""
    return tuple(sorted(name for name, kind in types().items() if kind.is_resource and name not in _CONTAINERS))


def needs(kind: str) -> Iterable[tuple[Element, tuple[str, ...]]]:
    """What one of this type cannot be without: each element, and the names that it may have (``valueString`` …, ``value``)."""
    for names in types()[kind].required:
        element = types()[kind].elements[names[0]]
        yield element, (*names, element.choice.removesuffix("[x]"))


def element_at(resource: str, path: Sequence[Step]) -> Element:
    """The element that `path` leads to. Raises Unreadable: there is none, brackets where it does not repeat or none where it does, or a
    way through another resource."""
    here, found = resource, None
    for number, step in enumerate(path):
        if step.kind or step.follow:
            raise Unreadable(f"{step.path!r}: name the other resource in this file, and refer to it with `to`")
        found = _element(here, step.name)
        written = step.path.rstrip(".")
        if found.repeats and step.label is None:
            raise Unreadable(f"{written!r} repeats: write {written}[] for a new item, or {written}[name] for one that rules share")
        if not found.repeats and step.label is not None:
            raise Unreadable(f"{written.rpartition('[')[0]!r} does not repeat: without brackets")
        if found.kind not in types() and number < len(path) - 1:
            raise Unreadable(f"{written!r} is of type {found.kind}, which has no parts")
        here = found.kind
    if found is None:
        raise Unreadable("there is no element in the path")
    return found


def choice(kind: str, name: str) -> str:
    """``value`` for ``valueQuantity``: of the elements with the same one a resource has one (FHIR R4, formats#choice). Else `name`."""
    element = elements(kind).get(name)
    return element.choice.removesuffix("[x]") if element is not None and element.choice else name


def lacking(resource: str, targets: Sequence[Sequence[Step]]) -> list[tuple[int, str, str]]:
    """Parts that rules make without what they need, as (which of `targets`, the part, what it needs): a component without its code."""
    said = {_written(path[: number + 1]) for path in targets for number in range(len(path))}
    found = []
    for which, path in enumerate(targets):
        for number in range(1, len(path)):
            part = _written(path[:number])
            kind = element_at(resource, path[:number]).kind
            for element, names in needs(kind):
                if not any(_is_said(f"{part}.{name}", said) for name in names if name):
                    found.append((which, part, element.choice or element.name))
    return found


def _is_said(path: str, said: set[str]) -> bool:
    return any(one.startswith(path) and one[len(path) :][:1] in ("", "[") for one in said)


def _written(path: Sequence[Step]) -> str:
    return path[-1].path.rstrip(".")


def _element(kind: str, name: str) -> Element:
    known = elements(kind)
    found, plain = known.get(name), known.get(name.removeprefix("_"))
    if found is None and plain is not None and plain.kind not in types():
        return Element(name, _PRIMITIVE, plain.repeats)
    if found is None:
        near = [one for one in known if one.startswith(name)] or get_close_matches(name, known, 3)
        hint = f"; did you mean {', '.join(near[:6])}?" if near else ""
        raise Unreadable(f"{kind} has no element {name!r}{hint}")
    return found
