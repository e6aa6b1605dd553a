"""What makes a resource of a row the same one in the next message, as mappings/hl7v2_to_fhir/identity.py has it.

A resource with an identifier that has a system is known by that, the same way as over HL7 v2: the patient with this number is one Patient
whichever way a message about it has come. Else by its `key`, or by the key of the row and its place among the details.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.formats.fhir import dump
from engine.formats.rows import Record
from mappings.hl7v2_to_fhir.identity import own_number
from mappings.hl7v2_to_fhir.references import query_of
from mappings.rows_to_fhir.compiling import Made
from mappings.rows_to_fhir.definitions import choice, elements
from mappings.rows_to_fhir.views import View, plain
from mappings.transaction import KEY_SYSTEM, Body, Draft, name_uuid


@dataclass(slots=True)
class Instance:
    """One resource of a record. `lineage`: path of a leaf -> (source, rule), while explaining."""

    made: Made
    view: View
    draft: Draft
    lineage: dict[str, tuple[str, str]] = field(default_factory=dict)
    unmapped: int = 0

    @property
    def place(self) -> str:
        return f"details.{self.made.each}[{self.view.number}]" if self.made.each else "row"


def settle(instance: Instance, facility: str) -> None:
    """Give it its identity, and a key of Meridian's where it has no identifier of its own."""
    draft, made = instance.draft, instance.made
    there: Any = draft.body.get("identifier") or []
    identifiers: list[Body] = there if isinstance(there, list) else [there]
    known = own_number(identifiers) if made.kind == "Patient" else next((one for one in identifiers if "system" in one), None)
    if known is not None and "value" in known:
        query = query_of(known)
        draft.identify(name_uuid(f"{made.kind} {query}"), query)
        return
    uuid = name_uuid(f"{made.kind} {_key(instance, facility)}")
    key = {"system": KEY_SYSTEM, "value": uuid}
    if _repeats(made.kind):
        at = len(identifiers)
        draft.body["identifier"] = [*identifiers, key]
        source = ", ".join(made.key_sources).replace("[*]", f"[{instance.view.number}]") or "key"
        instance.lineage |= {f"identifier[{at}].{name}": (source.partition(",")[0], "derived key") for name in key}
        draft.identify(uuid, query_of(key))
    else:
        draft.identify(uuid, "")


def _key(instance: Instance, facility: str) -> str:
    made, view = instance.made, instance.view
    values = [read(view).strip() for read in made.key]
    if any(values):
        return f"{facility} {made.name} {'|'.join(word.replace('|', '||') for word in values)}"
    return f"{facility} {row_key(view.record)} {made.name} {view.number if made.each else ''}".rstrip()


def row_key(record: Record) -> str:
    """The row as its database knows it; a row without a key is known by all that it says, its details too."""
    if not record.key:
        said = _joined(record.row) + (f"|{dump(record.details).decode()}" if record.details else "")
        return f"{record.origin} {record.table} {name_uuid(said)}"
    return f"{record.origin} {record.table} {_joined(record.key)}"


def _joined(columns: Mapping[str, Any]) -> str:
    """No value can be taken for the end of one and the next."""
    return "|".join(f"{name}={plain(value).replace('|', '||')}" for name, value in columns.items())


def _repeats(kind: str) -> bool:

    found = elements(kind).get("identifier")
    return found is not None and found.repeats


def merged(instances: Iterable[Instance]) -> list[Instance]:
    """Of two that turn out to be the same resource the first takes what it lacks from the other."""
    settled: dict[tuple[str, str], Instance] = {}
    for one in instances:
        same = settled.setdefault((one.made.kind, one.draft.ref["reference"]), one)
        if same is one:
            continue
        said = {choice(one.made.kind, name.lstrip("_")) for name in same.draft.body}
        for name, value in one.draft.body.items():
            if choice(one.made.kind, name.lstrip("_")) not in said:
                same.draft.body[name] = value
                inside = (f"{name}.", f"{name}[")
                same.lineage |= {path: line for path, line in one.lineage.items() if path == name or path.startswith(inside)}
        same.unmapped += one.unmapped
    return list(settled.values())
