"""The `target` column: where in a resource a value goes, compiled to a closure.

gender                       a single element; the first value stays
identifier[]                 a new list item for every value
participant[ATND].individual a list item with a label: every row with this label fills the same item
                             (one item per repetition of the source field)
extension[patient-religion].valueCodeableConcept    an extension; a bare name is one of HL7's, inside an
                             extension the name itself, and a name listed in systems.csv its url
requester(PractitionerRole).practitioner            the element refers to a new resource, which is filled
organization>telecom[]       from a reference that is there to the resource it points to
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mappings.conditions import Unreadable
from mappings.transaction import Body, Defaulted, Draft, Transaction, Unfit

STRUCTURE_DEFINITION: Final = "http://hl7.org/fhir/StructureDefinition/"

_STEP: Final = re.compile(r"(_?[A-Za-z][A-Za-z0-9]*)(?:\[([^\]]*)\])?(?:\(([A-Za-z]+)\))?([.>]|$)")

Put = Callable[[Draft, Any, Transaction, int], None]
"""put(draft, value, transaction, repetition)"""

Finish = Callable[[Body, Any, Transaction, int], None]

Go = Callable[[Body, Draft, Transaction, int], Body | None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path. `label` is None without brackets, "" for `[]`; `url` is an extension's."""

    name: str
    label: str | None
    kind: str
    follow: bool
    path: str
    url: str = ""


def steps(text: str, urls: Mapping[str, str]) -> list[Step]:
    """`text` in steps. Raises Unreadable."""
    found: list[Step] = []
    position, nested = 0, False
    while position < len(text):
        match = _STEP.match(text, position)
        if not match or not match[0]:
            raise Unreadable(f"{text[position:]!r} is not a path")
        name, label, kind, mark = match.groups()
        url = ""
        if name == "extension":
            if not label:
                raise Unreadable("an extension needs a name in its brackets")
            url = label if nested else urls.get(label) or (label if ":" in label else STRUCTURE_DEFINITION + label)
            nested = True
        position = match.end()
        found.append(Step(name, label, kind or "", mark == ">", text[:position], url))
    if not found or text.endswith((".", ">")):
        raise Unreadable(f"{text!r} does not end in an element")
    return found


def labels(text: str) -> list[str]:
    """The labelled items that a path goes through, as the path up to each."""
    return [text[: match.end(2) + 1] for match in _STEP.finditer(text) if match[2]]


def compile_put(path: list[Step], joins: frozenset[str] = frozenset()) -> Put:
    """A closure that puts a value at `path`. Of the labelled items in `joins` none is made: where it is not there, nothing is put."""
    going = [_go(step, joins) for step in path[:-1]]
    last = path[-1]
    finish = _finish(last)
    if not going:
        return _put_top(last, finish)
    if len(going) == 1:
        return _put_inside(going[0], last, finish)

    def put(draft: Draft, value: Any, transaction: Transaction, repetition: int) -> None:
        container = draft.body
        for go in going:
            inner = go(container, draft, transaction, repetition)
            if inner is None:
                return
            container = inner
        finish(container, value, transaction, repetition)

    return put


def _put_top(last: Step, finish: Finish) -> Put:
    """An element of the resource itself."""
    name = last.name
    if last.label is not None:
        return lambda draft, value, transaction, repetition: finish(draft.body, value, transaction, repetition)

    def put(draft: Draft, value: Any, transaction: Transaction, repetition: int) -> None:
        body = draft.body
        if name in body or isinstance(value, Unfit):
            finish(body, value, transaction, repetition)
        else:
            body[name] = value

    return put


def _put_inside(go: Go, last: Step, finish: Finish) -> Put:
    """An element one step down; what is single and new there needs no more than an assignment."""
    name, plain = last.name, last.label is None

    def put(draft: Draft, value: Any, transaction: Transaction, repetition: int) -> None:
        container = go(draft.body, draft, transaction, repetition)
        if container is None:
            return
        if plain and name not in container and not isinstance(value, Unfit):
            container[name] = value
        else:
            finish(container, value, transaction, repetition)

    return put


