"""Document sharing metadata: read, checked by the book, written."""

from __future__ import annotations

from copy import deepcopy

import pytest
from lxml import etree

from engine.errors import LocalProtocolError, ParseError
from engine.formats import soap
from engine.formats.xds import names
from engine.formats.xds.checking import check
from engine.formats.xds.forms import fits
from engine.formats.xds.model import Code, Submission
from engine.formats.xds.queries import QUERIES, read_answer, write_query
from engine.formats.xds.reading import read_submission
from engine.formats.xds.responses import RegistryError, read_response, response_to, write_response
from engine.formats.xds.retrieval import Wanted, read_retrieval, write_retrieval
from engine.formats.xds.writing import provide, write_submission
from tests.support.xdr import PATIENT, SCHEMAS, SET_ID, SOURCE_ID, Doc, member, message, schema, submission_set

FORMAT = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
UNIQUE = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
RPLC = "urn:ihe:iti:2007:AssociationType:RPLC"
OTHER = "urn:uuid:aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"


def submitted(*docs: Doc, the_set: str | None = None, more: str = "") -> tuple[Submission, soap.SoapMessage]:
    read = soap.read(message(list(docs) or [Doc()], the_set, more))
    assert read.payload is not None
    return read_submission(read.payload), read


def errors(*docs: Doc, the_set: str | None = None, more: str = "", limited: bool = False) -> list[tuple[str, str]]:
    submission, read = submitted(*docs, the_set=the_set, more=more)
    return [(one.code, one.location) for one in check(submission, read.content_of, limited=limited)]


def test_everything_is_read() -> None:
    """Slots, names, classifications, identifiers, whichever way ebRIM keeps them."""
    submission, read = submitted()
    entry, the_set = submission.entries[0], submission.set
    assert (the_set.unique_id, the_set.get("sourceId"), the_set.get("submissionTime")) == (SET_ID, SOURCE_ID, "20261120110000")
    assert the_set.code("contentTypeCode") == Code("34133-9", "2.16.840.1.113883.6.1", "Summary of episode")
    assert (entry.get("title"), entry.get("mimeType"), entry.get("languageCode")) == ("Discharge summary", "text/plain", "zh-CN")
    assert entry.codes["formatCode"] == (Code("urn:ihe:iti:xds-sd:text:2008", "1.3.6.1.4.1.19376.1.2.3", "Scanned text"),)
    assert entry.authors[0].persons == ("D77^Wang^Fang^^^Dr.^^^&1.2.156.10011.2&ISO",)
    assert entry.all("sourcePatientInfo")[1] == "PID-5|Li^Xiaoming"
    assert [(one.kind, one.status, one.target) for one in submission.associations] == [(names.HAS_MEMBER, "Original", "Document01")]
    assert submission.patient_ids() == (PATIENT,)
    assert bytes(read.content_of(submission.contents["Document01"]).content) == Doc().content


