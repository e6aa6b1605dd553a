"""A folder on pyftpdlib's server against the contract of places."""

from __future__ import annotations

import os
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
from tests.support.vsftpd_peer import Vsftpd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpsPeer]:
    with FtpsPeer(tmp_path_factory.mktemp("ftps")) as running:
        yield running


@pytest.fixture(scope="module")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FtpsPeer]:
    with FtpsPeer(tmp_path_factory.mktemp("ftps"), without=["MLSD", "MLST"], client_certificate=True) as running:
        yield running


@pytest.fixture(scope="module")
def vsftpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vsftpd]:
    with Vsftpd(tmp_path_factory.mktemp("vsftpd")) as running:
        yield running


class TestFtpsPlace(RemoteContract):
    """With machine-readable listings (RFC 3659)."""

    @pytest.fixture(autouse=True)
    def _folder(self, server: FtpsPeer, tmp_path: Path) -> None:
        self._use(server, tmp_path, {})

    def _use(self, server: Any, tmp_path: Path, tls: dict[str, Any]) -> None:
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


class TestFtpsPlaceOfVsftpd(TestFtpsPlace):
    """Its own reply codes and listings, and TLS sessions that must go on."""

    @pytest.fixture(autouse=True)
    def _folder(self, vsftpd: Vsftpd, tmp_path: Path) -> None:
        self._use(vsftpd, tmp_path, {})
        self.folder.chmod(0o777)

    def put(self, path: str, content: bytes) -> None:
        super().put(path, content)
        (self.folder / path).parent.chmod(0o777)
        (self.folder / path).chmod(0o666)

    def test_names_are_bytes(self, place: Any) -> None:
        """GBK, as a Windows program has written it."""
        raw = "报告.csv".encode("gb18030")
        name = raw.decode("utf-8", "surrogateescape")
        self.put(name, b"1")
        assert self.names(place.list()) == [name]
        claimed = place.claim(name)
        with place.read(claimed) as file:
            assert file.read() == b"1"
        place.move(claimed, "done")
        assert os.listdir(os.fsencode(self.folder / "done")) == [raw]
