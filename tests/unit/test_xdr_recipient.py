"""The Document Recipient's service: what is kept of a request, and the answers (ITI-41)."""

from __future__ import annotations

import io
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from adapters.soap.service import Examined, Request
from adapters.soap.xdr import adapter
from adapters.soap.xdr.book import DocumentBook
from adapters.soap.xdr.recipient import DocumentRecipient
from engine.formats import soap
from engine.formats.soap import SoapFault
from engine.formats.xds.names import FAILURE, PROVIDED, SUCCESS
from engine.formats.xds.responses import RegistryResponse, read_response
from engine.message import ACCEPTED, Judgement, Verdict
from tests.support.xdr import (
    CONTENT_TYPE,
    PATIENT,
    SCHEMAS,
    SET_ID,
    SOURCE_ID,
    Doc,
    in_envelope,
    kept,
    message,
    mtom,
    request,
    schema,
    submission_set,
)

CDA = """<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.156.10011.9.2000"/><code code="18842-5" codeSystem="2.16.840.1.113883.6.1"/>
<title>Discharge summary</title><effectiveTime value="20261120103000+0000"/>
<recordTarget><patientRole><id root="1.2.156.10011.1" extension="P-4711"/></patientRole></recordTarget></ClinicalDocument>"""


class NoBook:
    """A book in which nothing stands."""

    def other(self, documents: Any) -> list[str]:
        return []

    def keep(self, documents: Any) -> None:
        self.kept = dict(documents)


def examine(body: bytes, recipient: DocumentRecipient | None = None) -> Examined:
    read = soap.read(body)
    return (recipient or DocumentRecipient(NoBook())).examine(Request(read, read.addressing.action))


def response(examined: Examined, judgement: Judgement | None = None) -> RegistryResponse:
    answer = soap.read(examined.answer(judgement or examined.judgement or ACCEPTED))
    assert answer.version == "1.2"
    assert answer.addressing.action == PROVIDED
    assert answer.addressing.relates_to == "urn:uuid:11111111-2222-4333-8444-555555555555"
    if SCHEMAS.exists():
        schema("ebRS30/rs.xsd").assertValid(etree.fromstring(etree.tostring(answer.payload)))
    return read_response(answer.payload)


def test_what_is_kept_of_a_good_request() -> None:
    """Type, control id, sender, patients, facts, a key; and Success once it is committed."""
    examined = examine(message())
    assert (examined.message_type, examined.control_id, examined.sender) == ("ITI-41", SET_ID, SOURCE_ID)
    assert examined.patient_ids == (PATIENT,)
    assert examined.facts["xdr.documents"] == "1"
    assert examined.facts["xdr.formats"] == "urn:ihe:iti:xds-sd:text:2008"
    assert examined.idempotency_key == f"xdr|{SOURCE_ID}|{SET_ID}"
    assert examined.judgement is None
    assert response(examined) == RegistryResponse(SUCCESS)


def test_the_same_submission_in_another_packing_is_the_same() -> None:
    """Boundaries, Content-IDs and message ids are new when a sender tries again; metadata and documents are not."""
    doc = Doc()
    first = examine(message([doc]))
    payload = request([doc]).replace("Document01@source", "other@part")
    other = kept(CONTENT_TYPE, mtom(in_envelope(payload, message_id="urn:uuid:2"), {"other@part": ("text/plain", doc.content)}))
    assert examine(other).content_digest == first.content_digest
    assert examine(message([Doc(content=b"Died.")])).content_digest != first.content_digest
    assert examine(message([Doc(title="Other")])).content_digest != first.content_digest


def test_faulty_metadata_is_kept_as_invalid_and_answered_with_its_errors() -> None:
    """By their codes; without a key, so that what is put right is another message."""
    examined = examine(message([Doc(said={"hash": "0" * 40, "creationTime": None})]))
    assert examined.judgement is not None
    assert examined.judgement.verdict is Verdict.INVALID
    assert examined.judgement.location == "DocumentEntry[1].creationTime"
    assert not examined.idempotency_key
    found = response(examined)
    assert found.status == FAILURE
    assert [(one.code, one.location) for one in found.errors] == [
        ("XDSRepositoryMetadataError", "DocumentEntry[1].creationTime"),
        ("XDSRepositoryMetadataError", "DocumentEntry[1].hash"),
    ]


def test_an_attachment_that_no_document_refers_to() -> None:
    body = kept(CONTENT_TYPE, mtom(in_envelope(request([Doc()])), {"Document01@source": ("", Doc().content), "stray@x": ("", b"?")}))
    assert [one.code for one in response(examine(body)).errors] == ["XDSMissingDocumentMetadata"]


def test_the_channels_verdicts_have_their_codes() -> None:
    examined = examine(message())
    for judgement, code in (
        (Judgement(Verdict.REFUSED, "not for this channel"), "XDSRepositoryError"),
        (Judgement(Verdict.UNAVAILABLE, "try again later"), "XDSRepositoryBusy"),
        (Judgement(Verdict.INVALID, "used before", "205"), "XDSDuplicateUniqueIdInRegistry"),
        (Judgement(Verdict.INVALID, "no"), "XDSRepositoryMetadataError"),
    ):
        found = response(examined, judgement)
        assert (found.status, [one.code for one in found.errors]) == (FAILURE, [code])


