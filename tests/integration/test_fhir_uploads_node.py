"""Terminals that were offline, against a real node: what it keeps, passes on and answers, over mutual TLS too, from a foreign client too."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from certs import Authority
from engine.bench.loopback import HOST
from tests.support.peers import require
from tests.support.uploads import NDJSON, FhirSite, Heard, Terminal, observation, observations
from tests.support.waiting import until

MEGABYTES = int(os.environ.get("MERIDIAN_UPLOAD_MB", "150"))
ROOM = 80 << 20
"""Bytes that a node may take for an upload: 4 MB of lines under way, each a few times over, and what the allocator keeps."""


class Platform(ThreadingHTTPServer):
    """A FHIR server that notes which observations it got, in which order."""

    def __init__(self) -> None:
        self.got: list[int] = []
        super().__init__((HOST, 0), _Taking)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/fhir"


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Platform

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        found = re.search(rb'"text": "n(\d+)"', body)
        assert found is not None
        self.server.got.append(int(found[1]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def platform() -> Iterator[Platform]:
    with Platform() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def to(server: Platform) -> dict[str, Any]:
    return {"destinations": [{"name": "platform", "fhir": {"url": server.url, "connections": 8}, "order": "by patient"}]}


@pytest.mark.parametrize("channel", [{}, {"accept": ["message['type'] == 'transaction'"]}], ids=["plain", "content checked by workers"])
def test_one_terminals_lines_arrive_in_their_order(tmp_path: Path, channel: dict[str, Any]) -> None:
    """Two terminals at once, eight connections to the platform, nothing in the content that would order them."""
    with platform() as server:
        site = FhirSite(tmp_path / "site", **channel, **to(server))
        with site.running():
            heard: list[Heard] = []
            terminals = [Terminal(site.fhir, "cart-7"), Terminal(site.fhir, "cart-8")]
            sent = [observations(1, 200), observations(1001, 1200)]
            threads = [
                threading.Thread(target=lambda one=one, lines=lines: heard.append(one.upload(lines)))
                for one, lines in zip(terminals, sent, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [one.counts for one in heard] == [{"kept": 200}, {"kept": 200}]
            until(lambda: len(server.got) >= 400, "all observations")
    assert [number for number in server.got if number <= 200] == list(range(1, 201))
    assert [number for number in server.got if number > 200] == list(range(1001, 1201))


def test_an_upload_that_broke_off_goes_on(tmp_path: Path) -> None:
    """The connection is lost in the middle: the standing says where to go on; all again doubles nothing either; packed or not."""
    site = FhirSite(tmp_path / "site")
    with site.running():
        terminal = Terminal(site.fhir)
        with terminal.begin(observations(1, 50)) as lost:
            lost.sendall(observation(51)[:-20])
            until(lambda: terminal.standing()["complete"] == 50, "fifty lines")
        assert terminal.standing() == {"device": "cart-7", "complete": 50, "highest": 50, "next": 51, "missing": []}
        assert terminal.upload(observations(51, 80), first=51, packed=True).counts == {"kept": 30}
        assert terminal.upload(observations(1, 90)).counts == {"repeated": 80, "kept": 10}
    assert site.numbers() == list(range(1, 91))
    with site.running():
        assert Terminal(site.fhir).standing()["next"] == 91
        assert Terminal(site.fhir).upload(observations(1, 91)).counts == {"repeated": 90, "kept": 1}
    assert site.numbers() == list(range(1, 92))


def test_the_second_connection_takes_over(tmp_path: Path) -> None:
    """The first is half open: it says nothing more, and is not closed."""
    site = FhirSite(tmp_path / "site")
    with site.running():
        terminal = Terminal(site.fhir)
        with terminal.begin(observations(1, 20)) as silent:
            until(lambda: terminal.standing()["complete"] == 20, "twenty lines")
            assert terminal.upload(observations(1, 30)).counts == {"repeated": 20, "kept": 10}
            silent.sendall(observation(21) + b"\n")
            assert silent.recv(12) == b"HTTP/1.1 409"
    assert site.numbers() == list(range(1, 31))


def test_a_million_numbers_are_not_needed_to_say_what_is_wrong(tmp_path: Path) -> None:
    """Line by line: what, where, and which number; what is at fault is kept as invalid, for whoever looks for it."""
    site = FhirSite(tmp_path / "site", {"validate": "fhir.resources", "most_body": "4KB"})
    wrong = observation(3, status=["final"])
    with site.running():
        heard = Terminal(site.fhir).upload([observation(1), b"{", wrong, observation(4, note=[{"text": "x" * 5000}]), observation(5)])
    assert heard.results == ["kept", "refused", "refused", "refused", "kept"]
    assert heard.lines[2].expressions == ["Observation.status"]
    assert heard.summary.fact("complete") == 5
    assert (site.numbers(), site.numbers("invalid")) == ([1, 5], [2, 3, 4])
    assert [one["device.id"] for one in site.facts()] == ["cart-7"] * 5


def test_parties_have_their_own_numbers(tmp_path: Path) -> None:
    """Over mutual TLS: the same name in two parties is two terminals; the party is in the message."""
    site = FhirSite(tmp_path / "site", {"tls": {"client_auth": "required"}})
    authority = Authority.create(tmp_path / "authority", "test")
    site.certify(authority)
    terminals = []
    for party in ("county", "city"):
        authority.issue(party, out=tmp_path / party)
        context = ssl.create_default_context(cafile=str(tmp_path / "authority/ca.pem"))
        context.load_cert_chain(tmp_path / party / "node.pem", tmp_path / party / "node.key")
        terminals.append(Terminal(site.fhir, tls=context))
    with site.running():
        assert [one.upload(observations(1, 3)).counts for one in terminals] == [{"kept": 3}] * 2
        assert [one.upload([observation(9)]).counts for one in terminals] == [{"conflict": 1}] * 2
        assert [one.standing()["next"] for one in terminals] == [4, 4]
    assert [one.peer.rpartition(":")[2] for one in site.kept()] == ["county"] * 3 + ["city"] * 3 + ["county", "city"]


def test_memory_does_not_depend_on_the_length_of_the_body(tmp_path: Path) -> None:
    """MERIDIAN_UPLOAD_MB=2000 makes it 2 GB, by hand. The body is sent as it is made, without a length."""
    site = FhirSite(tmp_path / "site")
    picture = os.urandom(300 << 10).hex()
    count = MEGABYTES * 1024 // 600
    with site.running() as node:
        most = before = node.resident_bytes

        def body() -> Iterator[bytes]:
            nonlocal most
            for number in range(1, count + 1):
                yield observation(number, note=[{"text": picture}]) + b"\n"
                if number % 10 == 0:
                    most = max(most, node.resident_bytes)

        terminal = Terminal(site.fhir)
        connection = http.client.HTTPConnection(HOST, site.fhir, timeout=60)
        connection.request("POST", terminal.target(1), body(), {"Content-Type": NDJSON, "Prefer": "return=minimal"}, encode_chunked=True)
        response = connection.getresponse()
        heard = Heard(response.status, dict(response.getheaders()), response.read())
        connection.close()
        most = max(most, node.resident_bytes)
    print(f"{MEGABYTES} MB received; resident before {before >> 20} MB, at most {most >> 20} MB")
    assert (heard.summary.fact("kept"), heard.lines) == (count, [])
    assert site.numbers() == list(range(1, count + 1))
    assert most - before < ROOM


def test_curl(tmp_path: Path) -> None:
    """A client that others have written: a file of lines, packed beforehand, and the question where to go on."""
    curl = shutil.which("curl")
    require(curl is not None, "curl is not installed")
    assert curl is not None
    site = FhirSite(tmp_path / "site")
    file, said = tmp_path / "journal.ndjson.gz", tmp_path / "said.ndjson"
    packed = subprocess.run(["gzip", "-c"], input=b"\n".join(observations(1, 500)), check=True, capture_output=True)
    file.write_bytes(packed.stdout)
    with site.running():
        url = f"http://{HOST}:{site.fhir}{Terminal(site.fhir).target()}"
        command = [curl, "-sS", "--fail", "-H", f"Content-Type: {NDJSON}", "-H", "Content-Encoding: gzip"]
        subprocess.run([*command, "-H", "Expect: 100-continue", "-T", file, "-X", "POST", f"{url}&first=1", "-o", said], check=True)
        standing = subprocess.run([curl, "-sS", "--fail", url], check=True, capture_output=True)
    assert Heard(200, {}, said.read_bytes()).counts == {"kept": 500}
    assert {"name": "next", "valueDecimal": 501} in json.loads(standing.stdout)["parameter"]
    assert site.numbers() == list(range(1, 501))
