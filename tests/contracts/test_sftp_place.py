"""A folder on OpenSSH's server against the contract of places."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from adapters.file.remote import RemotePlace
from adapters.file.ssh.options import SFTP
from adapters.file.ssh.wire import SftpWire
from tests.contracts.file_places import PlaceContract
from tests.support.fhir import context
from tests.support.sftp_peer import OpenSsh


class Seconds:
    """A clock that a test sets; each look is three seconds later, so that every beat is one."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 3.0
        return self.now


class RemoteContract(PlaceContract):
    """`folder` is where the server keeps its files, on this machine."""

    folder: Path

    def put(self, path: str, content: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def tree(self) -> dict[str, bytes]:
        files = [one for one in self.folder.rglob("*") if one.is_file()]
        return {str(one.relative_to(self.folder)): one.read_bytes() for one in files if one.name != ".alive"}

    def silence(self, owner: str, seconds: float) -> None:
        alive = self.folder / ".claimed" / owner / ".alive"
        then = alive.stat().st_mtime - seconds
        os.utime(alive, (then, then))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    with OpenSsh(tmp_path_factory.mktemp("ssh")) as running:
        yield running


class TestSftpPlace(RemoteContract):
    """With posix-rename and fsync."""

    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _folder(self, server: OpenSsh, tmp_path: Path) -> None:
        self.server, self.folder = server, tmp_path / "files"
        self.folder.mkdir()

    def make(self, owner: str) -> Any:
        settings = SFTP.defaults(**self.server.settings(folder=str(self.folder), **self.options))
        made = RemotePlace(SftpWire(settings, context(self.folder, None)), owner, Seconds())
        made.open()
        return made
