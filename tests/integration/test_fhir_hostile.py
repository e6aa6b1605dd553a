"""Terminals that are slow, half dead or hostile on a node's FHIR port: each is bounded by the channel's own options, and nobody else waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest

from engine.bench.loopback import HOST
from tests.support.uploads import FhirSite, Terminal, observation, observations
from tests.support.waiting import until

OPTIONS = {
    "receive_within": "1s",
    "idle": "2s",
    "connections": 40,
    "requests_per_peer": 8,
    "repository": "fhir-repository.db",
    "lines_at_once": 64,
}
POST = b"POST /fhir/Observation HTTP/1.1\r\nHost: a\r\nContent-Type: application/fhir+json\r\n"
UPLOAD = b"POST /fhir/$upload?device=bad&first=1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/fhir+ndjson\r\n"


@dataclass
class Running:
    site: FhirSite

    def open(self, data: bytes = b"", room: int = 0) -> socket.socket:
        """A connection that has said `data`; `room`: how many bytes it takes in before it is read."""
        connection = socket.socket()
        if room:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        connection.settimeout(30)
        connection.connect((HOST, self.site.fhir))
        connection.sendall(data)
        return connection

    def served(self, device: str = "good") -> None:
        """Others are: a write, a read, an upload."""
        terminal = Terminal(self.site.fhir, device)
        assert terminal.ask("POST", "/fhir/Observation", observation(1), {"Content-Type": "application/fhir+json"}).status == 201
        assert terminal.ask("GET", "/fhir/metadata").status == 200
        assert terminal.upload(observations(1, 5)).counts.total() == 5


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    repository = [{"name": "repository", "fhir_repository": {}}]
    site = FhirSite(tmp_path_factory.mktemp("fhir") / "site", OPTIONS, destinations=repository, answer="from repository")
    with site.running():
        yield Running(site)


def heard(connection: socket.socket) -> bytes:
    """What is answered until the connection ends, hard or not."""
    data = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize(
    "said",
    [
        POST + b"X-A: b\r\n",
        POST + b'Content-Length: 100\r\n\r\n{"resource',
        POST + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"res',
        UPLOAD + b"Content-Length: 100000000\r\n\r\n" + observation(1) + b"\n",
        UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\n",
    ],
    ids=["a head", "a body", "a body in chunks", "an upload", "an upload in chunks"],
)
def test_what_does_not_come_is_not_waited_for(running: Running, said: bytes) -> None:
    """`receive_within`: 408, and meanwhile others are served."""
    with running.open(said) as slow:
        running.served()
        assert heard(slow).startswith(b"HTTP/1.1 408 ")


def test_a_byte_now_and_then_does_not_buy_time(running: Running) -> None:
    """A slow loris: many connections, each drop of a head resets nothing."""
    with ExitStack() as stack:
        slow = [stack.enter_context(running.open(POST)) for _ in range(20)]
        ended: list[bytes] = []
        threads = [threading.Thread(target=lambda one=one: ended.append(heard(one))) for one in slow]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            running.served()
            for one in slow:
                with suppress(OSError):
                    one.sendall(b"X-A: b\r\n")
        assert [one[:12] for one in ended] == [b"HTTP/1.1 408"] * 20


def test_a_connection_that_says_nothing_is_closed(running: Running) -> None:
    """`idle`, before the first request and between two."""
    with running.open() as silent, running.open(b"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\n\r\n") as kept:
        running.served()
        assert heard(silent) == b""
        assert heard(kept).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_nobody_reads(running: Running) -> None:
    """It waits, a block at a time, for `idle`; then the connection is cut, and its report is gone from the disk."""
    reports = running.site.folder / "data/uploads/lines"
    lines = b"{}\n" * 20_000
    asked = UPLOAD + b"Content-Length: %d\r\n\r\n" % len(lines) + lines
    with running.open(asked, room=4096) as deaf:
        until(lambda: list(reports.glob("report-*")), "a report in a file")
        running.served("while-one-is-deaf")
        until(lambda: not list(reports.glob("report-*")), "the report to be removed")
        with suppress(ConnectionResetError):
            assert len(heard(deaf)) < 5_000_000


def test_a_client_that_only_asks(running: Running) -> None:
    """Request after request, no answer read: it is not read any more itself."""
    with running.open(room=4096) as deaf:
        deaf.settimeout(0.5)
        sent = 0
        with suppress(TimeoutError, ConnectionError):
            while sent < 64 << 20:
                sent += deaf.send(b"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        assert sent < 64 << 20
        running.served()


def test_more_uploads_than_one_sender_may_have(running: Running) -> None:
    """429 for those beyond, and the first ones are heard out."""
    begun = [UPLOAD.replace(b"bad", b"d%d" % number) + b"Content-Length: 100000\r\n\r\n{}\n" for number in range(12)]
    with ExitStack() as stack:
        connections = [stack.enter_context(running.open(one)) for one in begun]
        statuses = [heard(one)[9:12] for one in connections]
    assert set(statuses) == {b"408", b"429"}
    assert statuses.count(b"429") >= 4
    running.served()


def test_more_connections_than_there_are_places(running: Running) -> None:
    """503 for those beyond; when some have gone there is room again."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(running.open()) for _ in range(60)]
        refused = [one for one in crowd if _refused(one)]
        assert len(refused) >= 20
    until(lambda: Terminal(running.site.fhir).ask("GET", "/fhir/metadata").status == 200, "room again")
    running.served()


def _refused(connection: socket.socket) -> bool:
    """It is told at once; the others hear nothing for a while."""
    connection.settimeout(0.2)
    with suppress(OSError):
        return connection.recv(12) == b"HTTP/1.1 503"
    return False
