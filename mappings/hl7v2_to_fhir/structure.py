"""Walks the segments of a message and decides what each becomes.

The segment groups of the families (ADT, ORU, ORM, OML, OUL) differ little in what matters: a PID opens a patient, an ORC,
or an OBR that has no ORC, opens an order, OBX and SPM belong to the order that is open, and a NTE to what it
follows. Read this way, a message whose segments are out of order, doubled or missing still gives all that it says.
An instrument's OUL^R22 (HL7 v2.5.1 clause 13.3.3) is about specimens: a SPM opens one, several orders may follow for it, and an ORC
stands behind its OBR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mappings.conditions import NULL, Condition
from mappings.hl7v2_to_fhir.context import V2Transaction
from mappings.paths import Put
from mappings.rules import Map
from mappings.tables import Row
from mappings.transaction import Draft

_ANCHORS: Final = {
    "PID": "PID",
    "PD1": "PID",
    "PV1": "PV1",
    "PV2": "PV1",
    "ORC": "ORC",
    "OBR": "ORC",
    "TQ1": "ORC",
    "OBX": "OBX",
    "SPM": "SPM",
    "DG1": "DG1",
}
_OF_ORDER: Final = ("ServiceRequest", "DiagnosticReport", "Observation", "Specimen", "Condition", "Provenance")
_ORDER_SEGMENTS: Final = ("ORC", "OBR", "SPM", "TQ1", "OBX", "NTE")
_NEW_ORDER: Final = frozenset(("NW", "CA", "XO", "RP", "SC", "DC", "RO"))

Segments = list[list[str]]


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled row of messages.csv: what one segment writes."""

    row: Row
    kind: str
    new: bool
    map: Map
    forward: tuple[tuple[Put, str], ...]
    reverse: tuple[tuple[Put, str], ...]
    write: str
    when: Condition | None


Routes = dict[tuple[str, str], tuple[Route, ...]]
"""(family, segment or segment@anchor) -> routes in the order of the table"""


