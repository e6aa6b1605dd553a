"""Which elements of which services become which resources (tables/routes.csv), and the walk that drafts them.

services  names of services, or subjects (services.csv) for all services of that subject that are no queries
context   where the elements are, from the root of the message (sources.py)
map       the files of elements/ that fill the resource, in this order
write     `put` for what the message is about, `create` for what it only mentions: that must not overwrite what is known
links     `path=NAME`: a reference to the draft of that route or resource; `NAME.path`: from that draft to this one
key       what tells two of them apart that have no number of their own, see identity.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.formats.hip.services import SERVICES, Kind
from mappings import paths
from mappings.conditions import Unreadable, condition
from mappings.hip_to_fhir.context import HipDraft, HipTransaction, place
from mappings.hip_to_fhir.elements import ElementMap, reader
from mappings.hip_to_fhir.sources import Source, compile_source
from mappings.notes import Notes
from mappings.tables import Row


@dataclass(frozen=True, slots=True)
class Link:
    """A reference between two drafts. `every`: to each draft of that name, since the element repeats. Drafts of the same route have none
    among each other."""

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


class Drafts:
    """The drafts of one message, found by their element and by the name of their route or resource."""

    def __init__(self) -> None:
        self.all: list[HipDraft] = []
        self._at: dict[Any, list[HipDraft]] = {}
        self._named: dict[str, list[HipDraft]] = {}

    def add(self, draft: HipDraft) -> None:
        self.all.append(draft)
        self._at.setdefault(draft.element, []).append(draft)
        for name in {draft.route.id, draft.kind}:
            self._named.setdefault(name, []).append(draft)

    def around(self, element: Any) -> HipDraft | None:
        """The one whose element is closest around `element`, or is it."""
        return next((found[0] for one in _outwards(element) if (found := self._at.get(one))), None)

    def nearest(self, name: str, element: Any) -> HipDraft | None:
        """Of those of a name the one closest around `element`, else the first of the message."""
        named = self._named.get(name)
        if not named:
            return None
        around = (draft for one in _outwards(element) for draft in self._at.get(one, ()) if name in (draft.route.id, draft.kind))
        return next(around, named[0])

    def linked(self, link: Link, element: Any) -> list[HipDraft]:
        """What a link of the draft at `element` leads to."""
        if link.every:
            return self._named.get(link.name, [])
        nearest = self.nearest(link.name, element)
        return [nearest] if nearest is not None else []


def _outwards(element: Any) -> Iterator[Any]:
    while element is not None:
        yield element
        element = element.getparent()


def walk(routes: Iterable[Route], root: Any, tx: HipTransaction, settle: Callable[[list[HipDraft]], None]) -> list[HipDraft]:
    """Draft the resources, route by route; `settle` gives those of a route their identity, which later ones are built on."""
    drafts = Drafts()
    for route in routes:
        made = []
        for element, _ in route.context.find(root):
            if route.when is not None and not route.when(element):
                continue
            draft = HipDraft(route, element, drafts.around(element))
            draft.patient, draft.encounter = drafts.nearest("Patient", element), drafts.nearest("Encounter", element)
            for elements in route.elements:
                elements.apply(element, draft, tx)
            if len(draft.body) > 1:
                made.append(draft)
        for draft in made:
            _link(draft, drafts, tx)
        settle(made)
        if tx.notes is not None:
            _explain(tx.notes, made, drafts)
        for draft in made:
            drafts.add(draft)
    return drafts.all


def _link(draft: HipDraft, drafts: Drafts, tx: HipTransaction) -> None:
    for link in draft.route.forward:
        for other in drafts.linked(link, draft.element):
            link.put(draft, other.ref, tx, 0)
    for link in draft.route.reverse:
        for other in drafts.linked(link, draft.element)[:1]:
            link.put(other, draft.ref, tx, 0)


def _explain(notes: Notes, made: list[HipDraft], drafts: Drafts) -> None:
    """What nobody has claimed in a draft, or in one that refers to it, stems from its element."""
    for draft in made:
        source, rule = place((draft.element, "")), f"routes row {draft.route.id}"
        notes.claim(draft.body, source, rule)
        for link in draft.route.reverse:
            for other in drafts.linked(link, draft.element)[:1]:
                notes.claim(other.body, source, rule)
