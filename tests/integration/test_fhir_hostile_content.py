"""A running node's FHIR endpoint among clients that mean no good, or know no better: a seeded generator of mutated resources and requests.

What holds for each: an answer in HTTP with an OperationOutcome or the resource asked for, never 500, and 2xx only for what is on disk.
What holds after all: the node is alive, its memory is bounded, and its ledger closes.
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from adapters.fhir.resource_types import RESOURCE_TYPES
from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.errors import FramingError, ParseError
from engine.formats import fhir
from engine.formats.fhir_r4.structure import faults
from engine.formats.fhir_r4.xml import from_xml
from engine.formats.fhir_r4.xml_writing import to_xml
from engine.http1 import HttpFramer
from tests.support.fhir_resources import resource
from tests.support.sites import Site

MOST_BODY = 1 << 20
MEMORY = 256 << 20
"""By how much all processes of the node may grow: far less than the bodies that were refused, and room for caches and pools."""
JUNK: tuple[Any, ...] = (
    None,
    "",
    "x" * 3000,
    -1,
    1e300,
    fhir.Exact("1e999"),
    [],
    {},
    [None],
    True,
    {"a": {"b": []}},
    "\u0000",
    "钱\ud7ff",
    "#a",
)
MUTATED = 4
"""Requests for each type of resource."""


@dataclass
class Running:
    site: Site
    node: Node
    port: int
    accepted: list[str] = field(default_factory=list)
    """Locations that 201 and 200 were answered for."""
    statuses: dict[int, int] = field(default_factory=dict)
    memory: int = 0
    """Of all its processes, when it had begun."""

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=60)) as connection:
            connection.request(method, f"/fhir{path}", body or None, headers or {})
            heard = connection.getresponse()
            return heard.status, {name.lower(): value for name, value in heard.getheaders()}, heard.read()

    def wires(self, requests: list[bytes]) -> list[bytes]:
        """What is answered to each, on connections of their own at once, until the node ends them: it has waited long enough."""
        with ExitStack() as stack:
            opened = [stack.enter_context(socket.create_connection((HOST, self.port), timeout=60)) for _ in requests]
            for connection, data in zip(opened, requests, strict=True):
                with suppress(ConnectionError):
                    connection.sendall(data)
            return [_until_closed(connection) for connection in opened]

    def alive(self) -> bool:
        return self.ask("GET", "/metadata")[0] == 200

    def resources(self) -> int:
        with closing(sqlite3.connect(f"file:{self.site.folder}/data/fhir-repository.db?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM resource").fetchone()[0])


def _until_closed(connection: socket.socket) -> bytes:
    heard = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            heard += piece
    return heard


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port = free_port()
    options = {"listen": f"{HOST}:{port}", "repository": "fhir-repository.db", "messages": True, "most_body": f"{MOST_BODY}B"}
    site = Site(
        tmp_path_factory.mktemp("site"),
        source={"fhir": {**options, "receive_within": "2s", "idle": "2s"}},
        answer="from repository",
        destinations=[{"name": "repository", "fhir_repository": {}}],
    )
    with site.running() as node:
        yield Running(site, node, port, memory=node.resident_bytes)


# --- mutations ---------------------------------------------------------------------------------------


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    under_way = [value]
    while under_way:
        here = under_way.pop()
        items = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        for key, child in items:
            found.append((here, key))
            under_way.append(child)
    return found


def _mutate(made: Any, chance: random.Random) -> None:
    """Change one place of a resource."""
    container, key = chance.choice(_places(made))
    how = chance.randrange(5)
    if how == 0:
        container[key] = chance.choice(JUNK)
    elif how == 1 and isinstance(container, dict):
        container[f"{key}x"] = container.pop(key)
    elif how == 2:
        container[key] = [container[key]]
    elif how == 3:
        container[key] = {"resourceType": "Patient", "contained": [container[key]]}
    else:
        for _ in range(chance.choice((3, 70))):
            container[key] = [container[key]]


def _scrambled(body: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut, doubled."""
    changed = bytearray(body)
    for _ in range(1 + chance.randrange(4)):
        at = chance.randrange(len(changed))
        how = chance.randrange(4)
        if how == 0:
            changed[at] = chance.randrange(256)
        elif how == 1:
            del changed[at : at + chance.randrange(1, 20)]
        elif how == 2:
            changed[at:at] = changed[at : at + chance.randrange(1, 200)]
        else:
            changed[at:at] = chance.choice((b"{", b"]", b'"', b"<", b"&a;", b"<!DOCTYPE a>", b"\x00", b"\xff", b',"id":1', b"-->"))
        if not changed:
            return b"\x00"
    return bytes(changed)


