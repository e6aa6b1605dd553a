"""Foreign Document Sources against the endpoint `xdr`: oru2xds with MTOM, zeep with IHE's WSDL, and both kinds of answers."""

from __future__ import annotations

import base64
import importlib.util
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from engine import registry
from engine.bench.loopback import free_port
from engine.formats import soap
from engine.formats.xds.reading import read_submission
from tests.support.peers import ROOT, ForeignPeer, python_script, require
from tests.support.soap import SoapSite, post
from tests.support.waiting import until
from tests.support.xdr import CONTENT_TYPE, SCHEMAS, SET_ID, Doc, in_envelope, mtom, objects, packed, request

PEERS = ROOT / "tests" / "interop" / "soap_peers"
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
OBR = {
    1: "1",
    2: "ORD1",
    3: "FIL1",
    4: "CT1^CT of the chest^1.2.3.5",
    7: "20261120090000",
    13: "cough",
    18: "ACC1",
    22: "20261120100000",
    25: "F",
}
REPORT = [
    "MSH|^~\\&|RIS|COUNTY|XDS|HIE|20261120103000||ORU^R01|MSG00001|P|2.5",
    "PID|1||P-4711^^^COUNTY&1.3.6.1.4.1.21367.13.20.3000&ISO^MR||Li^Xiaoming||19800101|M",
    "|".join(["OBR", *({**OBR, 32: "D77&Wang Fang"}.get(number, "") for number in range(1, 33))]),
    "OBX|1|TX|18748-4^Report^LN||No acute findings.||||||F",
    "ZEI|7",
]


@pytest.fixture
def site(tmp_path: Path) -> SoapSite:
    return SoapSite(tmp_path / "site", protocol="xdr")


def url(site: SoapSite) -> str:
    return f"http://127.0.0.1:{site.soap}/xdr"


def rows(site: SoapSite) -> list[tuple[str, str, str, str]]:
    database = sqlite3.connect(f"file:{site.folder}/data/meridian.db?mode=ro", uri=True)
    try:
        return database.execute("SELECT message_type, control_id, sender, verdict FROM message ORDER BY id").fetchall()
    finally:
        database.close()


def inline(doc: Doc) -> str:
    content = base64.b64encode(doc.content).decode()
    return request([doc], documents=f'<xdsb:Document id="{doc.id}">{content}</xdsb:Document>')


def test_oru2xds_provides_a_report(site: SoapSite, tmp_path: Path) -> None:
    """Over MTOM; it wants its answer as an MTOM package, addressed and related to its request. What it sent can be mapped."""
    require(importlib.util.find_spec("oru2xds") is not None, "oru2xds is not installed")
    (tmp_path / "log").mkdir()
    with (
        site.running(),
        ForeignPeer(python_script(PEERS / "document_source.py"), url=url(site), folder=str(tmp_path / "log"), message=REPORT) as peer,
    ):
        (said,) = peer.all_heard()
    assert said["said"] == "Success", (said, rows(site), site.audited("soap.refused"))
    (body,) = site.bodies()
    message = soap.read(body)
    submission = read_submission(message.payload)
    assert len(message.parts) == 1
    (content,) = (message.content_of(one) for one in submission.contents.values())
    assert b"ClinicalDocument" in bytes(content.content)
    assert rows(site)[0][:2] == ("ITI-41", submission.set.unique_id)
    assert b"DocumentReference" in registry.mapping("xdr-to-fhir").compile(None).map(body).body


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the WSDLs and schemas of IHE are not on this machine")
def test_zeep_with_the_wsdl_of_ihe(site: SoapSite) -> None:
    """A good one, the same again, another document under its identifier, and faulty metadata: status and codes as zeep reads them."""
    good, changed = Doc(), Doc(content=b"Something else")
    docs = [good, good, changed, Doc(unique_id="1.2.3.8", said={"creationTime": None})]
    submissions = [(objects([doc]), base64.b64encode(doc.content).decode()) for doc in docs]
    with (
        site.running(),
        ForeignPeer(
            python_script(PEERS / "zeep_document_source.py"), wsdl=str(SCHEMAS / "iti41.wsdl"), url=url(site), submissions=submissions
        ) as peer,
    ):
        said = peer.all_heard()
    assert [(one["status"], one["errors"]) for one in said] == [
        (SUCCESS, []),
        (SUCCESS, []),
        (FAILURE, ["XDSNonIdenticalHash"]),
        (FAILURE, ["XDSRepositoryMetadataError"]),
    ]
    assert {one["action"] for one in said} == {"urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse"}
    assert [row[1:2] + row[3:] for row in rows(site)] == [(SET_ID, "accepted"), (SET_ID, "invalid"), (SET_ID, "invalid")]


