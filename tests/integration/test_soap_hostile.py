"""What strangers may send to a running node: each is refused in SOAP's or HTTP's own terms, audited, and keeps nobody else waiting."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from engine.bench.node import Node
from tests.support.soap import NS, Said, SoapSite, addressed, envelope, in_parts, include, part, post, related

LIMIT = 200_000
OPTIONS = {"most_envelope": LIMIT, "most_body": "2MB", "receive_within": "1s", "requests_per_peer": 8, "most_depth": 50, "gzip": True}
GOOD = "<Order xmlns='urn:lab'><id>1</id></Order>"
LAUGHS = b'<!DOCTYPE a [<!ENTITY a "ha">' + b"".join(b'<!ENTITY a%d "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">' % n for n in range(9)) + b"]>"
EXTERNAL = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
PARAMETER = b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]>'


@dataclass
class Running:
    site: SoapSite
    node: Node

    def post(self, body: Any = None, content_type: str = "text/xml", **more: Any) -> Said:
        return post(self.site.soap, envelope(GOOD) if body is None else body, content_type, **more)

    def wire(self, data: bytes) -> bytes:
        """What is answered until the connection ends, which it does hard where the client does not end it."""
        heard = b""
        with socket.create_connection(("127.0.0.1", self.site.soap), timeout=30) as connection, suppress(ConnectionResetError):
            connection.sendall(data)
            while piece := connection.recv(65536):
                heard += piece
        return heard


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    site = SoapSite(tmp_path_factory.mktemp("site"), OPTIONS)
    with site.running() as node:
        yield Running(site, node)


def mtom(href: str, *more: bytes, root: bytes | None = None) -> bytes:
    return in_parts(root or envelope(f"<Order>{include(href)}</Order>"), part(b"x", "a"), *more)


def deep(levels: int) -> bytes:
    return envelope("<a>" * levels + "</a>" * levels)


FAULTS: dict[str, tuple[bytes, str, str]] = {
    "a DTD": (b"<!DOCTYPE a>" + envelope(GOOD), "text/xml", "document type declaration"),
    "billion laughs": (LAUGHS + envelope("<a>&a8;</a>"), "text/xml", "document type declaration"),
    "an external entity": (EXTERNAL + envelope("<a>&x;</a>"), "text/xml", "document type declaration"),
    "a parameter entity": (PARAMETER + envelope(GOOD), "text/xml", "document type declaration"),
    "a DTD in UTF-16": (("\ufeff<!DOCTYPE a>" + envelope(GOOD).decode()).encode("utf-16-le"), "text/xml", "document type declaration"),
    "a DTD in the root part": (mtom("cid:a", root=EXTERNAL + envelope("<a>&x;</a>")), related(), "document type declaration"),
    "a character set that hides one": (b'<?xml version="1.0" encoding="UTF-7"?>' + envelope(GOOD), "text/xml", "character set"),
    "too deep": (deep(60), "text/xml", "deeper than 50"),
    "too many attributes": (envelope("<a " + " ".join(f"b{n}=''" for n in range(200)) + "/>"), "text/xml", "more than 100 attributes"),
    "not well-formed": (envelope(GOOD)[:-3], "text/xml", "not well-formed"),
    "no SOAP": (b"<a/>", "text/xml", "no Envelope"),
    "an unknown cid": (mtom("cid:other"), related(), "part that is not there"),
    "the root as an attachment": (mtom("cid:root@a"), related(), "part that is not there"),
    "a cid that is a file": (mtom("file:///etc/passwd"), related(), "does not refer by cid"),
    "a Content-ID twice": (mtom("cid:a", part(b"y", "a")), related(), "another part has"),
    "an envelope that is too big in its part": (mtom("cid:a", root=envelope(f"<a>{'x' * LIMIT}</a>")), related(), f"more than {LIMIT} bytes"),
    "no close delimiter": (mtom("cid:a")[:-10], related(), "close delimiter"),
    "two elements in Body": (envelope("<a/><b/>"), "text/xml", "one element"),
    "a second Body": (envelope(GOOD).replace(b"</s:Envelope>", b"<s:Body><x/></s:Body></s:Envelope>"), "text/xml", "nothing else"),
    "a header that must be understood": (envelope(GOOD, header="<x s:mustUnderstand='1' xmlns='urn:x'/>"), "text/xml", "must be understood"),
    "WS-Security that nobody checks": (
        envelope(GOOD, header="<x:Security s:mustUnderstand='1' xmlns:x='http://docs.oasis-open.org/wss/2004/01/"
                              "oasis-200401-wss-wssecurity-secext-1.0.xsd'/>"), "text/xml", "must be understood"),
    "an addressing header twice": (envelope(GOOD, header=addressed() * 2), "text/xml", "twice"),
    "an answer to elsewhere": (envelope(GOOD, header=addressed(reply_to="http://127.0.0.1:1/")), "text/xml", "on the connection only"),
    "another SOAP": (envelope(GOOD).replace(NS["1.1"].encode(), b"http://www.w3.org/2001/12/soap-envelope"), "text/xml", "is taken here"),
}  # fmt: skip

REFUSED: dict[str, tuple[int, Callable[[Running], Said]]] = {
    "JSON": (415, lambda it: it.post(b"{}", "application/json")),
    "multipart of something else": (415, lambda it: it.post(mtom("cid:a"), related().replace("application/xop+xml", "text/plain"))),
    "an unknown content coding": (415, lambda it: it.post(Content_Encoding="br")),
    "the other version's media type": (415, lambda it: it.post(envelope(GOOD, "1.2"), "text/xml")),
    "no body": (400, lambda it: it.post(b"")),
    "a gzip bomb": (413, lambda it: it.post(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")),
    "a gzip bomb in parts": (413, lambda it: it.post(gzip.compress(b" " * 50_000_000), related(), Content_Encoding="gzip")),
    "a gzip that is none": (400, lambda it: it.post(Content_Encoding="gzip")),
    "a gzip that is cut": (400, lambda it: it.post(gzip.compress(envelope(GOOD))[:-9], Content_Encoding="gzip")),
    "an envelope that is too big": (413, lambda it: it.post(envelope(f"<a>{'x' * LIMIT}</a>"))),
    "too big, in chunks": (413, lambda it: it.post(iter([b"x" * 50_000] * 10))),
    "a body that is too big": (413, lambda it: it.post(mtom("cid:a", part(b"x" * (3 << 20), "b")), related())),
    "a media type that cannot be read": (415, lambda it: it.post(content_type="text/xml; a=1; a=2")),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_a_fault(running: Running, case: str, version: str) -> None:
    """In the version that was spoken: 500 by SOAP 1.1; 400 by SOAP 1.2 for what is the sender's fault. Nothing is kept."""
    body, kind, words = FAULTS[case]
    if version == "1.2":
        for old, new in (("http://schemas.xmlsoap.org/soap/envelope/", NS["1.2"]), ("text/xml", "application/soap+xml")):
            body, kind = _replaced(body, old, new), kind.replace(old, new)
    said = running.post(body, kind)
    assert words in said.fault.text
    assert said.message.version == version
    assert said.status == (400 if version == "1.2" and said.fault.fault_code == "Sender" else 500), said
    assert b"root:" not in said.body
    assert running.post().status == 200


