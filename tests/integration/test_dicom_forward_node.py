"""A node that forwards: a dead receiver delays no other, one that is down for a while gets everything once, and what another node has
committed is in its archive; killed in between."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from adapters.dicom.archive.index import Index
from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.processes import tree
from engine.bench.site import BenchSite
from tests.support.dicom_instances import STUDY, instance, uid
from tests.support.peers import require
from tests.support.waiting import until

STORESCU, STORESCP = Path("/usr/bin/storescu"), Path("/usr/bin/storescp")
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
RETRY = {"first": "200ms", "most": "500ms", "give_up_after": "1d"}


class ForwardingSite:
    """Channel `images`: DICOM in, to the destinations given."""

    def __init__(self, folder: Path, source: dict[str, Any], *destinations: dict[str, Any]) -> None:
        require(STORESCU.is_file() and STORESCP.is_file(), "dcmtk is not installed")
        self.site = BenchSite(folder, free_port(), free_port())
        channel = {
            "name": "images",
            "source": {"dicom": {"listen": f"{HOST}:{self.site.port}", **source}},
            "destinations": [{"order": "none", "retry": RETRY, **one} for one in destinations],
        }
        for name, content in {
            "meridian.yaml": {"name": "site", "party": "site", "http": {"listen": f"{HOST}:{self.site.http}"}},
            "channels/images.yaml": channel,
        }.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))

    def send(self, folder: Path, numbers: range) -> None:
        """By storescu; all are acknowledged."""
        folder.mkdir(exist_ok=True)
        files = [folder / f"{number}.dcm" for number in numbers]
        for number, path in zip(numbers, files, strict=True):
            path.write_bytes(instance(number))
        command = [str(STORESCU), "-aec", "MERIDIAN", HOST, str(self.site.port), *map(str, files)]
        subprocess.run(command, check=True, env=ENVIRONMENT)

    def delivered(self, destination: str) -> dict[str, str]:
        """SOP instance UID -> the receipt's reference."""
        sql = (
            "SELECT control_id, delivery.reference FROM delivery JOIN message ON message.id = delivery.message "
            "JOIN destination ON destination.id = delivery.queue >> 40 WHERE destination.name = ?"
        )
        database = sqlite3.connect(f"file:{self.site.folder}/data/meridian.db?mode=ro", uri=True)
        try:
            return dict(database.execute(sql, (destination,)))
        finally:
            database.close()


@contextmanager
def storescp(port: int, out: Path) -> Iterator[None]:
    """Each instance that comes in a file of its own, so that one that comes twice is seen."""
    out.mkdir(exist_ok=True)
    process = subprocess.Popen([str(STORESCP), "--bit-preserving", "+xa", "+uf", "-od", str(out), str(port)], env=ENVIRONMENT)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def came(out: Path) -> Counter[str]:
    return Counter(str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in out.iterdir())


def test_a_dead_receiver_delays_no_other_and_gets_everything_once_it_is_back(tmp_path: Path) -> None:
    """Three destinations: one that lives, one that nobody answers for, one that comes back."""
    ports = {name: free_port() for name in ("alive", "dead", "back")}
    destinations = [{"name": name, "dicom": {"peer": f"{HOST}:{port}", "called_ae": name.upper()}} for name, port in ports.items()]
    site = ForwardingSite(tmp_path / "site", {}, *destinations)
    wanted = Counter(uid(number) for number in range(1, 61))
    with Node(site.site), storescp(ports["alive"], tmp_path / "alive"):
        site.send(tmp_path / "sent", range(1, 61))
        until(lambda: len(site.delivered("alive")) == 60)
        assert came(tmp_path / "alive") == wanted
        assert site.delivered("back") == site.delivered("dead") == {}
        with storescp(ports["back"], tmp_path / "back"):
            until(lambda: len(site.delivered("back")) == 60)
        assert came(tmp_path / "back") == wanted
        assert all(reference == "0000H by BACK" for reference in site.delivered("back").values())
    original = {uid(number): instance(number) for number in range(1, 61)}
    for path in (tmp_path / "back").iterdir():
        content = path.read_bytes()
        assert content[-512:] == original[str(dcmread(path).SOPInstanceUID)][-512:]


@pytest.fixture
def two_nodes(tmp_path: Path) -> tuple[ForwardingSite, ForwardingSite]:
    """The first forwards to the second, which archives, and commits."""
    reports = free_port()
    archive = {"archive": {}, "commitment": {"archive": "dicom", "known": {"HOSPITAL": f"{HOST}:{reports}"}}}
    second = ForwardingSite(tmp_path / "second", archive, {"name": "archive", "dicom_archive": {}})
    to_second = {"peer": f"{HOST}:{second.site.port}", "called_ae": "CITY", "calling_ae": "HOSPITAL", "commitment": "required"}
    first = ForwardingSite(
        tmp_path / "first",
        {"commitment": {}},
        {"name": "city", "dicom": {**to_second, "commitment_quiet": "200ms", "commitment_within": "20s", "commitment_linger": "100ms"}},
    )
    channel = tmp_path / "first" / "channels" / "images.yaml"
    listener = {"name": "reports", "source": {"dicom": {"listen": f"{HOST}:{reports}", "commitment": {}}}, "destinations": []}
    (channel.parent / "reports.yaml").write_text(json.dumps(listener))
    return first, second


def test_what_another_node_has_committed_is_in_its_archive(two_nodes: tuple[ForwardingSite, ForwardingSite], tmp_path: Path) -> None:
    """Done means committed: the receipt names the transaction. The first node is killed on the way, twice; nothing is lost or doubled."""
    first, second = two_nodes
    with Node(second.site):
        for attempt in range(2):
            with Node(first.site) as node:
                first.send(tmp_path / "sent", range(1 + 40 * attempt, 41 + 40 * attempt))
                until(lambda: len(second.delivered("archive")) > 10)
                for process in reversed(tree(node._process.pid)):
                    os.kill(process, signal.SIGKILL)
        with Node(first.site):
            first.send(tmp_path / "sent", range(81, 101))
            until(lambda: len(first.delivered("city")) == 100)
    assert all(
        reference.startswith("0000H, committed 2.25.") or reference.startswith("committed 2.25.")
        for reference in first.delivered("city").values()
    )
    index = Index(second.site.folder / "data" / "dicom")
    assert sorted(held.sop_uid for held in index.instances(STUDY)) == sorted(uid(number) for number in range(1, 101))
    index.close()