def _request(name: str, number: int, chance: random.Random) -> tuple[str, str, bytes, str]:
    """Method, path, body and its media type for a mutated resource."""
    made = resource(name, chance)
    made["id"] = f"f{number}"
    method, path = chance.choice((("POST", f"/{name}"), ("PUT", f"/{name}/f{number}"), ("PUT", f"/{name}?_id=f{number}")))
    if chance.random() < 0.7:
        _mutate(made, chance)
    wrapped = made
    if chance.random() < 0.3:
        asked = {
            "method": chance.choice(("POST", "PUT", "DELETE", "GET", "PATCH", "x")),
            "url": chance.choice((name, f"{name}/1", f"{name}?_id=1")),
        }
        kind = chance.choice(("batch", "transaction", "message", "history"))
        wrapped = {"resourceType": "Bundle", "type": kind, "entry": [{"fullUrl": "urn:uuid:1", "resource": made, "request": asked}]}
        method, path = "POST", "/$process-message" if kind == "message" else ""
    body, media = fhir.dump(wrapped), "application/fhir+json"
    if chance.random() < 0.4:
        with suppress(ParseError):
            body, media = to_xml(body), "application/fhir+xml"
    if chance.random() < 0.3:
        body = _scrambled(body, chance)
    return method, path, body, media


def _headers(media: str, chance: random.Random) -> dict[str, str]:
    choices = {
        "Accept": ("application/fhir+json", "application/fhir+xml", "*/*", "text/html", "application/fhir+xml;q=x, ;;", ""),
        "Prefer": ("return=minimal", "return=OperationOutcome", "return=representation", "handling=lenient;;=", "="),
        "If-Match": ('W/"1"', "1", "*", 'W/"', '"' * 50),
        "If-None-Exist": ("identifier=urn:s|1", "?_id=1", "shoe=42", "identifier=" + quote("|" * 30), "&&&=", "identifier=%ff%00"),
        "Idempotency-Key": ("k1", "k2"),
        "Accept-Encoding": ("gzip", "gzip;q=0", "br"),
    }
    chosen = {name: chance.choice(values) for name, values in choices.items() if chance.random() < 0.25}
    return {
        "Content-Type": media if chance.random() < 0.95 else chance.choice(("text/plain", "application/fhir+json; charset=gbk", "", "x")),
        **chosen,
    }


# --- what holds for each answer ----------------------------------------------------------------------


def _checked(running: Running, status: int, headers: dict[str, str], body: bytes, sent: object) -> None:
    running.statuses[status] = running.statuses.get(status, 0) + 1
    assert status < 500, (status, sent)
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if not body:
        assert status in (200, 201, 204), (status, sent)
        return
    media = headers["content-type"].partition(";")[0]
    content = fhir.parse(from_xml(body) if media == "application/fhir+xml" else body)
    if status >= 400:
        outcome = content["entry"][1]["resource"] if content["resourceType"] == "Bundle" else content
        assert outcome["resourceType"] == "OperationOutcome", (status, sent)
        assert faults(outcome) == [], sent
        assert all(issue["diagnostics"] for issue in outcome["issue"]), sent


# --- the tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", sorted({name[0] for name in RESOURCE_TYPES}))
def test_mutated_resources_of_every_type(running: Running, initial: str) -> None:
    """In JSON and XML, alone and in Bundles, with mutated headers: refused by rule, or taken and then there to be read."""
    before = len(running.accepted)
    for name in sorted(name for name in RESOURCE_TYPES if name[0] == initial):
        for seed in range(MUTATED):
            chance = random.Random(f"{name} {seed}")
            method, path, body, media = _request(name, seed, chance)
            headers = _headers(media, chance)
            if chance.random() < 0.2:
                body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
            status, heard, answer = running.ask(method, path, body, headers)
            _checked(running, status, heard, answer, (name, seed, method, path))
            if status in (200, 201) and "location" in heard:
                running.accepted.append(heard["location"])
    for location in running.accepted[before:]:
        assert running.ask("GET", location.partition("/fhir")[2])[0] in (200, 410), location
    assert running.alive()


def test_some_were_taken_and_most_were_refused(running: Running) -> None:
    """Or the generator would prove nothing. What was taken is in the repository, which has no more than was asked for."""
    good = [resource(name, random.Random(name)) for name in ("Patient", "Observation", "Organization")]
    before = running.resources()
    for one in good:
        one.pop("id", None)
        status, headers, answer = running.ask("POST", f"/{one['resourceType']}", fhir.dump(one), {"Content-Type": "application/fhir+json"})
        assert (status, json.loads(answer)["resourceType"]) == (201, one["resourceType"])
        running.accepted.append(headers["location"])
    assert running.resources() == before + len(good)