def test_zeep_with_our_own_wsdl(site: SoapSite) -> None:
    """As it is served."""
    with site.running():
        zeep: Any = pytest.importorskip("zeep")
        client = zeep.Client(f"{url(site)}?wsdl")
        address = client.wsdl.services["DocumentRecipient"].ports["DocumentRecipientSoap12"].binding_options["address"]
    assert address == url(site)


def test_an_answer_is_packed_as_its_request_was(site: SoapSite) -> None:
    """MTOM for MTOM, plain for plain; and a repetition with another message id is answered to that one."""
    with site.running():
        first = post(site.soap, packed([Doc()]), CONTENT_TYPE, "/xdr")
        other = in_envelope(request([Doc()]), message_id="urn:uuid:99999999-2222-4333-8444-555555555555")
        again = post(site.soap, mtom(other, {"Document01@source": ("text/plain", Doc().content)}), CONTENT_TYPE, "/xdr")
        plain = post(site.soap, in_envelope(inline(Doc())), "application/soap+xml", "/xdr")
    for said, message_id in (
        (first, "urn:uuid:11111111-2222-4333-8444-555555555555"),
        (again, "urn:uuid:99999999-2222-4333-8444-555555555555"),
    ):
        assert said.status == 200
        answer = soap.read(b"Content-Type: " + said.content_type.encode() + b"\r\n\r\n" + said.body)
        assert answer.addressing.relates_to == message_id
        assert answer.payload is not None
        assert answer.payload.get("status") == SUCCESS
    assert plain.message.payload is not None
    assert plain.content_type.startswith("application/soap+xml")
    assert len(site.bodies()) == 1


@contextmanager
def gsoap_recipient(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """A Document Recipient by gSOAP: its port, and the lines that it says. Documents are files in the folder then."""
    require(all(map(shutil.which, ("soapcpp2", "cc"))), "gsoap, libgsoap-dev and a C compiler")
    for name in ("recipient.h", "gsoap_recipient.c"):
        shutil.copy(PEERS / name, folder)
    command = ["soapcpp2", "-c", "-S", "-L", "-x", "-I/usr/share/gsoap/import", "recipient.h"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    sources = ["gsoap_recipient.c", "soapC.c", "soapServer.c"]
    subprocess.run(["cc", "-w", "-o", "recipient", *sources, "-lgsoap"], cwd=folder, check=True, capture_output=True)
    port, said = free_port(), []
    with subprocess.Popen([str(folder / "recipient"), str(port), str(folder)], stdout=subprocess.PIPE, text=True) as process:
        reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
        reader.start()
        try:
            until(lambda: said)
            yield port, said
        finally:
            process.terminate()
            reader.join()


def test_gsoap_takes_what_is_passed_on(tmp_path: Path) -> None:
    """Two documents as XOP, bit by bit, addressed; the metadata as they came."""
    docs = [Doc(bytes(range(256)) * 4000, mime="application/pdf"), Doc(b"", "Document02", "1.2.3.9")]
    (tmp_path / "gsoap").mkdir()
    with gsoap_recipient(tmp_path / "gsoap") as (port, said):
        destination = {"name": "hie", "xdr": {"url": f"http://127.0.0.1:{port}/xdr"}}
        site = SoapSite(tmp_path / "site", protocol="xdr", destinations=[destination])
        with site.running():
            assert post(site.soap, packed(docs), CONTENT_TYPE, "/xdr").status == 200
            until(lambda: site.delivered() == [SET_ID])
    action = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
    assert [line.split() for line in said[1:]] == [
        ["Document01", "xop", "application/pdf", action],
        ["Document02", "xop", "text/plain", action],
    ]
    assert [(tmp_path / "gsoap" / f"part-{number}").read_bytes() for number in (1, 2)] == [doc.content for doc in docs]
    came, went = etree.fromstring(objects(docs)), etree.fromstring((tmp_path / "gsoap" / "metadata-1").read_bytes())
    assert etree.tostring(went, method="c14n", exclusive=True) == etree.tostring(came, method="c14n", exclusive=True)
