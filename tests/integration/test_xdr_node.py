"""A node that takes documents (ITI-41), passes them on as they came, and maps them: big ones at flat memory."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from certs import Authority
from engine.bench.loopback import HOST
from engine.formats import soap
from engine.formats.xds.responses import read_response
from tests.support.soap import SoapSite, post
from tests.support.waiting import until
from tests.support.xdr import CONTENT_TYPE, Doc, in_envelope, packed, request, submission_set

MEGABYTES = int(os.environ.get("MERIDIAN_XDR_MB", "200"))
ROOM = 96 << 20
"""Bytes that a node may take for it, whatever its size: 16 MB of its beginning for each that reads it, buffers, what the allocator keeps."""
PIECE = os.urandom(1 << 20)
SUCCESS = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><rs:RegistryResponse '
    'xmlns:rs="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" status="urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"/></s:Body></s:Envelope>'
)


class Recipient:
    """Takes everything, and keeps of each request only its head, its length and its digest."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int, str]] = []
        self.answer = SUCCESS
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                left, digest, tail = int(self.headers["Content-Length"]), hashlib.sha256(), b""
                length = left
                while left:
                    data = self.rfile.read(min(left, 1 << 20))
                    left -= len(data)
                    digest.update(data)
                    tail = (tail + data)[-256:]
                outer.taken.append((self.headers["Content-Type"], length, digest.hexdigest()))
                self.send_response(200)
                self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
                self.send_header("Content-Length", str(len(outer.answer)))
                self.end_headers()
                self.wfile.write(outer.answer.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def recipient() -> Iterator[Recipient]:
    made = Recipient()
    yield made
    made.stop()


def pieces(before: bytes, after: bytes) -> Iterator[bytes]:
    yield before
    for _ in range(MEGABYTES):
        yield PIECE
    yield after


def big_request() -> tuple[bytes, bytes, str]:
    """What stands before and behind the content of the one document, and its SHA-1."""
    sha1 = hashlib.sha1(usedforsecurity=False)
    for _ in range(MEGABYTES):
        sha1.update(PIECE)
    doc = Doc(b"here", mime="application/dicom", said={"hash": sha1.hexdigest(), "size": str(MEGABYTES << 20)})
    before, _, after = packed([doc]).partition(b"\r\n\r\nhere")
    return before + b"\r\n\r\n", after, sha1.hexdigest()


def test_a_big_document_at_flat_memory(tmp_path: Path, recipient: Recipient) -> None:
    """In over MTOM with its hash checked, out as it came, and mapped to a DocumentReference that names it by its digest."""
    site = SoapSite(
        tmp_path / "site",
        protocol="xdr",
        destinations=[
            {"name": "hie", "xdr": {"url": f"http://{HOST}:{recipient.port}/xdr"}},
            {"name": "repository", "fhir_repository": {}, "map": "xdr-to-fhir"},
        ],
    )
    before_content, after_content, _ = big_request()
    length = len(before_content) + (MEGABYTES << 20) + len(after_content)
    most = [0]
    with site.running() as node:
        post(site.soap, packed([Doc(unique_id="1.2.3.1")]).replace(b"10011.9.1000", b"10011.9.1001"), CONTENT_TYPE, "/xdr")
        until(lambda: len(site.delivered()) == 2)
        start = node.resident_bytes
        watching = threading.Event()

        def watch() -> None:
            while not watching.wait(0.02):
                most[0] = max(most[0], node.resident_bytes)

        watcher = threading.Thread(target=watch)
        watcher.start()
        said = post(site.soap, pieces(before_content, after_content), CONTENT_TYPE, "/xdr", Content_Length=str(length))
        answer = soap.read(b"Content-Type: " + said.content_type.encode() + b"\r\n\r\n" + said.body)
        assert answer.payload is not None
        assert answer.payload.get("status", "").endswith(":Success"), said
        until(lambda: len(site.delivered()) == 4)
        watching.set()
        watcher.join()
    print(f"{MEGABYTES} MB in and out; resident before {start >> 20} MB, at most {most[0] >> 20} MB")
    content_type, sent, _ = recipient.taken[-1]
    assert content_type.startswith("multipart/related")
    assert sent > MEGABYTES << 20
    assert most[0] - start < ROOM


def test_documents_reach_the_repository(tmp_path: Path) -> None:
    """As FHIR, with the patient's number; inline documents too."""
    site = SoapSite(tmp_path / "site", protocol="xdr", destinations=[{"name": "repository", "fhir_repository": {}, "map": "xdr-to-fhir"}])
    content = base64.b64encode(Doc().content).decode()
    body = in_envelope(request([Doc()], documents=f'<xdsb:Document id="Document01">{content}</xdsb:Document>'))
    with site.running():
        said = post(site.soap, body, "application/soap+xml", "/xdr")
        assert said.message.payload is not None
        assert said.message.payload.get("status", "").endswith(":Success")
        until(lambda: site.delivered() == ["1.2.156.10011.9.1000"])
    assert json.dumps(site.dead()) == "{}"


def test_the_sender_hears_the_recipient(tmp_path: Path, recipient: Recipient) -> None:
    """In a channel that answers with its destination's result: the errors of who was to have it, in the packing of the sender."""
    site = SoapSite(
        tmp_path / "site",
        protocol="xdr",
        answer="from hie",
        destinations=[{"name": "hie", "xdr": {"url": f"http://{HOST}:{recipient.port}/xdr"}}],
    )
    refused = SUCCESS.replace(
        ':Success"/>',
        ':Failure"><rs:RegistryErrorList><rs:RegistryError errorCode="XDSUnknownPatientId" codeContext="no"/></rs:RegistryErrorList></rs:RegistryResponse>',
    )
    with site.running():
        heard = []
        for number, recipient.answer in enumerate((SUCCESS, refused)):
            body = packed([Doc(unique_id=f"1.2.3.{number}")], submission_set(f"1.2.4.{number}"))
            said = post(site.soap, body, CONTENT_TYPE, "/xdr")
            answer = soap.read(b"Content-Type: " + said.content_type.encode() + b"\r\n\r\n" + said.body)
            assert answer.addressing.relates_to == "urn:uuid:11111111-2222-4333-8444-555555555555"
            response = read_response(answer.payload)
            heard.append((response.status.rpartition(":")[2], [one.code for one in response.errors]))
    assert heard == [("Success", []), ("Failure", ["XDSUnknownPatientId"])]


def test_from_node_to_node_signed_and_over_mutual_tls(tmp_path: Path) -> None:
    """A clinic passes on to the exchange what it was given: proven by its certificate, signed over metadata and documents, both as they
    came. An answer that is signed too is understood. One that is not allowed is refused before it has sent a document."""
    authority = Authority.create(tmp_path / "authority", "test authority")
    exchange = SoapSite(
        tmp_path / "exchange", {"tls": {"client_auth": "required", "allow": ["clinic"]}, "security": {"answers": {}}}, "xdr"
    )
    to = {"url": f"https://localhost:{exchange.soap}/xdr", "tls": {"peer": "exchange"}, "security": {}}
    places = {}
    for name in ("clinic", "stranger"):
        places[name] = SoapSite(
            tmp_path / name, protocol="xdr", destinations=[{"name": "hie", "xdr": to, "retry": {"first": "200ms", "most": "200ms"}}]
        )
        authority.issue(name, out=places[name].certs, dns=("localhost",), ips=(HOST,))
    authority.issue("exchange", out=exchange.certs, dns=("localhost",), ips=(HOST,))
    doc = Doc(bytes(range(256)) * 3000, mime="application/pdf")
    with exchange.running(), places["clinic"].running(), places["stranger"].running():
        for place in places.values():
            assert post(place.soap, packed([doc]), CONTENT_TYPE, "/xdr").status == 200
        until(lambda: len(places["clinic"].delivered()) == 1)
        assert places["stranger"].delivered() == []
        until(lambda: places["stranger"].waiting() == 1)
    (kept,) = exchange.kept()
    assert (kept.verdict, kept.peer) == ("accepted", "urn:meridian:party:clinic")
    (body,) = exchange.bodies()
    message = soap.read(body)
    (part,) = message.parts.values()
    assert bytes(part.content) == doc.content
    assert any(str(block.tag).endswith("}Security") for block in message.header)
    assert payload_of(body) == payload_of(places["clinic"].bodies()[0])


def payload_of(body: bytes) -> bytes:
    """In its canonical form."""
    return bytes(etree.tostring(soap.read(body).payload, method="c14n", exclusive=True))