def test_mutated_http(running: Running) -> None:
    """Requests with bytes changed: what is answered, if anything, is HTTP with an OperationOutcome; the next client is served."""
    body = b'{"resourceType":"Patient","active":true}'
    whole = (
        b"POST /fhir/Patient?_format=json HTTP/1.1\r\nHost: a\r\nContent-Type: application/fhir+json\r\nAccept: */*\r\n"
        b"Prefer: return=minimal\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    answered = 0
    requests = [_scrambled(whole, random.Random(seed)) for seed in range(200)]
    for seed, heard in enumerate(running.wires(requests)):
        try:
            messages = HttpFramer(responses=True, most_body=1 << 24).feed(heard)
        except FramingError as error:
            raise AssertionError(f"seed {seed}: {heard[:200]!r}") from error
        assert heard == b"" or messages, (seed, heard[:200])
        for message in messages:
            _checked(running, int(message.start[1]), dict(message.headers), message.body, seed)
        answered += len(messages)
    assert answered > len(requests) // 2
    assert running.alive()


ATTACKS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "ten thousand levels": (400, b'{"resourceType":"Patient","a":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, {}),
    "ten thousand levels of XML": (400, b'<Patient xmlns="http://hl7.org/fhir">' + b"<a>" * 10_000, {"Content-Type": "application/fhir+xml"}),
    "a hundred thousand lists": (400, b"[" * 100_000, {}),
    "a million faults": (422, b'{"resourceType":"Patient","name":[' + b'{"family":1},' * 60_000 + b"{}]}", {}),
    "a key a thousand times": (400, b"{" + b'"a":1,' * 100_000 + b'"a":1}', {}),
    "a number of many digits": (422, b'{"resourceType":"Patient","multipleBirthInteger":' + b"9" * 500_000 + b"}", {}),
    "a contained circle": (422, json.dumps({"resourceType": "Patient", "contained": [
        {"resourceType": "Organization", "id": str(n), "partOf": {"reference": f"#{(n + 1) % 3000}"}} for n in range(3000)]}).encode(), {}),
    "a bomb": (413, gzip.compress(b" " * (200 << 20)), {"Content-Encoding": "gzip"}),
    "entities": (400, b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><Patient xmlns="http://hl7.org/fhir">&b;</Patient>',
                 {"Content-Type": "application/fhir+xml"}),
    "long base64": (422, b'{"resourceType":"Binary","contentType":"a/b","data":"' + b"A=" * 300_000 + b'"}', {}),
    "long date": (422, b'{"resourceType":"Patient","birthDate":"' + b"2024-" * 100_000 + b'"}', {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_memory_and_time(running: Running, name: str) -> None:
    """Refused by rule, with the place where there is one."""
    expected, body, headers = ATTACKS[name]
    kind = "Binary" if b'"Binary"' in body[:40] else "Patient"
    status, heard, answer = running.ask("POST", f"/{kind}", body, {"Content-Type": "application/fhir+json", **headers})
    _checked(running, status, heard, answer, name)
    assert status == expected
    assert running.alive()


def test_a_body_of_200_mb(running: Running) -> None:
    """Announced, it is refused before it comes; in chunks, once it is too much: 413 both times."""
    head = b"POST /fhir/Patient HTTP/1.1\r\nHost: a\r\nContent-Type: application/fhir+json\r\n"
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    for announced, piece in (
        (b"Content-Length: %d\r\n\r\n" % (200 << 20), b" " * (1 << 20)),
        (b"Transfer-Encoding: chunked\r\n\r\n", chunk),
    ):
        with socket.create_connection((HOST, running.port), timeout=60) as connection:
            with suppress(ConnectionError):
                connection.sendall(head + announced)
                for _ in range(200):
                    connection.sendall(piece)
            heard = _until_closed(connection)
        assert heard.startswith(b"HTTP/1.1 413 ") or heard == b""  # a client that goes on sending may be cut off before it looks
        assert running.alive()
    status, _, answer = running.ask("POST", "/Patient", b" " * (MOST_BODY + 1), {"Content-Type": "application/fhir+json"})
    assert (status, json.loads(answer)["resourceType"]) == (413, "OperationOutcome")


def test_after_all_that(running: Running) -> None:
    """Memory is bounded, no 500 was ever logged, and what was answered positively is kept as accepted."""
    assert running.alive()
    assert running.node.resident_bytes - running.memory < MEMORY
    log = (running.site.folder / "node.log").read_text()
    assert "unexpected failure" not in log, log[-2000:]
    assert "Traceback" not in log, log[-2000:]
    accepted = [one for one in running.site.kept() if one.verdict == "accepted"]
    assert len(accepted) >= len(running.accepted) > 0
