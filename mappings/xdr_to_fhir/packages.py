"""Submission set and folders -> List, as MHD has them (IHE ITI TF-3 clause 4.5.1.2, profile IHE.MHD.Comprehensive.SubmissionSet)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.formats.xds.model import Described, Folder, Submission, SubmissionSet
from engine.formats.xds.names import DEPRECATED, HAS_MEMBER
from mappings.cda_to_fhir import Mapped
from mappings.hl7v2_to_fhir.references import query_of
from mappings.transaction import Body, Draft, name_uuid
from mappings.xdr_to_fhir.metadata import Metadata, utc

_MHD: Final = "https://profiles.ihe.net/ITI/MHD"
_URI: Final = "urn:ietf:rfc:3986"
_OID: Final = "urn:oid:"


def submission_list(metadata: Metadata, submission: Submission, made: Mapping[str, Mapped], patient: Draft) -> Draft:
    the_set = submission.set
    draft = _begun(metadata, the_set, "submissionset", "Submission set", patient)
    body, path = draft.body, the_set.path
    extensions = [_source(metadata, the_set), *_designation(metadata, the_set), *_recipients(metadata, the_set)]
    body["extension"] = extensions
    metadata.put(body, "date", utc(the_set.get("submissionTime")), f"{path}.submissionTime")
    authors = metadata.authors(the_set)
    metadata.put(body, "source", authors[0] if authors else None, f"{path}.author")
    return _ended(metadata, draft, the_set, _items(metadata, submission, the_set, made))


def folder_list(metadata: Metadata, submission: Submission, folder: Folder, made: Mapping[str, Mapped], patient: Draft) -> Draft:
    draft = _begun(metadata, folder, "folder", "Folder", patient)
    metadata.put(draft.body, "date", utc(folder.get("lastUpdateTime")), f"{folder.path}.lastUpdateTime")
    codes = [
        {"url": f"{_MHD}/StructureDefinition/ihe-designationType", "valueCodeableConcept": concept}
        for concept in metadata.concepts(folder, "codeList")
    ]
    metadata.put(draft.body, "extension", codes, f"{folder.path}.codeList")
    return _ended(metadata, draft, folder, _items(metadata, submission, folder, made))


def _begun(metadata: Metadata, one: Described, code: str, display: str, patient: Draft) -> Draft:
    draft = Draft("List", "put", "", [], {})
    body = draft.body
    number = {"use": "usual", "system": _URI, "value": one.unique_id if one.unique_id.startswith("urn:") else _OID + one.unique_id}
    metadata.put(body, "identifier", [number], f"{one.path}.uniqueId")
    if one.id.startswith("urn:uuid:"):
        official = {"use": "official", "system": _URI, "value": one.id}
        metadata.tx.claim(official, f"{one.path}.entryUUID", "entryUUID")
        body["identifier"].append(official)
    body["status"] = "retired" if one.get("availabilityStatus") == DEPRECATED else "current"
    body["mode"] = "working"
    metadata.put(body, "title", one.get("title"), f"{one.path}.title")
    body["code"] = {"coding": [{"system": f"{_MHD}/CodeSystem/MHDlistTypes", "code": code, "display": display}]}
    metadata.put(body, "note", [{"text": text} for text in one.all("comments")], f"{one.path}.comments")
    body["subject"] = patient.ref
    draft.identify(name_uuid(f"List {query_of(number)}"), query_of(number))
    return draft


def _ended(metadata: Metadata, draft: Draft, one: Described, items: list[Body]) -> Draft:
    if items:
        draft.body["entry"] = items
    metadata.tx.claim(draft.body, one.path, draft.kind)
    for name in one.extra:
        metadata.tx.lost(f"{one.path}.{name}", "not carried")
    return metadata.tx.put(draft)


def _items(metadata: Metadata, submission: Submission, of: Described, made: Mapping[str, Mapped]) -> list[Body]:
    """What HasMember associations put in, those that were there before by their UUID."""
    found = []
    for one in submission.associations:
        if one.kind != HAS_MEMBER or one.source != of.id:
            continue
        if one.target in made:
            item: Body = {"item": made[one.target].document.ref}
        elif one.target.startswith("urn:uuid:") and one.status == "Reference":
            item = {"item": {"type": "DocumentReference", "identifier": {"system": _URI, "value": one.target}}}
        else:
            continue
        metadata.tx.claim(item, one.path, "member")
        found.append(item)
    return found


def _source(metadata: Metadata, the_set: SubmissionSet) -> Body:
    source_id = the_set.get("sourceId")
    made: Body = {
        "url": f"{_MHD}/StructureDefinition/ihe-sourceId",
        "valueIdentifier": {"system": _URI, "value": source_id if ":" in source_id else _OID + source_id},
    }
    metadata.tx.claim(made, f"{the_set.path}.sourceId", "sourceId")
    return made


def _designation(metadata: Metadata, the_set: SubmissionSet) -> list[Body]:
    url = f"{_MHD}/StructureDefinition/ihe-designationType"
    found = [{"url": url, "valueCodeableConcept": concept} for concept in metadata.concepts(the_set, "contentTypeCode")]
    for one in found:
        metadata.tx.claim(one, f"{the_set.path}.contentTypeCode", "contentTypeCode")
    return found


def _recipients(metadata: Metadata, the_set: SubmissionSet) -> list[Body]:
    """XON|XCN|XTN (4.2.3.3.7)."""
    found = []
    path = f"{the_set.path}.intendedRecipient"
    for text in the_set.all("intendedRecipient"):
        house, _, rest = text.partition("|")
        person = rest.partition("|")[0]
        who = metadata.person(person, path) if person else None
        who = who or (metadata.house(house, path) if house else None)
        if who is None:
            metadata.tx.lost(path, "not carried: names neither person nor organization")
            continue
        made: Body = {"url": f"{_MHD}/StructureDefinition/ihe-intendedRecipient", "valueReference": who}
        metadata.tx.claim(made, path, "intendedRecipient")
        found.append(made)
    return found
