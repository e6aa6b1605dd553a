"""Requests whose sender is known only later: what is sent meanwhile waits, and goes on, or not, when it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from engine.errors import StoreFull
from engine.http_answers import HttpRefusal, Sender
from tests.support.http_desk import Wire, answers, post

PARTY = "urn:meridian:party:terminal-7"


class Entrance:
    """Knows nobody until it is told."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Sender]] = []
        self.counted: list[str] = []
        self.pages: dict[str, Any] = {}

    def enter(self, target: str, headers: Any, shown: Sender) -> Deferred[Sender]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def count(self, sender: Sender) -> None:
        self.counted.append(sender.peer)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def know(self) -> None:
        self.asked.pop(0).callback(Sender(PARTY, "10.0.0.9:4444"))

    def refuse(self) -> None:
        self.asked.pop(0).errback(HttpRefusal(401, "nobody we know"))


@pytest.fixture
def wire(tmp_path: Path) -> Any:
    made = Wire(tmp_path)
    entrance = Entrance()
    made.reception._entrance = entrance
    return SimpleNamespace(wire=made, entrance=entrance, desk=made.desk)


def statuses(transport: Any) -> list[int]:
    return [status for status, _, _ in answers(transport)]


def test_an_upload_waits_for_its_sender(wire: Any) -> None:
    """Nothing is taken, answered or counted before the sender is known; the connection is not read meanwhile; then all of it arrives."""
    connection, transport = wire.wire.connect()
    content = b"x" * 100_000
    request = post(content)
    connection.dataReceived(request[:1000])
    assert transport.producerState == "paused"
    assert wire.wire.under_way() == 0
    wire.entrance.know()
    assert transport.producerState == "producing"
    assert wire.wire.under_way() == 1
    connection.dataReceived(request[1000:])
    assert statuses(transport) == [200]
    (taken,) = wire.desk.taken
    assert taken.size == 100_000
    assert (wire.entrance.counted, wire.wire.under_way()) == ([PARTY], 0)


def test_a_request_that_was_there_before_its_sender_was_known(wire: Any) -> None:
    """A whole upload, and a request without a body, which the desk wants collected."""
    for request in (post(b"x"), b"GET /there HTTP/1.1\r\nHost: h\r\n\r\n"):
        connection, transport = wire.wire.connect()
        connection.dataReceived(request)
        assert statuses(transport) == []
        wire.entrance.know()
        assert statuses(transport) == [200]
    assert wire.desk.taken == [b"x"]


def test_who_is_refused_late(wire: Any) -> None:
    """The answer is the refusal, whether the body is there or not; nothing of it is kept or counted."""
    for request, rest in ((post(b"x"), b""), (post(b"x" * 100), b"x")):
        connection, transport = wire.wire.connect()
        connection.dataReceived(request[:-1] if rest else request)
        wire.entrance.refuse()
        connection.dataReceived(rest) if rest else None
        assert statuses(transport) == [401]
    assert (wire.desk.taken, wire.entrance.counted, wire.wire.under_way()) == ([], [], 0)


def test_an_upload_that_takes_nothing_of_what_has_waited(wire: Any) -> None:
    """It hears that no more comes, once, as one whose sender was known at once; what it raised is the answer after that."""
    gone: list[Deferred[None]] = []

    class Full:
        full = over = False

        def content(self, data: bytes) -> None:
            raise StoreFull("there is no room")

        def gone(self) -> Deferred[None]:
            gone.append(Deferred())
            return gone[-1]

    wire.desk.make = lambda headers: Full()
    connection, transport = wire.wire.connect()
    connection.dataReceived(post(b"x"))
    wire.entrance.know()
    assert (statuses(transport), wire.wire.under_way(), len(gone)) == ([], 1, 1)
    gone[0].callback(None)
    assert (statuses(transport), wire.wire.under_way(), len(gone)) == ([503], 0, 1)


def test_a_registry_that_cannot_be_read(wire: Any) -> None:
    """Between the head of a request and the end of its body: 503, and nobody is let in."""
    wire.desk.make = lambda headers: None
    connection, transport = wire.wire.connect()
    wire.entrance.enter = lambda *_: Sender(PARTY, "10.0.0.9:4444")
    request = post(b"x")
    connection.dataReceived(request[:-1])

    def unreadable(*_: Any) -> Any:
        raise StoreFull("the registry cannot be read")

    wire.entrance.enter = unreadable
    connection.dataReceived(request[-1:])
    assert (statuses(transport), wire.wire.under_way()) == ([503], 0)


def test_a_client_that_does_not_wait(wire: Any) -> None:
    """It is gone before anybody is known: nothing is under way for ever, and the node can stop."""
    connection, _ = wire.wire.connect()
    connection.dataReceived(post(b"x" * 100)[:-50])
    connection.connectionLost()
    wire.entrance.know()
    assert (wire.wire.under_way(), wire.desk.taken, wire.entrance.counted) == (0, [], [])


def test_a_node_that_stops_does_not_wait(wire: Any) -> None:
    """Who is not known yet hears 503, and may come again."""
    connection, transport = wire.wire.connect()
    connection.dataReceived(post(b"x" * 100)[:-50])
    wire.wire.reception.stop()
    wire.wire.clock.advance(0)
    assert statuses(transport) == [503]
    wire.entrance.know()
    assert (wire.wire.under_way(), wire.desk.taken) == (0, [])


def test_requests_behind_each_other_are_answered_in_their_order(wire: Any) -> None:
    """Of three, uploads and one that is collected, the last is known first: nobody hears the answer to another's request (RFC 9112 9.3.2)."""
    connection, transport = wire.wire.connect()
    connection.dataReceived(post(b"one") + b"GET /two HTTP/1.1\r\nHost: h\r\n\r\n" + post(b"three"))
    assert len(wire.entrance.asked) == 3
    for asked in reversed(wire.entrance.asked):
        assert statuses(transport) == []
        asked.callback(Sender(PARTY, "10.0.0.9:4444"))
    assert [body for _, body, _ in answers(transport)] == [b"taken", b"/two", b"taken"]
    assert (wire.desk.taken, wire.wire.under_way()) == ([b"one", b"three"], 0)


def test_a_collected_body_has_a_limit(wire: Any) -> None:
    """What the desk does not take as it comes is as small as it would be otherwise, before the sender is known and after."""
    wire.desk.make = lambda headers: None
    connection, transport = wire.wire.connect()
    request = post(b"x" * 70_000)
    connection.dataReceived(request)
    wire.entrance.know()
    assert statuses(transport) == [413]
    connection, transport = wire.wire.connect()
    connection.dataReceived(request[:100])
    wire.entrance.know()
    connection.dataReceived(request[100:])
    assert statuses(transport) == [413]
