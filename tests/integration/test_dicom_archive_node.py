"""A node with an archive: from storescu to a complete study, and back by findscu and getscu; killed in between, nothing is lost or there twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.dicom.archive.index import Index
from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.processes import tree
from engine.bench.site import BenchSite
from tests.support.dicom_archive import instance
from tests.support.peers import require
from tests.support.waiting import until

STORESCU, GETSCU = Path("/usr/bin/storescu"), Path("/usr/bin/getscu")


class ImagingSite:
    """Channel `images`: DICOM in, kept in the archive; channel `studies`: what the archive tells of."""

    def __init__(self, folder: Path) -> None:
        require(STORESCU.is_file() and GETSCU.is_file(), "dcmtk is not installed")
        self.site = BenchSite(folder / "site", free_port(), free_port())
        self.index = Index(self.site.folder / "data" / "dicom")
        self._sent = folder / "sent"
        self._sent.mkdir(parents=True)
        images = {"name": "images", "source": {"dicom": {"listen": f"{HOST}:{self.site.port}", "archive": {}}}}
        studies = {"name": "studies", "source": {"dicom_archive": {"settle": "300ms", "quiet": "1s", "poll": "100ms"}}, "destinations": []}
        self._write("meridian.yaml", {"name": "site", "party": "site", "http": {"listen": f"{HOST}:{self.site.http}"}})
        self._write("channels/images.yaml", {**images, "destinations": [{"name": "archive", "dicom_archive": {}}]})
        self._write("channels/studies.yaml", studies)

    def _write(self, name: str, content: Any) -> None:
        """As JSON, which is YAML."""
        path = self.site.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def send(self, numbers: range) -> subprocess.Popen[str]:
        """storescu under way with these instances of study 1."""
        files = []
        for number in numbers:
            path = self._sent / f"{number}.dcm"
            path.write_bytes(instance(number))
            files.append(str(path))
        command = [str(STORESCU), "-v", "-aec", "MERIDIAN", HOST, str(self.site.port), *files]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TCP_NODELAY": "1"}
        )

    def studies(self) -> list[tuple[str, str, int]]:
        """What the channel `studies` has kept: message type, control id, number of instances."""
        database = sqlite3.connect(f"file:{self.site.folder}/data/meridian.db?mode=ro", uri=True)
        try:
            sql = (
                "SELECT message_type, control_id, body.body, message.digest FROM message LEFT JOIN body ON body.message = message.id "
                "WHERE message_type LIKE 'STUDY^%' ORDER BY message.id"
            )
            return [(kind, control, len(orjson.loads(body or self._body(digest)))) for kind, control, body, digest in database.execute(sql)]
        finally:
            database.close()

    def _body(self, digest: Any) -> bytes:
        name = digest.hex() if isinstance(digest, bytes) else digest
        return (self.site.folder / "data" / "bodies" / name[:2] / name[2:]).read_bytes()


def acknowledged(said: str) -> int:
    return said.count("Received Store Response (Success)")


@pytest.fixture
def imaging(tmp_path: Path) -> ImagingSite:
    return ImagingSite(tmp_path)


def test_from_a_modality_to_a_complete_study(imaging: ImagingSite, tmp_path: Path) -> None:
    """And a viewer gets it back."""
    with Node(imaging.site):
        said, _ = imaging.send(range(1, 6)).communicate()
        assert acknowledged(said) == 5
        until(lambda: [kind for kind, _, _ in imaging.studies()][-1:] == ["STUDY^COMPLETE"])
        late, _ = imaging.send(range(6, 7)).communicate()
        assert acknowledged(late) == 1
        until(lambda: imaging.studies()[-1][0] == "STUDY^COMPLETE" and imaging.studies()[-1][2] == 6)
        assert [control for _, control, _ in imaging.studies()] == [f"2.25.1.{version}" for version in range(1, len(imaging.studies()) + 1)]
        got = tmp_path / "got"
        got.mkdir()
        keys = ["-k", "0008,0052=STUDY", "-k", "StudyInstanceUID=2.25.1"]
        command = [str(GETSCU), "-aec", "MERIDIAN", "-S", "-od", str(got), *keys, HOST, str(imaging.site.port)]
        subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"})
        assert len(list(got.iterdir())) == 6


def test_killed_in_mid_association(imaging: ImagingSite) -> None:
    """SIGKILL of the whole node, three times: what storescu was told is kept is in the archive once, and its study is told of as it is."""
    kept: set[int] = set()
    for attempt in range(3):
        numbers = range(1 + 100 * attempt, 101 + 100 * attempt)
        with Node(imaging.site) as node:
            sending = imaging.send(numbers)
            assert sending.stdout is not None
            said = ""
            while acknowledged(said) < 20 + 10 * attempt:
                said += sending.stdout.readline()
            for process in reversed(tree(node._process.pid)):
                os.kill(process, signal.SIGKILL)
            said += sending.communicate()[0]
        kept |= set(numbers[: acknowledged(said)])
    with Node(imaging.site):
        until(lambda: {int(held.sop_uid.rpartition(".")[2]) for held in imaging.index.instances("2.25.1")} >= kept)
        until(
            lambda: imaging.studies()[-1:] != [] and imaging.studies()[-1][0] == "STUDY^COMPLETE" and imaging.studies()[-1][2] >= len(kept)
        )
    held = imaging.index.instances("2.25.1")
    assert len({one.sop_uid for one in held}) == len(held) == imaging.studies()[-1][2]
    assert all(one.path.read_bytes().endswith(instance(int(one.sop_uid.rpartition(".")[2]))[-40:]) for one in held)
    imaging.index.close()