def test_a_good_submission_has_no_errors() -> None:
    """One document, several, one that replaces another that was there before."""
    assert errors() == []
    several = [
        Doc(),
        Doc(id="Document02", unique_id="1.2.3.4^X-1"),
        Doc(id="Document03", unique_id="urn:uuid:" + "0" * 8 + "-1111-4222-8333-444444444444"),
    ]
    assert errors(*several) == []
    assert errors(more=member(OTHER, 9, "", "Document01", RPLC)) == []
    assert errors(more=member(OTHER, 9, "Reference")) == []


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        (Doc(without=(FORMAT,)), ("XDSRepositoryMetadataError", "DocumentEntry[1].formatCode")),
        (Doc(without=(UNIQUE,)), ("XDSRepositoryMetadataError", "DocumentEntry[1].uniqueId")),
        (Doc(said={"creationTime": None}), ("XDSRepositoryMetadataError", "DocumentEntry[1].creationTime")),
        (Doc(said={"creationTime": "20261320"}), ("XDSRepositoryMetadataError", "DocumentEntry[1].creationTime")),
        (Doc(said={"hash": "0" * 40}), ("XDSRepositoryMetadataError", "DocumentEntry[1].hash")),
        (Doc(said={"hash": "abc"}), ("XDSRepositoryMetadataError", "DocumentEntry[1].hash")),
        (Doc(said={"size": "1"}), ("XDSRepositoryMetadataError", "DocumentEntry[1].size")),
        (Doc(said={"size": "many"}), ("XDSRepositoryMetadataError", "DocumentEntry[1].size")),
        (Doc(unique_id="no identifier"), ("XDSRepositoryMetadataError", "DocumentEntry[1].uniqueId")),
        (Doc(mime="plain"), ("XDSRepositoryMetadataError", "DocumentEntry[1].mimeType")),
        (Doc(id="urn:uuid:no-uuid"), ("XDSRepositoryMetadataError", "DocumentEntry[1].entryUUID")),
        (Doc(coded={FORMAT: ("x", "", "X")}), ("XDSRepositoryMetadataError", "DocumentEntry[1].formatCode")),
        (Doc(patient="P-4712^^^&1.2.156.10011.1&ISO"), ("XDSPatientIdDoesNotMatch", "DocumentEntry[1].patientId")),
        (Doc(unique_id=SET_ID), ("XDSDuplicateUniqueIdInMessage", "DocumentEntry[1].uniqueId")),
    ],
)
def test_what_is_wrong_with_an_entry(doc: Doc, expected: tuple[str, str]) -> None:
    """Each fault has its code of table 4.2.4.1-2, and the attribute's name."""
    assert expected in errors(doc)


@pytest.mark.parametrize(
    ("the_set", "expected"),
    [
        ("", ("XDSRepositoryMetadataError", "SubmissionSet")),
        (submission_set() + submission_set().replace("SubmissionSet01", "S2"), ("XDSRepositoryMetadataError", "SubmissionSet")),
        (submission_set(unique_id="urn:uuid:1"), ("XDSRepositoryMetadataError", "SubmissionSet[1].uniqueId")),
        (submission_set(source=""), ("XDSRepositoryMetadataError", "SubmissionSet[1].sourceId")),
        (submission_set(patient="P-4711"), ("XDSRepositoryMetadataError", "SubmissionSet[1].patientId")),
        (submission_set(time=""), ("XDSRepositoryMetadataError", "SubmissionSet[1].submissionTime")),
    ],
)
def test_what_is_wrong_with_a_submission_set(the_set: str, expected: tuple[str, str]) -> None:
    assert expected in errors(the_set=the_set)


@pytest.mark.parametrize(
    ("more", "where"),
    [
        (member("Document09", 9), "Association[2].targetObject"),
        (member("Document01", 9, source="Folder09"), "Association[2].sourceObject"),
        (member("Document01", 9, "Reference"), "Association[2]"),
        (member("Document01", 9, kind="urn:no:such"), "Association[2].associationType"),
        (member("Document02", 9, "", "Document01", RPLC), "Association[2].targetObject"),
        (member(OTHER, 9, "", "Document09", RPLC), "Association[2].sourceObject"),
    ],
)
def test_associations_lead_somewhere(more: str, where: str) -> None:
    assert ("XDSRepositoryMetadataError", where) in errors(more=more)


def test_documents_and_entries_go_together() -> None:
    """Every stable entry has its document, every document its entry, and once."""
    submission, read = submitted(Doc(), Doc(id="Document02", unique_id="1.2.3.9"))
    submission.contents = {"Document01": submission.contents["Document01"], "Stray": submission.contents["Document02"]}
    found = [(one.code, one.location) for one in check(submission, read.content_of)]
    assert found == [("XDSMissingDocumentMetadata", "Document[2]"), ("XDSMissingDocument", "DocumentEntry[2]")]
    submission, read = submitted()
    submission.doubled = ("Document01",)
    assert [one.location for one in check(submission, read.content_of)] == ["Document[1]/@id"]


def test_the_authority_counts_and_its_name_does_not() -> None:
    """4.2.3.1.7: the OID identifies who assigned a patient's number."""
    assert errors(Doc(patient="P-4711^^^&1.2.156.99&ISO"))[0][0] == "XDSPatientIdDoesNotMatch"
    assert errors(Doc(patient="P-4711^^^COUNTY&1.2.156.10011.1&ISO")) == []


