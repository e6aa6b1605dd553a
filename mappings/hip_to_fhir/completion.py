"""What makes valid resources of drafts that all rules have written to: doubles are united, fragments taken out, gaps said to be gaps."""

from __future__ import annotations

import re
from typing import Any, Final

from mappings.hip_to_fhir.context import HipTransaction
from mappings.hip_to_fhir.loading import Defaults
from mappings.hl7v2_to_fhir.loading import ABSENT
from mappings.transaction import Draft

_NEEDED: Final = {
    ("Encounter", "location"): ("location",),
    ("Encounter", "diagnosis"): ("condition",),
    ("Appointment", "participant"): ("actor", "type"),
    ("Patient", "link"): ("other",),
    ("Patient", "contact"): ("name", "telecom", "address", "organization"),
}
"""Items that are nothing without one of these elements (FHIR R4: app-1, pat-1, and what is required)."""
_CHOICES: Final = ("occurrence", "medication", "multipleBirth", "deceased", "value")
"""Elements that have one type of several (value[x])."""


def unite(tx: HipTransaction) -> None:
    """What the message is about and also mentions is one resource; no resource is part of itself."""
    for draft in tx.drafts:
        url = draft.ref["reference"]
        if (mentioned := tx.entries.pop(url, None)) is not None:
            for name, value in mentioned.body.items():
                draft.body.setdefault(name, value)
            if tx.notes is not None and url in tx.notes.ready:
                tx.notes.claim(draft.body, tx.notes.ready[url].source, tx.notes.ready[url].rule)
        if draft.body.get("partOf", {}).get("reference") == url:
            del draft.body["partOf"]


def complete(draft: Draft, defaults: Defaults, tx: HipTransaction) -> None:
    """Make one draft valid."""
    for choice in _CHOICES:
        for name in [name for name in draft.body if name.startswith(choice) and name[len(choice) : len(choice) + 1].isupper()][1:]:
            tx.lose(name, f"has {choice}[x] already")
            del draft.body[name]
    for (kind, name), needed in _NEEDED.items():
        if draft.kind == kind and name in draft.body:
            _prune(draft, name, needed, tx)
    if draft.kind == "Appointment":
        for one in draft.body.setdefault("participant", [{"actor": {"extension": [ABSENT]}}]):
            one.setdefault("status", "accepted")
    if "orderDetail" in draft.body and "code" not in draft.body:  # FHIR R4: prr-1
        draft.body["code"] = {"extension": [ABSENT]}
    for name, put, value in defaults.get(draft.kind, ()):
        if name not in draft.body and "_" + name not in draft.body:
            put(draft, value, tx, 0)


def _prune(draft: Draft, name: str, needed: tuple[str, ...], tx: HipTransaction) -> None:
    """Take out the items with none of `needed`, and what explains the others along with them."""
    kept = [number for number, item in enumerate(draft.body[name]) if any(item.get(one) for one in needed)]
    if len(kept) == len(draft.body[name]):
        return
    draft.body[name] = [draft.body[name][number] for number in kept]
    if not kept:
        del draft.body[name]
    known: dict[str, Any] | None = tx.notes.written.get(id(draft.body)) if tx.notes is not None else None
    if known is None:
        return
    begin = re.compile(rf"{name}\[(\d+)\]")
    for path, line in list(known.items()):
        if match := begin.match(path):
            del known[path]
            if int(match[1]) in kept:
                known[f"{name}[{kept.index(int(match[1]))}]{path[match.end() :]}"] = line
