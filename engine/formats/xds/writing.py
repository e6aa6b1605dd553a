"""engine.formats.xds.model -> ebRIM elements (IHE ITI TF-3 clause 4.2), in the order that the schema wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lxml import etree

from engine.formats.xds import names
from engine.formats.xds.model import Association, Author, Code, Described, DocumentEntry, Folder, Submission
from engine.formats.xds.names import ATTRIBUTES, LCM, NAMESPACES, RIM, XDSB

Element = Any
_TYPE: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"


def write_submission(submission: Submission, documents: Mapping[str, Element]) -> Element:
    """A ProvideAndRegisterDocumentSetRequest. `documents`: by entry id what its Document element holds (an xop:Include)."""
    root = etree.Element(f"{{{XDSB}}}ProvideAndRegisterDocumentSetRequest", nsmap={**NAMESPACES})
    request = etree.SubElement(root, f"{{{LCM}}}SubmitObjectsRequest")
    request.append(write_objects(submission))
    for name, content in documents.items():
        etree.SubElement(root, f"{{{XDSB}}}Document", {"id": name}).append(content)
    return root


def provide(objects: Element, documents: Mapping[str, Element]) -> Element:
    """The same around a RegistryObjectList that is there already, as a registry gave it."""
    root = write_submission(Submission(), documents)
    request = root[0]
    request.remove(request[0])
    request.append(objects)
    return root


def write_objects(submission: Submission) -> Element:
    objects = etree.Element(f"{{{RIM}}}RegistryObjectList", nsmap={"rim": RIM})
    number = 0

    def new_id() -> str:
        nonlocal number
        number += 1
        return f"id-{number}"

    for entry in submission.entries:
        objects.append(_described(entry, "ExtrinsicObject", new_id))
    for package in (*submission.sets, *submission.folders):
        element = _described(package, "RegistryPackage", new_id)
        node = names.FOLDER if isinstance(package, Folder) else names.SUBMISSION_SET
        _place(element, _node(package.id, node, new_id()))
        objects.append(element)
    for association in submission.associations:
        objects.append(_association(association, new_id()))
    return objects


def slot(name: str, values: Iterable[str]) -> Element:
    element = etree.Element(f"{{{RIM}}}Slot", {"name": name})
    listed = etree.SubElement(element, f"{{{RIM}}}ValueList")
    for value in values:
        etree.SubElement(listed, f"{{{RIM}}}Value").text = value
    return element


def _described(one: Described, tag: str, new_id: Any) -> Element:
    """Slots, Name, Description, classifications, external identifiers: the order of RegistryObjectType."""
    rows = ATTRIBUTES.of[one.kind]
    said = {row.name: one.get(row.attribute) for row in rows.values() if row.kind == "property" and row.name not in ("Name", "Description")}
    if isinstance(one, DocumentEntry):
        said["objectType"] = said["objectType"] or names.STABLE
    element = etree.Element(f"{{{RIM}}}{tag}", {name: value for name, value in said.items() if value})
    slots = {row.name: one.all(row.attribute) for row in rows.values() if row.kind == "slot"}
    element.extend([slot(name, values) for name, values in {**slots, **one.extra}.items() if values])
    for attribute, tagged in (("title", "Name"), ("comments", "Description")):
        if one.get(attribute):
            _localized(element, tagged, one.get(attribute))
    for attribute, codes in one.codes.items():
        element.extend([_coded(one.id, rows[attribute].name, code, new_id()) for code in codes])
    element.extend([_authored(one.id, rows["author"].name, author, new_id()) for author in one.authors])
    identifiers = [row for row in rows.values() if row.kind == "identifier" and one.get(row.attribute)]
    element.extend([_identifier(one, row.name, row.attribute, new_id()) for row in identifiers])
    return element


def _localized(parent: Element, tag: str, text: str) -> None:
    etree.SubElement(etree.SubElement(parent, f"{{{RIM}}}{tag}"), f"{{{RIM}}}LocalizedString", {"value": text})


def _classification(of: str, scheme: str, node: str, new_id: str) -> Element:
    said = {"id": new_id, "classifiedObject": of, "classificationScheme": scheme, "nodeRepresentation": node}
    return etree.Element(f"{{{RIM}}}Classification", {**said, "objectType": _TYPE + "Classification"})


def _coded(of: str, scheme: str, code: Code, new_id: str) -> Element:
    element = _classification(of, scheme, code.code, new_id)
    element.append(slot("codingScheme", [code.scheme]))
    _localized(element, "Name", code.display or code.code)
    return element


def _authored(of: str, scheme: str, author: Author, new_id: str) -> Element:
    element = _classification(of, scheme, "", new_id)
    told = {
        "authorPerson": author.persons,
        "authorInstitution": author.institutions,
        "authorRole": author.roles,
        "authorSpecialty": author.specialties,
        "authorTelecommunication": author.telecommunications,
    }
    for name, values in told.items():
        if values:
            element.append(slot(name, values))
    return element


def _node(of: str, node: str, new_id: str) -> Element:
    said = {"id": new_id, "classifiedObject": of, "classificationNode": node, "objectType": _TYPE + "Classification"}
    return etree.Element(f"{{{RIM}}}Classification", said)


def _place(element: Element, classification: Element) -> None:
    """Before the external identifiers."""
    first = element.find(f"{{{RIM}}}ExternalIdentifier")
    if first is None:
        element.append(classification)
    else:
        first.addprevious(classification)


def _identifier(one: Described, scheme: str, attribute: str, new_id: str) -> Element:
    said = {"id": new_id, "registryObject": one.id, "identificationScheme": scheme, "value": one.get(attribute)}
    element = etree.Element(f"{{{RIM}}}ExternalIdentifier", {**said, "objectType": _TYPE + "ExternalIdentifier"})
    _localized(element, "Name", f"XDS{one.kind}.{attribute}")
    return element


def _association(one: Association, new_id: str) -> Element:
    said = {"id": new_id, "associationType": one.kind, "sourceObject": one.source, "targetObject": one.target}
    element = etree.Element(f"{{{RIM}}}Association", {**said, "objectType": _TYPE + "Association"})
    if one.status:
        element.append(slot("SubmissionSetStatus", [one.status]))
    return element