def test_limited_metadata() -> None:
    """A Metadata-Limited Document Source leaves out most codes: fine where that is allowed, or where it says so."""
    bare = Doc(without=(FORMAT, "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"), said={"creationTime": None})
    assert len(errors(bare)) == 3
    assert errors(bare, limited=True) == []
    says_so = (
        '<rim:Classification id="l" classifiedObject="Document01" classificationNode="urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85"/>'
    )
    assert errors(bare, more=says_so) == []


def test_no_error_holds_a_value() -> None:
    """They go into logs and to the sender: patient data has no place there."""
    secret = "Zhang-San-secret"
    submission, read = submitted(
        Doc(patient=secret, unique_id=secret, said={"creationTime": secret, "hash": secret, "size": secret}), more=member(secret, 9)
    )
    found = check(submission, read.content_of)
    assert len(found) >= 6
    assert not any(secret in one.context + one.location for one in found)


def test_at_most_a_hundred_errors() -> None:
    docs = [Doc(id=f"D{number}", unique_id="x", said={"creationTime": None}) for number in range(90)]
    assert len(errors(*docs)) == 100


def test_what_is_no_submission() -> None:
    for text in ("<a/>", f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{names.XDSB}"/>'):
        with pytest.raises(ParseError):
            read_submission(etree.fromstring(text))


def test_what_is_written_is_read_again_the_same() -> None:
    """And a registry's own objects go out as they came."""
    submission, _ = submitted(Doc(), Doc(id="Document02", unique_id="1.2.3.9"), more=member(OTHER, 9, "Reference"))
    text = etree.Element("x")
    again = read_submission(write_submission(submission, {"Document01": text}))
    assert [(one.values, one.codes, one.authors) for one in again.described()] == [
        ({**one.values, "objectType": (names.STABLE,)} if one.kind == "DocumentEntry" else one.values, one.codes, one.authors)
        for one in submission.described()
    ]
    assert [(one.source, one.target, one.status) for one in again.associations] == [
        (one.source, one.target, one.status) for one in submission.associations
    ]
    objects = deepcopy(write_submission(submission, {})[0][0])
    assert etree.tostring(provide(objects, {})[0][0], method="c14n", exclusive=True) == etree.tostring(
        write_submission(submission, {})[0][0], method="c14n", exclusive=True
    )


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the WSDLs and schemas of IHE are not on this machine")
def test_what_is_written_is_valid() -> None:
    """By the schemas of IHE and OASIS."""
    submission, _ = submitted()
    document = etree.Element("x")
    written = write_submission(submission, {"Document01": document})
    holder = document.getparent()
    assert holder is not None
    holder.remove(document)
    holder.text = "YQ=="
    schema("IHE/IHEXDSB.xsd").assertValid(written)
    schema("IHE/IHEXDSB.xsd").assertValid(write_retrieval([Wanted("1.2.3", "1.2.4", "urn:oid:1.2.5"), Wanted("1.2.3", "1.2.6")]))
    response = response_to([RegistryError("XDSMissingDocument", "no document", "DocumentEntry[1]"), RegistryError("X", "y", warning=True)])
    schema("ebRS30/rs.xsd").assertValid(write_response(response, "urn:uuid:1"))
    schema("ebRS30/rs.xsd").assertValid(write_response(response_to([])))
    for name, query in QUERIES.items():
        parameters = {one: "20260101" if form == "#" else "it's" for one, form in query.parameters.items()}
        schema("ebRS30/query.xsd").assertValid(write_query(name, parameters, home="urn:oid:1.2.3"))


def test_responses() -> None:
    """Warnings alone are a success; busy and out of resources alone are for another time."""
    assert read_response(write_response(response_to([]))).status == names.SUCCESS
    warned = response_to([RegistryError("XDSExtraMetadataNotSaved", "kept apart", warning=True)])
    assert read_response(write_response(warned)) == warned
    assert warned.status == names.SUCCESS
    assert response_to([RegistryError("XDSRepositoryBusy", "")]).is_transient
    assert not response_to([RegistryError("XDSRepositoryBusy", ""), RegistryError("XDSMissingDocument", "")]).is_transient
    with pytest.raises(ParseError):
        read_response(etree.fromstring('<r xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" status="fine"/>'))


def test_queries() -> None:
    """3.18.4.1.2.3.5: quotes, lists, numbers; a parameter that a query does not have is our own fault."""
    written = write_query(
        "FindDocuments",
        {
            "$XDSDocumentEntryPatientId": "O'Hara^^^&1.2.3&ISO",
            "$XDSDocumentEntryStatus": [names.APPROVED, names.DEPRECATED],
            "$XDSDocumentEntryCreationTimeFrom": "20260101",
        },
    )
    slots = {one.get("name"): [value.text for value in one.iter("{*}Value")] for one in written.iter("{*}Slot")}
    assert slots == {
        "$XDSDocumentEntryPatientId": ["'O''Hara^^^&1.2.3&ISO'"],
        "$XDSDocumentEntryStatus": [f"('{names.APPROVED}')", f"('{names.DEPRECATED}')"],
        "$XDSDocumentEntryCreationTimeFrom": ["20260101"],
    }
    for wrong in ({"$XDSDocumentEntryPatientId": "x"}, {"$patientId": "x"}):
        with pytest.raises(LocalProtocolError):
            write_query("FindDocuments", wrong)


def test_answers_of_a_registry() -> None:
    """Whole objects, references alone, a failure."""
    submission, _ = submitted()
    objects = etree.tostring(write_submission(submission, {})[0][0]).decode()
    answer = f'<q:AdhocQueryResponse xmlns:q="{names.QUERY}" status="{names.SUCCESS}">{objects}</q:AdhocQueryResponse>'
    read = read_answer(etree.fromstring(answer))
    assert read.submission.entries[0].unique_id == Doc().unique_id
    references = f'<r:RegistryObjectList xmlns:r="{names.RIM}"><r:ObjectRef id="urn:uuid:1"/></r:RegistryObjectList>'
    answer = f'<q:AdhocQueryResponse xmlns:q="{names.QUERY}" status="{names.PARTIAL}">{references}</q:AdhocQueryResponse>'
    assert read_answer(etree.fromstring(answer)).references == ("urn:uuid:1",)
    error = f'<e:RegistryErrorList xmlns:e="{names.RS}"><e:RegistryError errorCode="XDSRegistryBusy" codeContext="later"/></e:RegistryErrorList>'
    failed = read_answer(
        etree.fromstring(f'<q:AdhocQueryResponse xmlns:q="{names.QUERY}" status="{names.FAILURE}">{error}</q:AdhocQueryResponse>')
    )
    assert failed.objects is None
    assert failed.response.is_transient
    with pytest.raises(ParseError):
        read_answer(etree.fromstring("<a/>"))
    with pytest.raises(ParseError):
        read_retrieval(etree.fromstring("<a/>"))


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("oid", ["1.2.3", "2.25.1"], ["1", "3.1", "1.02", "1." + "2" * 64, "a"]),
        ("unique", ["1.2.3", "1.2^a", "urn:uuid:x"], ["1.2^", "1.2^" + "x" * 17, "x", ""]),
        ("dtm", ["2026", "20261120", "20261120103000"], ["202611201", "20261320", "2026-11-20", "20261120103000.1", "20261120+0800"]),
        ("patient", ["1^^^&1.2&ISO", "1^^^A&1.2&ISO"], ["1", "1^^^A", "^^^&1.2&ISO", "1^^^&1.2&GUID", "1~2^^^&1.2&ISO"]),
        ("home", ["urn:oid:1.2"], ["1.2", "urn:oid:x"]),
        ("", ["anything"], []),
    ],
)
def test_forms(form: str, good: list[str], bad: list[str]) -> None:
    assert all(fits(form, one) for one in good)
    assert not any(fits(form, one) for one in bad)
