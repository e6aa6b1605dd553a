"""A running node among peers that do not behave, with a disk that is full, and one that stops while it receives."""

from __future__ import annotations

import json
import socket
import struct
import threading
from pathlib import Path

import pytest

from adapters.dicom.upper import pdu
from engine.bench.loopback import HOST
from engine.bench.modalities import ImageLoad, Instances, _Sender
from tests.support.dicom import associate_pdu
from tests.support.dicom_site import DicomSite


class Count:
    """What modalities share: sends up to `most` instances, and keeps their statuses."""

    def __init__(self, most: int) -> None:
        self.instances = Instances("ct", 131072)
        self.statuses: list[int] = []
        self._left, self._next, self._guard = most, 0, threading.Lock()

    def take(self) -> int | None:
        with self._guard:
            self._next += 1
            return self._next if self._next <= self._left else None

    def done(self, took: float, status: int) -> None:
        self.statuses.append(status)


def sent(site: DicomSite, count: int) -> list[int]:
    """The statuses of instances sent over one association."""
    counted = Count(count)
    sender = _Sender(ImageLoad(site.dicom), counted)  # type: ignore[arg-type]
    sender.start()
    sender.join(60)
    assert not sender.is_alive()
    return counted.statuses


@pytest.fixture
def site(tmp_path: Path) -> DicomSite:
    return DicomSite(tmp_path, {"associations": 50})


def test_peers_that_do_not_behave_harm_no_other(site: DicomSite) -> None:
    """Silent, stuck in the middle of an instance, lying about lengths, speaking something else, dozens of them: the good one goes on."""
    with site.running():
        strangers = [socket.create_connection((HOST, site.dicom)) for _ in range(30)]
        for number, stranger in enumerate(strangers):
            if number % 3 == 1:
                stranger.sendall(b"\x04\0\xff\xff\xff\xff" * 100)
            elif number % 3 == 2:
                stranger.sendall(associate_pdu(called="X" * 16)[: 60 + number])
        stuck = [_Sender(ImageLoad(site.dicom), Count(1)) for _ in range(10)]  # type: ignore[arg-type]
        for number, one in enumerate(stuck):
            front, rest = one._shared.instances.message(10_000 + number)
            one._socket.sendall(front + bytes(rest[:200_000]))
        assert sent(site, 20) == [0] * 20
        for one in [*strangers, *(stuck_one._socket for stuck_one in stuck)]:
            one.close()
    assert [one.verdict for one in site.instances()] == ["accepted"] * 20


def test_a_full_disk_is_answered_a700h_and_recovers(site: DicomSite) -> None:
    """By the store's own limit of free space; nothing of it is kept."""
    file = site.folder / "meridian.yaml"
    written = json.loads(file.read_text())
    file.write_text(json.dumps({**written, "store": {"min_free": "1000000GB"}}))
    with site.running():
        assert sent(site, 2) == [0xA700] * 2
    file.write_text(json.dumps(written))
    with site.running():
        assert sent(site, 2) == [0] * 2
    assert len(site.instances()) == 2


def test_a_node_that_stops_answers_what_it_has(site: DicomSite) -> None:
    """The association is aborted by the book; what was answered is kept."""
    counted = Count(1 << 30)
    with site.running():
        sender = _Sender(ImageLoad(site.dicom), counted)  # type: ignore[arg-type]
        sender.start()
        while len(counted.statuses) < 3:
            sender.join(0.01)
    sender.join(60)
    assert not sender.is_alive()
    assert set(counted.statuses) == {0}
    assert len(site.instances()) >= len(counted.statuses)


def test_a_peer_that_is_refused_is_told_why_before_the_connection_closes(site: DicomSite) -> None:
    """A-ABORT with its reason, then the end; not a reset that takes the words with it."""
    with site.running(), socket.create_connection((HOST, site.dicom)) as wire:
        wire.sendall(associate_pdu())
        kind, length = struct.unpack(">BxL", wire.recv(6, socket.MSG_WAITALL))
        accept = pdu.decode(kind, wire.recv(length, socket.MSG_WAITALL))
        assert isinstance(accept, pdu.AssociateAccept)
        wire.sendall(b"\x04\0\0\0\0\x06\0\0\0\x02\x09\x03")
        assert wire.recv(10, socket.MSG_WAITALL) == pdu.encode(pdu.Abort(2, 6))