def _replaced(body: bytes, old: str, new: str) -> bytes:
    for encoding in ("utf-8", "utf-16-le"):
        body = body.replace(old.encode(encoding), new.encode(encoding))
    return body


@pytest.mark.parametrize("case", REFUSED)
def test_an_http_error(running: Running, case: str) -> None:
    status, send = REFUSED[case]
    assert send(running).status == status
    assert running.post().status == 200


def test_a_body_that_does_not_come(running: Running) -> None:
    """408, though a byte comes now and then; others are answered meanwhile."""
    head = b"POST /soap HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n<a"
    heard: list[bytes] = []
    slow = threading.Thread(target=lambda: heard.append(running.wire(head)))
    slow.start()
    assert running.post().status == 200
    slow.join(30)
    assert heard[0].startswith(b"HTTP/1.1 408 ")


def test_a_head_that_has_no_end(running: Running) -> None:
    assert running.wire(b"POST /soap HTTP/1.1\r\nX: " + b"x" * 20_000).startswith(b"HTTP/1.1 431 ")


def test_two_lengths(running: Running) -> None:
    """Two readers might see two messages."""
    head = b"POST /soap HTTP/1.1\r\nContent-Type: text/xml\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n<a>"
    assert running.wire(head).startswith(b"HTTP/1.1 400 ")


def test_no_length(running: Running) -> None:
    assert running.wire(b"POST /soap HTTP/1.1\r\nHost: a\r\nContent-Type: text/xml\r\n\r\n").startswith(b"HTTP/1.1 411 ")


def test_a_host_that_is_none(running: Running) -> None:
    """It would be in the WSDL."""
    for host in (b"a\x01b", b"a b", b"<a>", b"a/b", b"", b"a\r\nHost: b"):
        assert running.wire(b"GET /soap?wsdl HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_no_host(running: Running) -> None:
    """RFC 9112 clause 3.2."""
    assert running.wire(b"GET /soap?wsdl HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_query_of_many_fields(running: Running) -> None:
    assert running.post(None, path="/soap?" + "&".join("a" * 1000), method="GET").status == 405


def test_other_methods_and_paths(running: Running) -> None:
    said = running.post(method="PUT")
    assert (said.status, said.headers["Allow"]) == (405, "POST, GET, HEAD")
    assert running.post(None, path="/soap", method="GET").status == 405
    assert running.post(path="/soap/../etc").status == 404
    assert running.post(None, path="/soap?xsd=../../meridian.yaml", method="GET").status == 404


def test_all_that_was_audited(running: Running) -> None:
    """Last: with the node stopped, the log is complete. Each refusal has its reason and who it was; none has content."""
    running.node.__exit__(None, None, None)
    records = running.site.audited("soap.refused")
    reasons = " | ".join(str(record["reason"]) for record in records)
    for _, _, words in FAULTS.values():
        assert words in reasons
    for words in ("gzip", "larger than allowed", "did not arrive in time", "Content-Type", "no body", "transfer coding"):
        assert words in reasons, words
    assert len(records) >= 2 * len(FAULTS) + len(REFUSED)
    assert all(record["channel"] == "lines" for record in records)
    assert "passwd" not in reasons
    assert all(record["remote"].startswith("127.0.0.1:") for record in records)
    assert all(one.verdict == "accepted" for one in running.site.kept())
    assert not list((running.site.folder / "data" / "bodies" / "spool").iterdir())