def _finish(step: Step) -> Finish:
    name, label, path = step.name, step.label, step.path.rstrip(".>")

    def single(container: Body, value: Any, transaction: Transaction, _: int) -> None:
        if isinstance(value, Unfit):
            if "url" in container:  # an extension's value: said as text instead
                container["valueString"] = value.text
                return
            container.setdefault("_" + name, {}).setdefault("extension", []).append(value.extension)
            if not isinstance(value, Defaulted):
                return
            value = value.value
        if name not in container:
            container[name] = value
        elif transaction.losses is not None and container[name] != value:
            transaction.lose(path, "has a value already and does not repeat")

    def many(container: Body, value: Any, transaction: Transaction, _: int) -> None:
        if isinstance(value, Unfit):
            transaction.lose(path, "cannot be said in this element")
            if not isinstance(value, Defaulted):
                return
            value = value.value
        there = container.get(name)
        if there is None:
            container[name] = list(value) if isinstance(value, list) else [value]
        elif isinstance(value, list):
            there.extend(value)
        else:
            there.append(value)

    def labelled(container: Body, value: Any, transaction: Transaction, repetition: int) -> None:
        key = (id(container), path, repetition, transaction.turn)
        item = transaction.items.get(key)
        if item is None:
            item = transaction.items[key] = {}
            container.setdefault(name, []).append(item)
        for key, part in value.items():
            item.setdefault(key, part)

    return single if label is None else many if label == "" else labelled


def _go(step: Step, joins: frozenset[str]) -> Go:
    name, label, path, kind = step.name, step.label, step.path, step.kind
    start = {"url": step.url} if step.url else {}

    def single(container: Body, _: Draft, transaction: Transaction, __: int) -> Body:
        key = (id(container), name, -1, -1)
        known: Body | None = transaction.items.get(key)
        if known is not None and id(container.get(name)) == id(known):
            return known
        # a value that is there already may be a remembered one, shared among messages: what is written into is a copy
        there: Body = container.get(name) or {}
        inner: Body = {part: value[:] if isinstance(value, list) else value for part, value in there.items()}
        container[name] = transaction.items[key] = inner
        return inner

    def many(container: Body, _: Draft, __: Transaction, ___: int) -> Body:
        item: Body = {}
        container.setdefault(name, []).append(item)
        return item

    key_path = path.rstrip(".>")
    joining = any(key_path == join or key_path.startswith(join + "(") for join in joins)

    def labelled(container: Body, _: Draft, transaction: Transaction, repetition: int) -> Body | None:
        key = (id(container), key_path, repetition, transaction.turn)
        item = transaction.items.get(key)
        if item is None:
            if joining:
                return None
            item = transaction.items[key] = dict(start)
            container.setdefault(name, []).append(item)
        return item

    reach = single if label is None else many if label == "" else labelled
    if kind:
        return _into_new(reach, kind, key_path, lasting=label is None)
    return _follow(reach) if step.follow else reach


def _into_new(reach: Go, kind: str, path: str, *, lasting: bool) -> Go:
    """A resource in a single element lasts (ORC and OBR fill one requester); one in a list belongs to its segment."""

    def into_new(container: Body, draft: Draft, transaction: Transaction, repetition: int) -> Body | None:
        key = (id(container), "new " + path, repetition, 0 if lasting else transaction.turn)
        body = transaction.items.get(key)
        if body is None:
            reference = reach(container, draft, transaction, repetition)
            if reference is None:
                return None
            child = transaction.child(reference, kind, draft)
            child.ref = reference
            body = transaction.items[key] = child.body
        return body

    return into_new


def _follow(reach: Go) -> Go:
    def follow(container: Body, draft: Draft, transaction: Transaction, repetition: int) -> Body | None:
        reference = reach(container, draft, transaction, repetition)
        url = reference.get("reference") if reference else None
        return transaction.amend(url) if url in transaction.entries else None

    return follow
