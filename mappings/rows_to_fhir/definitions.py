"""What FHIR R4 has where: the types of elements, which repeat, which codes they take. So that a rule that cannot be is said at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Final

from engine.errors import Fault
from mappings.conditions import Unreadable
from mappings.paths import Step
from mappings.tables import read

TABLE: Final = Path(__file__).parent / "tables" / "elements.csv"
_COLUMNS: Final = ("type", "element", "kind", "list", "required", "values")
_PRIMITIVE: Final = "Element"
"""What ``_birthDate`` is: where the extensions of a primitive stand."""


@dataclass(frozen=True, slots=True)
class Element:
    """`kind` is its type, `values` the codes that it takes or the types that it refers to (none: any)."""

    kind: str
    repeats: bool
    required: bool
    values: tuple[str, ...] = ()


@cache
def types() -> dict[str, dict[str, Element]]:
    """Type -> its elements."""
    faults: list[Fault] = []
    found: dict[str, dict[str, Element]] = {_PRIMITIVE: {"extension": Element("Extension", True, False)}}
    for row in read(TABLE, _COLUMNS, faults):
        element = Element(row["kind"], bool(row["list"]), bool(row["required"]), tuple(row["values"].split()))
        found.setdefault(row["type"], {})[row["element"]] = element
    return found


def resource_types() -> tuple[str, ...]:
    """Those that can be made of rows: what has a `meta` and is no container."""
    made = ("Bundle", "Parameters", "OperationOutcome", "Binary", "DomainResource", "Resource")
    return tuple(name for name, elements in types().items() if "meta" in elements and name not in made)


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


@cache
def choice(kind: str, name: str) -> str:
    """``value`` for ``valueQuantity``: of the elements with the same one a resource has one (FHIR R4, formats#choice). Else `name`."""
    element = types().get(kind, {}).get(name)
    if element is None:
        return name
    suffix = element.kind[:1].upper() + element.kind[1:]
    prefix = name.removesuffix(suffix)
    others = [one for one in types()[kind] if prefix and one != name and one.startswith(prefix) and one[len(prefix) :][:1].isupper()]
    return prefix if prefix != name and prefix and others else name


def lacking(resource: str, targets: Sequence[Sequence[Step]]) -> list[tuple[int, str, str]]:
    """Parts that rules make without what they need, as (which of `targets`, the part, what it needs): a component without its code."""
    said = {_written(path[: number + 1]) for path in targets for number in range(len(path))}
    found = []
    for which, path in enumerate(targets):
        for number in range(1, len(path)):
            part = _written(path[:number])
            kind = element_at(resource, path[:number]).kind
            found += [
                (which, part, name) for name, element in types()[kind].items() if element.required and not _is_said(f"{part}.{name}", said)
            ]
    return found


def _is_said(path: str, said: set[str]) -> bool:
    return any(one.startswith(path) and one[len(path) :][:1] in ("", "[") for one in said)


def _written(path: Sequence[Step]) -> str:
    return path[-1].path.rstrip(".")


def _element(kind: str, name: str) -> Element:
    elements = types()[kind]
    found = elements.get(name)
    if found is None and name.startswith("_") and name[1:] in elements and elements[name[1:]].kind not in types():
        return Element(_PRIMITIVE, elements[name[1:]].repeats, False)
    if found is None:
        near = [one for one in elements if one.startswith(name)] or get_close_matches(name, elements, 3)
        hint = f"; did you mean {', '.join(near[:6])}?" if near else ""
        raise Unreadable(f"{kind} has no element {name!r}{hint}")
    return found