@pytest.mark.parametrize(
    "body",
    [
        in_envelope("<x/>"),
        in_envelope(request([]), action="urn:ihe:iti:2007:RegistryStoredQuery"),
        f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>'.encode(),  # noqa: F541
    ],
)
def test_what_is_no_such_request_is_a_fault(body: bytes) -> None:
    with pytest.raises(SoapFault):
        examine(body)


def test_a_request_without_metadata_is_answered_with_an_error() -> None:
    body = in_envelope('<x:ProvideAndRegisterDocumentSetRequest xmlns:x="urn:ihe:iti:xds-b:2007"/>')
    assert [one.code for one in response(examine(body)).errors] == ["XDSRepositoryMetadataError"]


def test_documents_may_stand_inline() -> None:
    """As base64, from senders without MTOM; and faulty base64 is an error of the document."""
    inline = '<xdsb:Document id="Document01">RGlzY2hhcmdlZCBp\nbiBnb29kIGhlYWx0aC4=</xdsb:Document>'
    assert response(examine(in_envelope(request([Doc()], documents=inline)))).status == SUCCESS
    wrong = response(examine(in_envelope(request([Doc()], documents=inline.replace("RGl", "?"))))).errors
    assert [one.code for one in wrong] == ["XDSRepositoryError"]


def test_a_document_comes_again_with_other_content(tmp_path: Path) -> None:
    """The same is fine, in another submission too; another content under its uniqueId is not. The book outlives the process."""
    file = tmp_path / "documents.db"
    recipient = DocumentRecipient(DocumentBook(file))
    assert response(examine(message(), recipient)).status == SUCCESS
    second = submission_set(unique_id="1.2.3.1")
    assert response(examine(message([Doc()], second), DocumentRecipient(DocumentBook(file)))).status == SUCCESS
    other = examine(message([Doc(content=b"Other")], second), recipient)
    assert [(one.code, one.location) for one in response(other).errors] == [("XDSNonIdenticalHash", "DocumentEntry[1]")]


def test_a_book_that_cannot_be_used_is_no_fault_of_the_message(tmp_path: Path) -> None:
    (tmp_path / "documents.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SoapFault) as caught:
        examine(message(), DocumentRecipient(DocumentBook(tmp_path / "documents.db")))
    assert (caught.value.fault_code, caught.value.status) == ("Receiver", 503)


def test_the_book_serves_several_threads(tmp_path: Path) -> None:
    book, faults = DocumentBook(tmp_path / "documents.db"), []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                book.keep({f"{number}.{turn}": b"x"})
                assert book.other({f"{number}.{turn}": b"x", "0.0": b"x"}) == []
        except (sqlite3.Error, AssertionError) as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book.close()
    assert faults == []


def test_a_cda_document_against_its_entry() -> None:
    """Another patient's document is refused where the site wants that, and warned of where not; other XML is let be."""
    good = Doc(content=CDA.encode(), mime="text/xml")
    swapped = Doc(content=CDA.replace("P-4711", "P-4712").encode(), mime="text/xml")
    titled = Doc(content=CDA.replace("Discharge summary", "Letter").encode(), mime="text/xml")
    other = Doc(content=b"<report/>", mime="text/xml")
    for wanted, expected in (("none", [0, 0, 0, 0]), ("warn", [0, 1, 1, 0]), ("refuse", [0, 1, 1, 0])):
        recipient = DocumentRecipient(NoBook(), cda=wanted)  # type: ignore[arg-type]
        answers = [response(examine(message([doc]), recipient)) for doc in (good, swapped, titled, other)]
        assert [len(one.errors) for one in answers] == expected
        assert answers[1].status == (FAILURE if wanted == "refuse" else SUCCESS)
        assert answers[2].status == SUCCESS


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the WSDLs and schemas of IHE are not on this machine")
def test_the_request_of_these_tests_is_valid() -> None:
    inline = '<xdsb:Document id="Document01">YQ==</xdsb:Document>'
    schema("IHE/IHEXDSB.xsd").assertValid(etree.fromstring(request([Doc()], documents=inline)))


def test_the_wsdl_can_be_used() -> None:
    """By zeep, which finds one operation at our address in it."""
    zeep = pytest.importorskip("zeep")
    text = DocumentRecipient(NoBook()).wsdl("https://here.example/xdr?a=1&b=2")
    client = zeep.Client(io.BytesIO(text))
    port = client.wsdl.services["DocumentRecipient"].ports["DocumentRecipientSoap12"]
    assert port.binding_options["address"] == "https://here.example/xdr?a=1&b=2"
    assert list(port.binding.all()) == ["ProvideAndRegisterDocumentSet-b"]


def test_a_channel_can_be_tried_without_a_server() -> None:
    """What a sender would have seen: the envelope, and what is at fault."""
    assert adapter.source_options is not None
    options = adapter.source_options.defaults(listen="127.0.0.1:0", cda="refuse")
    envelope, judgement = adapter.rehearse(options, message(), "urn:meridian:party:ward")
    assert (envelope.message_type, envelope.control_id, envelope.peer, judgement) == ("ITI-41", SET_ID, "urn:meridian:party:ward", None)
    assert adapter.rehearse(options, message([Doc(said={"size": "1"})]), "")[1] is not None
    assert adapter.rehearse(options, b"no SOAP", "")[1] is not None
