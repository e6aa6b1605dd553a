"""A folder on pyftpdlib's server against the contract of places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.file.ftps.options import FTPS
from adapters.file.ftps.wire import FtpsWire
from adapters.file.remote import RemotePlace
from tests.contracts.test_sftp_place import RemoteContract, Seconds
from tests.support.drop import StillReactor
from tests.support.fhir import context
from tests.support.ftps_peer import FtpsPeer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpsPeer]:
    with FtpsPeer(tmp_path_factory.mktemp("ftps")) as running:
        yield running


@pytest.fixture(scope="module")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpsPeer]:
    with FtpsPeer(tmp_path_factory.mktemp("ftps"), without=["MLSD", "MLST"], client_certificate=True) as running:
        yield running


class TestFtpsPlace(RemoteContract):
    """With machine-readable listings (RFC 3659)."""

    @pytest.fixture(autouse=True)
    def _folder(self, server: FtpsPeer, tmp_path: Path) -> None:
        self._use(server, tmp_path, {})

    def _use(self, server: FtpsPeer, tmp_path: Path, tls: dict[str, Any]) -> None:
        self.server, self.tls = server, tls
        self.folder = server.files / tmp_path.name
        self.folder.mkdir()

    def make(self, owner: str) -> Any:
        settings = FTPS.defaults(**self.server.settings(folder=f"/{self.folder.name}", tls=self.tls))
        made = RemotePlace(FtpsWire(settings, context(self.server.site, StillReactor())), owner, Seconds())
        made.open()
        return made


class TestFtpsPlaceOfAnOldServer(TestFtpsPlace):
    """Without them: sizes and times are asked for name by name. It wants a client certificate."""

    @pytest.fixture(autouse=True)
    def _folder(self, old_server: FtpsPeer, tmp_path: Path) -> None:
        self._use(old_server, tmp_path, {"certificate": "node.pem", "key": "node.key"})
