"""Structured reports (PS3.3 clause C.17, PS3.16) -> DiagnosticReport and Observations, whatever their template.

A container is an Observation of its parts (`hasMember`), an item with a value an Observation; what modifies an item becomes its body site,
method or a component; the images it was taken from are in `derivedFrom`. What a concept means for the others is said in tables/roles.csv.
The whole tree stands as text in the report's presentedForm, so that it can be read as it was written.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from engine.formats.dicom import DataSet
from mappings.dicom_to_fhir.content import Item, Reader, evidence, tree
from mappings.dicom_to_fhir.context import DicomTransaction, View
from mappings.dicom_to_fhir.converters import DICOM_UID, date_time
from mappings.dicom_to_fhir.loading import Compiled
from mappings.dicom_to_fhir.study import Study
from mappings.hl7v2_to_fhir.references import query_of, ready
from mappings.hl7v2_to_fhir.terminology import TERMINOLOGY, coding
from mappings.transaction import KEY_SYSTEM, Body, Draft, name_uuid

SOP_UID: Final = 0x00080018
CONTENT: Final = 0x0040A730
OBSERVATION_DATE: Final = 0x0040A032
_CATEGORY: Final = {"coding": [coding(TERMINOLOGY + "observation-category", "imaging", "Imaging")]}
_UNMAPPED: Final = {"system": "urn:meridian:mapping", "code": "unmapped-test", "display": "The concept is of a private coding scheme"}
_STATUS: Final = {"final": "final", "amended": "amended"}
_ABSENT: Final = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
_INHERITED: Final = 8
"""How many components an observation takes over from what it is part of."""
_OBSERVER: Final = frozenset(("person", "organization", "device-uid", "device-name", "maker", "model", "serial"))
_MODIFIES: Final = frozenset(("HAS CONCEPT MOD", "HAS PROPERTIES", "HAS OBS CONTEXT", "HAS ACQ CONTEXT"))


def is_document(one: DataSet) -> bool:
    """Whether an instance is a structured report: it has a content tree."""
    return bool(one.items(CONTENT)) or (one.text(0x0040A040) == "CONTAINER" and 0x0040A043 in one.elements)


def report(study: Study, compiled: Compiled, tx: DicomTransaction, one: DataSet) -> int:
    """Draft the report of one instance; how many of its concepts are of a private coding scheme."""
    return _Report(study, compiled, tx, one).draft()


class _Report:
    """One document."""

    def __init__(self, study: Study, compiled: Compiled, tx: DicomTransaction, one: DataSet) -> None:
        self._study, self._roles, self._people, self._tx, self._one = study, compiled.roles, compiled.people, tx, one
        self._organization = compiled.organization
        self._read = Reader(compiled.concepts, tx)
        self._uid = one.text(SOP_UID)
        self._studies = evidence(one)
        self._root = tree(one)
        self._observer: Body = {}
        self._conclusions: list[str] = []
        self._unmapped = 0

    def draft(self) -> int:
        draft = self._study.draft("DiagnosticReport", "put", "SOPInstanceUID")
        self._study.apply("DiagnosticReport", View([self._one]), draft)
        body = draft.body
        draft.identify(name_uuid(f"DiagnosticReport {self._uid}"), query_of(body["identifier"][0]))
        body.setdefault("status", "unknown")
        body.setdefault("code", _ABSENT)
        self._status = _STATUS.get(body["status"], "preliminary")
        self._at = body.get("effectiveDateTime") or self._study.study.body.get("started")
        body["subject"] = self._study.patient.ref
        if self._study.orders:
            body["basedOn"] = self._study.orders
        others = sorted(set(self._studies.values()) - {self._study.uid, ""})
        body["imagingStudy"] = [self._study.study.ref, *({"type": "ImagingStudy", "identifier": _uid(other)} for other in others)]
        self._observers()
        if actor := self._observer.get("who"):
            body.setdefault("performer", []).extend(who for who in actor if who not in body.get("performer", ()))
        results = self._members(self._root, "", [])
        if images := self._images(self._root):
            results.insert(0, self._selection(images, body["code"]))
        if results:
            body["result"] = results
        if self._conclusions:
            body["conclusion"] = "\n".join(self._conclusions)
        text = self._read.narrative(self._root)
        body["presentedForm"] = [
            {"contentType": "text/plain; charset=utf-8", "data": b64encode(text.encode()).decode(), "title": self._root.title or "Report"}
        ]
        self._claim(body, self._one, "report")
        return self._unmapped

    def _claim(self, body: Body, holder: DataSet, rule: str) -> None:
        if self._tx.notes is not None:
            self._tx.notes.claim(body, holder.path + "ValueType" if holder.text(0x0040A040) else holder.path + "SOPInstanceUID", rule)

    # --- who observed (TID 1001 to 1004) -----------------------------------------------------------

    def _observers(self) -> None:
        """The persons and the device that the document's observation context names."""
        found: dict[str, str] = {}
        who: list[Body] = []
        for item in self._root.children:
            role = self._roles.get(item.concept, "") if item.relationship == "HAS OBS CONTEXT" else ""
            text = self._read.text(item)
            if role == "person" and (person := self._people.person(text, "", "", self._tx)):
                who.append(person)
                self._made(person, item)
            elif role == "organization" and (house := self._organization((item.data, 0, text), self._tx)):
                who.append(house)
                self._made(house, item)
            elif role in _OBSERVER and text:
                found.setdefault(role, text)
        if found:
            who.append(self._device(found))
        if who:
            self._observer["who"] = who

    def _made(self, reference: Body, item: Item) -> None:
        if self._tx.notes is not None:
            self._tx.notes.made([reference["reference"]], item.place, "roles.csv")

    def _device(self, found: dict[str, str]) -> Body:
        body: Body = {}
        if uid := found.get("device-uid"):
            body["identifier"] = [_uid(uid)]
        names = [
            {"name": found[role], "type": kind}
            for role, kind in (("device-name", "user-friendly-name"), ("model", "model-name"))
            if role in found
        ]
        if names:
            body["deviceName"] = names
        body |= {name: found[role] for role, name in (("maker", "manufacturer"), ("serial", "serialNumber")) if role in found}
        made = ready("Device", body, f"{self._tx.facility} {' '.join(found.values())}")
        if self._tx.notes is not None:
            self._tx.notes.made([made.url], self._one.path + "ContentSequence", "roles.csv: device observer")
        return self._tx.refer(made)

    # --- content ---------------------------------------------------------------------------------

    def _members(self, container: Item, position: str, inherited: list[Body]) -> list[Body]:
        """References to the observations of a container's items. `inherited` are components that hold for all of them."""
        context = [part for item in container.children if self._role(item) == "inherit" and (part := self._component(item))]
        context = context[: _INHERITED - len(inherited)]
        made = []
        for number, item in enumerate(container.children, 1):
            here = f"{position}.{number}" if position else str(number)
            if item.relationship in _MODIFIES and not item.children and container is not self._root:
                continue
            if container is self._root and (self._role(item) in _OBSERVER or item.is_reference):
                continue
            if (reference := self._observation(item, here, [*inherited, *context])) is not None:
                made.append(reference)
        return made

    def _role(self, item: Item) -> str:
        return self._roles.get(item.concept, "")

    def _observation(self, item: Item, position: str, inherited: list[Body]) -> Body | None:
        """An Observation of an item that has a value, or of a container that holds something; a reference to it."""
        if item.is_reference and not item.children:
            return None
        value = self._read.value(item)
        draft = Draft("Observation", "put", "ContentSequence", [], {})
        body = draft.body
        members = self._members(item, position, inherited) if item.is_container else self._beneath(item, position, body, inherited)
        images = self._images(item)
        modified = [one for one in item.children if one.relationship in _MODIFIES and not one.children]
        if value is None and not members and not images and not modified:
            return None
        self._describe(draft, item, position)
        if value is not None:
            body |= value
        if self._role(item) == "conclusion" or (item.parent is not None and self._role(item.parent) == "conclusion"):
            self._conclude(item)
        components = [*inherited]
        for one in modified:
            self._modify(body, one, components)
        if components:
            body["component"] = components
        if members:
            body["hasMember"] = members
        if images:
            body.setdefault("derivedFrom", []).extend(images)
        if not any(name.startswith("value") or name in ("hasMember", "component", "dataAbsentReason") for name in body):
            body["dataAbsentReason"] = {"coding": [coding(TERMINOLOGY + "data-absent-reason", "not-applicable")]} if images else _reason()
        self._claim(body, item.data, f"content item {position}")
        self._tx.drafts.append(draft)
        return draft.ref

    def _describe(self, draft: Draft, item: Item, position: str) -> None:
        """What every observation has."""
        body = draft.body
        uuid = name_uuid(f"Observation {self._uid} {position}")
        body["identifier"] = [{"system": KEY_SYSTEM, "value": uuid}]
        draft.identify(uuid, query_of(body["identifier"][0]))
        body["status"] = self._status
        body["category"] = [_CATEGORY]
        body["code"] = self._read.name(item) or {"text": item.value_type.capitalize() or "Content"}
        if item.scheme.startswith("99") and len(body["code"].get("coding", ())) < 2:
            body["meta"] = {"tag": [_UNMAPPED]}
            self._unmapped += 1
        body["subject"] = self._study.patient.ref
        own = item.data.text(OBSERVATION_DATE)
        at = (date_time((item.data, OBSERVATION_DATE, own), self._tx) if own else None) or self._at
        if at:
            body["effectiveDateTime"] = at
        if who := self._observer.get("who"):
            body["performer"] = who

    def _beneath(self, item: Item, position: str, body: Body, inherited: list[Body]) -> list[Body]:
        """The items below one with a value: what it was inferred from, and what is more than a modifier."""
        members: list[Body] = []
        sources: list[Body] = []
        for number, child in enumerate(item.children, 1):
            if child.is_reference or (child.relationship in _MODIFIES and not child.children):
                continue
            reference = self._observation(child, f"{position}.{number}", inherited)
            if reference is not None:
                (sources if child.relationship in ("INFERRED FROM", "SELECTED FROM") else members).append(reference)
        if sources:
            body["derivedFrom"] = sources
        return members

    def _modify(self, body: Body, item: Item, components: list[Body]) -> None:
        """A modifier as the element it is, else as a component."""
        role = self._role(item)
        concept = self._read.coded(item)
        if role in ("bodySite", "method") and concept is not None and role not in body:
            body[role] = concept
        elif role == "laterality" and concept is not None and "bodySite" in body:
            body["bodySite"] = {**body["bodySite"], "coding": [*body["bodySite"].get("coding", []), *concept.get("coding", [])]}
        elif (component := self._component(item)) and component not in components[:_INHERITED]:
            components.append(component)

    def _component(self, item: Item) -> Body | None:
        value = self._read.value(item)
        if value is None:
            return None
        return {"code": self._read.name(item) or {"text": item.value_type}, **value}

    def _conclude(self, item: Item) -> None:
        if (text := self._read.text(item)) and not item.is_container:
            self._conclusions.append(text)

    # --- images ----------------------------------------------------------------------------------

    def _images(self, item: Item) -> list[Body]:
        """The instances that an item refers to itself, or through what was drawn on them."""
        found: list[Body] = []
        for child in item.children if not item.is_reference else [item]:
            if child.is_reference:
                found += [self._image(*one) for one in self._read.references(child)]
        return list({str(one): one for one in found}.values())

    def _image(self, uid: str, kind: str, frames: str) -> Body:
        """A reference to the study, with the instance's UID."""
        shown = " ".join(word for word in (kind, f"frame {frames}" if frames else "") if word)
        of = self._studies.get(uid, "")
        made: Body = {"identifier": _uid(uid)}
        if of in ("", self._study.uid):
            made["reference"] = self._study.study.ref["reference"]
        else:
            made["type"] = "ImagingStudy"
            made["identifier"] = {**_uid(of), "assigner": {"display": f"instance {uid}"}}
        return {**made, "display": shown} if shown else made

    def _selection(self, images: list[Body], code: Body) -> Body:
        """The instances that the document itself selects (Key Object Selection, TID 2010)."""
        draft = Draft("Observation", "put", "ContentSequence", [], {})
        self._describe(draft, self._root, "0")
        draft.body |= {"code": code, "derivedFrom": images, "valueString": f"{len(images)} instances"}
        self._claim(draft.body, self._one, "selected instances")
        self._tx.drafts.append(draft)
        return draft.ref


def _reason() -> Body:
    return {"coding": [coding(TERMINOLOGY + "data-absent-reason", "unknown")]}


def _uid(uid: str) -> Body:
    return {"system": DICOM_UID, "value": f"urn:oid:{uid}"}
