"""Which elements of which services become which resources (tables/routes.csv), and the walk that drafts them.

services  names of services, or subjects (services.csv) for all services of that subject that are no queries
context   where the elements are, from the root of the message (sources.py)
map       the files of elements/ that fill the resource, in this order
write     `put` for what the message is about, `create` for what it only mentions: that must not overwrite what is known
links     `path=NAME`: a reference to the draft of that route or resource; `NAME.path`: from that draft to this one
key       what tells two of them apart that have no number of their own, see identity.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.formats.hip.services import SERVICES, Kind
from mappings import paths
from mappings.conditions import Unreadable, condition
from mappings.hip_to_fhir.context import HipDraft, HipTransaction, place
from mappings.hip_to_fhir.elements import ElementMap, reader
from mappings.hip_to_fhir.sources import Source, compile_source
from mappings.tables import Row


@dataclass(frozen=True, slots=True)
class Link:
    """A reference between two drafts. `every`: to each draft of that name, since the element repeats."""

    put: paths.Put
    name: str
    every: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled row."""

    row: Row
    id: str
    resource: str
    write: str
    context: Source
    elements: tuple[ElementMap, ...]
    forward: tuple[Link, ...]
    reverse: tuple[Link, ...]
    key: tuple[str, ...]
    when: Callable[[Any], bool] | None


def compile_route(row: Row, elements: Iterable[ElementMap], urls: Mapping[str, str]) -> Route:
    """Raises Unreadable."""
    if row["write"] not in ("put", "create"):
        raise Unreadable(f"write is 'put' or 'create', not {row['write']!r}")
    forward: list[Link] = []
    reverse: list[Link] = []
    for word in row["links"].split():
        path, mark, name = word.partition("=")
        if not mark:
            name, _, path = word.partition(".")
        put = paths.compile_put(paths.steps(path, urls))
        (forward if mark else reverse).append(Link(put, name, path.endswith("[]")))
    when = condition(row["when"], reader) if row["when"] else None
    context = compile_source(row["context"])
    key = tuple(row["key"].split())
    return Route(row, row["id"], row["resource"], row["write"], context, tuple(elements), tuple(forward), tuple(reverse), key, when)


def services_of(word: str) -> list[str]:
    """The services that a word of the `services` column means: itself, or all of a subject that change something."""
    if word in SERVICES:
        return [word]
    return [service.name for service in SERVICES.values() if service.subject == word and service.kind is not Kind.QUERY]


def walk(routes: Iterable[Route], root: Any, tx: HipTransaction, settle: Callable[[list[HipDraft]], None]) -> list[HipDraft]:
    """Draft the resources, route by route; `settle` gives those of a route their identity, which later ones are built on."""
    drafts: list[HipDraft] = []
    for route in routes:
        made = []
        for element, _ in route.context.find(root):
            if route.when is not None and not route.when(element):
                continue
            draft = HipDraft(route, element, _around(element, drafts))
            draft.patient, draft.encounter = _nearest("Patient", element, drafts), _nearest("Encounter", element, drafts)
            for elements in route.elements:
                elements.apply(element, draft, tx)
            if len(draft.body) > 1:
                made.append(draft)
        for draft in made:
            _link(draft, [*drafts, *made], tx)
        settle(made)
        drafts += made
    return drafts


def _link(draft: HipDraft, drafts: list[HipDraft], tx: HipTransaction) -> None:
    route = draft.route
    for link in route.forward:
        for other in _named(link, draft, drafts):
            link.put(draft, other.ref, tx, 0)
    for link in route.reverse:
        for other in _named(link, draft, drafts)[:1]:
            link.put(other, draft.ref, tx, 0)
            if tx.notes is not None:
                tx.notes.claim(other.body, place((draft.element, "")), f"routes row {route.id}")
    if tx.notes is not None:
        tx.notes.claim(draft.body, place((draft.element, "")), f"routes row {route.id}")


def _named(link: Link, draft: HipDraft, drafts: list[HipDraft]) -> list[HipDraft]:
    others = [one for one in drafts if one is not draft and link.name in (one.route.id, one.kind)]
    if link.every:
        return others
    nearest = _nearest(link.name, draft.element, others)
    return [nearest] if nearest is not None else []


def _nearest(name: str, element: Any, drafts: list[HipDraft]) -> HipDraft | None:
    """Of the drafts of a name the one whose element is closest around `element`, else the first of the message."""
    named = [one for one in drafts if name in (one.route.id, one.kind)]
    around = _around(element, named)
    return around if around is not None else next(iter(named), None)


def _around(element: Any, drafts: list[HipDraft]) -> HipDraft | None:
    while element is not None:
        for one in drafts:
            if one.element is element:
                return one
        element = element.getparent()
    return None
