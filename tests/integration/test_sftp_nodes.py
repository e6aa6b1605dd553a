"""Nodes that take files in over SFTP and write them over SFTP: our own server, and OpenSSH's."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from engine import audit
from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.site import BenchSite
from tests.support.drop import openssh
from tests.support.peers import PATIENCE
from tests.support.sftp_peer import OpenSsh, keypair
from tests.support.waiting import until

ROWS = {"format": "csv", "poll": "100ms", "settled_for": "0s", "rows": {"table": "rows", "key": ["id"]}}
PARTY = "urn:meridian:party:"


class Center:
    """A site with one channel `rows`, whose source is given; each row becomes a file at `far`."""

    def __init__(self, folder: Path, far: OpenSsh, source: dict[str, Any], **channel: Any) -> None:
        self.folder = folder
        self.ports = BenchSite(folder, free_port(), free_port())
        (folder / "channels").mkdir(parents=True)
        out = {"name": "out", "order": "none", "file": {"sftp": far.settings(), "into": "rows", "name": "${row.id}.json"}}
        self._write("meridian.yaml", {"name": folder.name, "party": "center", "http": {"listen": f"{HOST}:{self.ports.http}"}})
        channel = {"name": "rows", "source": {"file": {**ROWS, **source}}, "destinations": [out], **channel}
        self._write("channels/rows.yaml", channel)

    def _write(self, name: str, content: Any) -> None:
        """As JSON, which is YAML."""
        (self.folder / name).write_text(json.dumps(content))

    def running(self) -> Node:
        return Node(self.ports)

    def meridian(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "engine", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    def kept(self) -> list[tuple[str, str]]:
        """Verdict and proven party of each message."""
        with closing(sqlite3.connect(f"file:{self.folder / 'data' / 'meridian.db'}?mode=ro", uri=True)) as database:
            return database.execute("SELECT verdict, peer FROM message ORDER BY id").fetchall()

    def audited(self, event: str) -> list[dict[str, Any]]:
        return [record.facts for record in audit.records(self.folder / "data" / "audit") if record.event == event]


class Sender:
    """OpenSSH's client with a user's key."""

    def __init__(self, folder: Path, user: str, port: int) -> None:
        self.folder, self.user, self.port = folder, user, port
        self.key = keypair(folder / user)
        self.command: list[str] = []

    def knows(self, host_key: str) -> None:
        self.command = [*openssh("sftp", self.folder / self.user, host_key, self.port), "-P", str(self.port), f"{self.user}@{HOST}"]

    def put(self, name: str, content: bytes) -> int:
        (self.folder / name).write_bytes(content)
        command = [self.command[0], "-b", "-", *self.command[1:]]
        given = f"put {self.folder / name} {name}\n"
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=PATIENCE, check=False).returncode


def test_two_hospitals_put_files(tmp_path: Path) -> None:
    """Each row is at the next server, each message is its hospital's; the bad row is kept and reported beside the file. A hospital that is
    disabled is out at once, while the other goes on."""
    port = free_port()
    people = {name: Sender(tmp_path, name, port) for name in ("county", "city")}
    with OpenSsh(tmp_path / "far") as far:
        users = {name: {"party": f"{name}-hospital", "public_keys": [one.key]} for name, one in people.items()}
        serve = {"listen": f"{HOST}:{port}", "host_key": "host", "folder": "drop", "users": users}
        center = Center(tmp_path / "center", far, {"serve": serve}, parties="refuse")
        host_key = keypair(center.folder / "host")
        for name, one in people.items():
            one.knows(host_key)
            center.meridian("parties", "add", f"{name}-hospital", "--kind", "institution", "--may-send", "*", "--site", str(center.folder))
        assert "fine" in center.meridian("check", str(center.folder)).stdout
        county, city = people["county"], people["city"]
        with center.running():
            assert county.put("a.csv", b"id,value\n1,x\n2,y,z\n3,w\n") == 0
            reported = center.folder / "drop/county/faulty/a.csv.errors.csv"
            until(lambda: reported.exists() and not (center.folder / "drop/county/a.csv").exists(), "the report")
            assert (center.folder / "drop/county/faulty/a.csv").read_bytes().startswith(b"id,value")
            until(lambda: {file.name for file in far.files.glob("rows/*.json")} == {"1.json", "3.json"}, "the rows at the next server")
            assert city.put("b.csv", b"id,value\n4,x\n") == 0
            until((center.folder / "drop/city/done/b.csv").exists, "the other hospital's file")
            assert county.put("b.csv", b"id,value\n4,x\n") == 0
            until((center.folder / "drop/county/done/b.csv").exists, "the same content of another hospital")
            with subprocess.Popen(county.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as session:
                until(lambda: len(center.audited("sftp.opened")) == 4, "an open session")
                center.meridian("parties", "disable", "county-hospital", "--reason", "moved", "--site", str(center.folder))
                until(lambda: center.audited("sftp.ended"), "the end of the session")
                session.communicate(b"ls\n", PATIENCE)  # it looks at its connection only when it is asked something
                assert session.returncode != 0
            assert county.put("c.csv", b"id,value\n5,x\n") != 0
            assert city.put("c.csv", b"id,value\n5,x\n") == 0
            until((center.folder / "drop/city/done/c.csv").exists, "the file of the hospital that is not disabled")
    counted = Counter(center.kept())
    assert counted[("accepted", f"{PARTY}county-hospital")] == 3
    assert counted[("invalid", f"{PARTY}county-hospital")] == 1
    assert counted[("accepted", f"{PARTY}city-hospital")] == 2
    assert "the party has been disabled" in [facts["reason"] for facts in center.audited("sftp.ended")]


def test_a_disabled_party_is_out_though_no_channel_checks_messages(tmp_path: Path) -> None:
    """The server asks the registry, whether or not the channel says `parties`."""
    port = free_port()
    county = Sender(tmp_path, "county", port)
    with OpenSsh(tmp_path / "far") as far:
        users = {"county": {"party": "county-hospital", "public_keys": [county.key]}}
        center = Center(
            tmp_path / "center", far, {"serve": {"listen": f"{HOST}:{port}", "host_key": "host", "folder": "drop", "users": users}}
        )
        county.knows(keypair(center.folder / "host"))
        site = ("--site", str(center.folder))
        center.meridian("parties", "add", "county-hospital", "--kind", "institution", "--may-send", "*", *site)
        center.meridian("parties", "disable", "county-hospital", "--reason", "moved", *site)
        with center.running():
            assert county.put("a.csv", b"id,value\n1,x\n") != 0
            until(lambda: center.audited("sftp.login_failed"), "the refusal")
    assert center.audited("sftp.login_failed")[0]["reason"] == "the party has been disabled"


def test_two_nodes_and_one_folder_far_away(tmp_path: Path) -> None:
    """Both poll it; every file is taken by one of them, every row is there once. The server is started anew in between."""
    with OpenSsh(tmp_path / "far") as far:
        (far.files / "in").mkdir()
        source = {"sftp": far.settings(folder=str(far.files / "in"))}
        nodes = [Center(tmp_path / name, far, source) for name in ("east", "west")]
        with nodes[0].running(), nodes[1].running():
            for number in range(30):
                (far.files / "in" / f".{number}").write_bytes(f"id,value\n{number},x\n".encode())
                (far.files / "in" / f".{number}").rename(far.files / "in" / f"{number}.csv")
                if number == 15:
                    far.kill()
                    far.start()
            until(lambda: len(list(far.files.glob("in/done/*.csv"))) == 30, "all files taken")
            until(lambda: len(list(far.files.glob("rows/*.json"))) == 30, "all rows written")
    assert sum(len(node.kept()) for node in nodes) == 30
    assert not list(far.files.glob("in/faulty/*"))
