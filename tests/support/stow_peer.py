"""A STOW-RS and WADO-RS server in this process, whose answers the test decides."""

from __future__ import annotations

import io
import json
from typing import Any

from pydicom import dcmread
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from engine.http1 import HttpFramer, Message, head


class StowPeer:
    """See tests.contracts.destination_contract. `status` and `answer` replace what it says; `fails` maps a SOP Instance UID to the
    failure reason; `stored` are the files by SOP Instance UID, `requests` what came."""

    def __init__(self) -> None:
        self.mode = "take"
        self.taken: list[str] = []
        self.requests: list[Message] = []
        self.groups: list[list[str]] = []
        self.stored: dict[str, bytes] = {}
        self.fails: dict[str, int] = {}
        self.status, self.answer = 0, b""
        self.altered = False
        self.silent_about: set[str] = set()
        self._held: list[Any] = []
        self._received: list[Deferred[Message]] = []
        self._connections: set[Any] = set()
        factory = Factory.forProtocol(lambda: _Connection(self))
        factory.noisy = False
        self._port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.port = self._port.getHost().port

    def stop(self) -> Any:
        for one in list(self._connections):
            one.transport.abortConnection()
        return self._port.stopListening()

    def received(self) -> Deferred[Message]:
        done: Deferred[Message] = Deferred()
        self._received.append(done)
        return done

    def release(self) -> None:
        held, self._held = self._held, []
        for one, request in held:
            one.transport.write(self.say(request))

    def heard(self, connection: Any, request: Message) -> None:
        self.requests.append(request)
        waiting, self._received = self._received, []
        for done in waiting:
            done.callback(request)
        if self.mode == "hang up":
            connection.transport.abortConnection()
        elif self.mode == "hold":
            self._held.append((connection, request))
        else:
            connection.transport.write(self.say(request))

    def say(self, request: Message) -> bytes:
        if request.start[0] == "GET":
            return self._give(request.start[1].rpartition("/")[2])
        if self.status:
            return _answer(self.status, self.answer)
        referenced, failed = [], []
        group = []
        for content in parts(request):
            uid = dcmread(io.BytesIO(content)).file_meta.MediaStorageSOPInstanceUID
            group.append(str(uid))
            reason = 0xA900 if self.mode == "refuse" else self.fails.get(uid, 0)
            if reason:
                failed.append({"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}})
            elif uid not in self.silent_about:
                self.stored[str(uid)] = content
                self.taken.append(str(uid).rpartition(".")[2])
                url = f"http://elsewhere/dicom-web/studies/1.2/series/1.3/instances/{uid}"
                referenced.append({"00081155": {"vr": "UI", "Value": [uid]}, "00081190": {"vr": "UR", "Value": [url]}})
        self.groups.append(group)
        said = {}
        if referenced:
            said["00081199"] = {"vr": "SQ", "Value": referenced}
        if failed:
            said["00081198"] = {"vr": "SQ", "Value": failed}
        return _answer(200 if not failed else 202 if referenced else 409, json.dumps(said).encode())

    def _give(self, uid: str) -> bytes:
        content = self.stored.get(uid)
        if content is None:
            return _answer(404, b"")
        if self.altered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--\r\n"
        return _answer(200, body, 'multipart/related; type="application/dicom"; boundary=b')


class _Connection(Protocol):
    transport: Any

    def __init__(self, peer: StowPeer) -> None:
        self._peer, self._framer = peer, HttpFramer(responses=False, most_body=1 << 30)

    def connectionMade(self) -> None:
        self._peer._connections.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._peer._connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        for request in self._framer.feed(data):
            self._peer.heard(self, request)


def parts(request: Message) -> list[bytes]:
    """The instances in a request."""
    boundary = request.headers["content-type"].rpartition("boundary=")[2].encode()
    found = request.body.split(b"\r\n--" + boundary)
    assert found[0] == b""
    assert found[-1] == b"--\r\n"
    heads = {one.partition(b"\r\n\r\n")[0] for one in found[1:-1]}
    assert heads == {b"\r\nContent-Type: application/dicom"}
    return [one.partition(b"\r\n\r\n")[2] for one in found[1:-1]]


def _answer(status: int, body: bytes, content_type: str = "application/dicom+json") -> bytes:
    return head(f"HTTP/1.1 {status} X", {"Content-Type": content_type, "Content-Length": str(len(body))}) + body
