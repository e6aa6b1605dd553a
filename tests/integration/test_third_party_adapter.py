"""An adapter from somebody else's package: found by its entry point, checked, and at work in a running node."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.bench.loopback import HOST, free_port
from tests.support.sites import Site

ACME = """
from twisted.internet.defer import succeed
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from engine.message import Envelope, Receipt
from engine.options import ADDRESS, TEXT, Option, Spec


class Line(LineOnlyReceiver):
    delimiter = b"\\n"

    def lineReceived(self, line):
        source = self.factory
        envelope = Envelope(line, "text/plain", "LINE", line[:1].decode(), received_at=source.context.clock())
        kept = source.intake(envelope, lambda judgement: judgement.verdict.encode())
        kept.addCallback(lambda ack: self.sendLine(ack.answer))


class Source(Factory):
    protocol = Line

    def __init__(self, options, context):
        self.options, self.context = options, context

    def start(self, intake):
        self.intake = intake
        host, port = self.options.listen
        self.listening = self.context.reactor.listenTCP(port, self, interface=host)
        return succeed(None)

    def stop(self):
        return self.listening.stopListening()


class Folder:
    max_in_flight = 1

    def __init__(self, options, context):
        self.folder = context.site / options.folder

    def open(self):
        self.folder.mkdir(exist_ok=True)
        return succeed(None)

    def deliver(self, parcel):
        (self.folder / parcel.control_id).write_bytes(parcel.body)
        return succeed(Receipt(parcel.control_id))

    def close(self):
        return succeed(None)


class Acme:
    name = "acme"
    content_types = ()
    source_options = Spec("acme source", "Lines over TCP.", [Option("listen", ADDRESS, "where", required=True)], scalar="listen")
    destination_options = Spec("acme destination", "Files.", [Option("folder", TEXT, "where", required=True)], scalar="folder")

    def source(self, options, context):
        return Source(options, context)

    def destination(self, options, context):
        return Folder(options, context)


adapter = Acme()
"""
ENTRY_POINTS = "[meridian.adapters]\nacme = acme:adapter\nmllp = acme:adapter\nbroken = nowhere_to_be_found:adapter\n"


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, as pip would leave it, in every process that is started from here."""
    installed = tmp_path / "installed"
    described = installed / "acme-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(ENTRY_POINTS)
    (installed / "acme.py").write_text(ACME)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH")))))


def check(site: Site) -> Any:
    command = [sys.executable, "-m", "engine", "check", str(site.folder), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout)


def channel(source: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    return {"source": source, "destinations": [{"name": "out", **destination}]}


@pytest.mark.usefixtures("acme")
def test_it_works_in_a_channel(tmp_path: Path) -> None:
    """Its source's lines are committed, answered, and delivered by its destination."""
    port = free_port()
    site = Site(tmp_path / "site", **channel({"acme": f"{HOST}:{port}"}, {"acme": "out"}))
    assert check(site)["ok"]
    with site.running(), socket.create_connection((HOST, port), timeout=60) as line:
        line.sendall(b"1 first\n2 second\n")
        answers = line.makefile("rb")
        assert [answers.readline() for _ in range(2)] == [b"accepted\n", b"accepted\n"]
    assert {file.name: file.read_bytes() for file in (site.folder / "out").iterdir()} == {"1": b"1 first", "2": b"2 second"}
    assert sorted(site.delivered()) == ["1", "2"]


@pytest.mark.usefixtures("acme")
def test_its_options_are_checked_as_those_of_our_own(tmp_path: Path) -> None:
    """Names and values, with the nearest name; a package that is missing is named; nobody takes the place of a shipped adapter."""
    wrong = Site(tmp_path / "wrong", **channel({"acme": {"lisen": 1}}, {"broken": {}}))
    misspelt, _, missing = check(wrong)["faults"]
    assert (misspelt["text"], misspelt["nearest"]) == ("acme source has no option 'lisen'", "listen")
    assert missing["text"].endswith("'broken' needs the package 'nowhere_to_be_found', which is not installed")
    assert check(Site(tmp_path / "site", **channel({"mllp": free_port()}, {"acme": "out"})))["ok"]
    (unknown,) = check(Site(tmp_path / "unknown", **channel({"acmee": 1}, {"acme": "out"})))["faults"]
    assert unknown["nearest"] == "acme"