@dataclass(slots=True)
class Walk:
    """One pass over one message."""

    routes: Routes
    family: str
    tx: V2Transaction
    view: dict[str, list[str]] = field(default_factory=dict)
    current: dict[str, Draft] = field(default_factory=dict)
    anchor: str = "PID"
    order: list[Draft] | None = None
    orders: list[list[Draft]] = field(default_factory=list)
    prior: bool = False
    awaits_obr: bool = False

    def all(self, segments: Segments) -> None:
        """Route every segment."""
        for index, fields in enumerate(segments):
            name = fields[0]
            self.tx.turn += 1
            if name == "PID":
                if self._is_prior_patient(fields):
                    self.prior = True
                    continue
                self._open_patient(fields)
            elif name == "SPM" and self.family == "OUL":
                self._open_specimen()
            elif self._begins_order(segments, index):
                self._open_order(segments, index)
            if name == "OBR":
                self.awaits_obr = False
            self.segment(name, fields)
        self._close_order()

    def segment(self, name: str, fields: list[str]) -> None:
        """Apply the routes for one segment."""
        family = "PRIOR" if self.prior and self.order is not None else self.family
        self.anchor = _ANCHORS.get(name, self.anchor)
        routes = self.routes.get((family, name))
        if routes is None:
            place = ("ORDER" if self.order is not None else "PATIENT") if name == "OBX" else self.anchor
            routes = self.routes.get((family, f"{name}@{place}"))
        if routes is None:
            if self.tx.trace is not None:
                self.tx.trace.unread(fields)
            return
        self.view[name] = fields
        for route in routes:
            if route.when is None or route.when(self.view):
                self._apply(route, fields)

    def _apply(self, route: Route, fields: list[str]) -> None:
        draft = None if route.new else self.current.get(route.kind)
        if draft is None:
            draft = self._make(route, fields)
        route.map.apply(fields, draft, self.tx, self.view)

    def _make(self, route: Route, fields: list[str]) -> Draft:
        current, tx = self.current, self.tx
        draft = Draft(route.kind, route.write, f"{fields[0]}[{tx.turn}]", fields, self.view)
        draft.patient, draft.encounter = current.get("Patient"), current.get("Encounter")
        tx.drafts.append(draft)
        if tx.trace is not None:
            tx.trace.made(draft, route.row["id"])
        for put, kind in route.forward:
            other = current.get(kind)
            if other is not None:
                put(draft, other.ref, tx, 0)
        for put, kind in route.reverse:
            other = current.get(kind)
            if other is not None:
                put(other, draft.ref, tx, 0)
        if fields[0] == "MRG" and route.kind == "Patient":
            self._merge(draft)
        else:
            current[route.kind] = draft
        if self.order is not None:
            self.order.append(draft)
            draft.order = self.order[0]
        return draft

    def _merge(self, gone: Draft) -> None:
        """MRG: the prior record is replaced by the PID's, and each says so (ADT^A40)."""
        survivor = self.current.get("Patient")
        if survivor is not None:
            survivor.body.setdefault("link", []).append({"other": gone.ref, "type": "replaces"})
            gone.body["link"] = [{"other": survivor.ref, "type": "replaced-by"}]

    def _is_prior_patient(self, fields: list[str]) -> bool:
        """In an order message a PID after an order, for the same patient, begins earlier results."""
        first = self.view.get("PID")
        same = first is not None and len(fields) > 3 and len(first) > 3 and fields[3] == first[3]
        return self.family == "OML" and self.order is not None and same

    def _open_patient(self, fields: list[str]) -> None:
        self._close_order()
        header = self.current.get("MessageHeader")
        self.current.clear()
        if header is not None:
            self.current["MessageHeader"] = header
        self.view = {name: value for name, value in self.view.items() if name in ("MSH", "EVN")}
        self.view["PID"] = fields

    def _open_specimen(self) -> None:
        """The orders that follow are for the specimen that begins here."""
        self._close_order()
        self._forget(_OF_ORDER, _ORDER_SEGMENTS)

    def _begins_order(self, segments: Segments, index: int) -> bool:
        name = segments[index][0]
        if name == "ORC":
            return not (self.family == "OUL" and segments[index - 1][0] == "OBR")
        return name == "OBR" and not self.awaits_obr

    def _forget(self, kinds: Sequence[str], names: Sequence[str]) -> None:
        for kind in kinds:
            self.current.pop(kind, None)
        self.view = {name: value for name, value in self.view.items() if name not in names}

    def _open_order(self, segments: Segments, index: int) -> None:
        main = self.current.get("ServiceRequest")
        self._close_order()
        self.awaits_obr = segments[index][0] == "ORC"
        if self.family == "OUL":
            self._forget([kind for kind in _OF_ORDER if kind != "Specimen"], [name for name in _ORDER_SEGMENTS if name != "SPM"])
            self.view |= _ahead(segments, index, ("ORC", "OBR", "TQ1"), ends=("SPM", "PID"))
        else:
            self._forget(_OF_ORDER, _ORDER_SEGMENTS)
            self.view |= _ahead(segments, index, ("OBR", "SPM", "TQ1"), ends=("ORC", "PID"))
        self.order = []
        control = component(self.view.get("ORC") or [], 1)
        if self.family == "OML":
            self.prior = control == "PR" or (self.prior and control not in _NEW_ORDER)
            if self.prior and main is not None:
                self.current["ServiceRequest"] = main

    def _close_order(self) -> None:
        if self.order is None:
            return
        specimens = [draft for draft in self.order if draft.kind == "Specimen"]
        if len(specimens) == 1:
            for draft in self.order:
                if draft.kind == "Observation" and "specimen" not in draft.body:
                    draft.body["specimen"] = specimens[0].ref
        self.orders.append(self.order)
        self.order = None


def _ahead(segments: Segments, index: int, wanted: Sequence[str], ends: Sequence[str]) -> dict[str, list[str]]:
    """The first of each `wanted` segment of the order that begins at `index`."""
    found = {segments[index][0]: segments[index]}
    for fields in segments[index + 1 :]:
        name = fields[0]
        if name in ends or (name == "OBR" and "OBR" in found):
            break
        if name in wanted:
            found.setdefault(name, fields)
    return found


def component(fields: list[str], number: int) -> str:
    """The first component of a field, "" where it is absent or null."""
    value = fields[number].split("^", 1)[0] if number < len(fields) else ""
    return "" if value == NULL else value
