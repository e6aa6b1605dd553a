"""Places on FTPS servers: certificates, and what happens when the server goes."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.file.ftps.options import FTPS
from adapters.file.ftps.session import CertificateRefused, LoginRefused
from adapters.file.ftps.wire import FtpsWire
from adapters.file.remote import RemotePlace
from certs import Authority
from engine.errors import ConfigError
from tests.support.drop import StillReactor
from tests.support.fhir import context
from tests.support.ftps_peer import FtpsPeer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FtpsPeer]:
    with FtpsPeer(tmp_path / "ftps") as running:
        yield running


def place_at(settings: dict[str, Any], site: Path, audited: list[str] | None = None) -> RemotePlace:
    heard = audited if audited is not None else []
    made = dataclasses.replace(context(site, StillReactor()), audit=lambda event, **_: heard.append(event))
    return RemotePlace(FtpsWire(FTPS.defaults(**settings), made), "one", time.monotonic)


def test_a_certificate_of_another_authority_is_refused(server: FtpsPeer, tmp_path: Path) -> None:
    """Before a password is sent; audited once until it is right again."""
    Authority.create(tmp_path / "site" / "certs", "another CA")
    audited: list[str] = []
    place = place_at(server.settings(), tmp_path / "site", audited)
    for _ in range(2):
        with pytest.raises(CertificateRefused):
            place.list()
    assert audited == ["ftps.certificate_refused"]
    assert "USER" not in (server.folder / "log").read_text()


def test_a_certificate_for_another_name_is_refused(server: FtpsPeer) -> None:
    """The right authority is not enough."""
    place = place_at(server.settings(host="127.0.0.2"), server.site)
    with pytest.raises((CertificateRefused, ConnectionError)):
        place.list()
    right = place_at(server.settings(host="localhost"), server.site)
    assert right.list() == []
    right.close()


def test_a_wrong_password(server: FtpsPeer) -> None:
    """It is told from a server that is down."""
    (server.site / "other").write_text("wrong")
    place = place_at(server.settings(password=f"file:{server.site}/other"), server.site)
    with pytest.raises(LoginRefused):
        place.list()


def test_files_that_are_not_there(server: FtpsPeer, tmp_path: Path) -> None:
    """Faults of the site are said when the place is opened, without a connection."""
    with pytest.raises(ConfigError, match="certificates"):
        place_at(server.settings(tls={"ca": "missing.pem"}), server.site).open()
    with pytest.raises(ConfigError, match="cannot read the secret"):
        place_at(server.settings(password=f"file:{tmp_path}/none"), server.site).open()


def test_killed_in_the_middle_of_a_read(server: FtpsPeer) -> None:
    """A data connection that ends is not the end of the file."""
    content = os.urandom(30 << 20)
    (server.files / "big.bin").write_bytes(content)
    place = place_at(server.settings(), server.site)
    claimed = place.claim("big.bin")
    assert claimed is not None
    with place.read(claimed) as file:
        assert file.read(1000) == content[:1000]
        server.kill()
        with pytest.raises(ConnectionError):
            file.read()
    place.close()
    server.start()
    with place.read(claimed) as file:
        assert file.read() == content
    place.close()


def test_killed_in_the_middle_of_a_write(server: FtpsPeer) -> None:
    """Nothing has the name; written again, all of it has."""
    place = place_at(server.settings(), server.site)

    def chunks(killing: bool) -> Iterator[bytes]:
        yield b"a" * (3 << 20)
        if killing:
            server.kill()
        yield b"b" * (3 << 20)

    with pytest.raises(ConnectionError):
        place.write("out.bin", chunks(True))
    assert not (server.files / "out.bin").exists()
    server.start()
    assert place.write("out.bin", chunks(False))
    assert (server.files / "out.bin").stat().st_size == 6 << 20
    assert os.listdir(server.files) == ["out.bin"]
    place.close()


def test_bytes_are_bytes(server: FtpsPeer) -> None:
    """Line ends stay what they are, though listings are asked for in text mode."""
    name = "报告.csv"
    content = b"\r\n\n\r" * 1000 + bytes(range(256))
    place = place_at(server.settings(), server.site)
    assert place.list() == []
    assert place.write("a.bin", [content])
    assert (server.files / "a.bin").read_bytes() == content
    (server.files / name).write_bytes(content)
    assert sorted(entry.name for entry in place.list()) == sorted(["a.bin", name])
    claimed = place.claim(name)
    assert claimed is not None
    with place.read(claimed) as file:
        assert file.read() == content
    with pytest.raises(OSError, match="no way to say"):
        place.write("a\nb", [b"1"])
    place.close()


def test_links_are_a_trap(server: FtpsPeer) -> None:
    """A server that follows its own links gives what they lead to for a file; it is not told apart, and stays within the server."""
    (server.files / "a.csv").write_bytes(b"1")
    (server.files / "folder").symlink_to(server.files)
    place = place_at(server.settings(), server.site)
    assert [entry.name for entry in place.list()] == ["a.csv"]
    place.close()


def test_a_connection_that_the_server_has_ended(server: FtpsPeer) -> None:
    """Between two rounds the server was started anew: the next request finds that out by itself."""
    clock = StillReactor()
    made = dataclasses.replace(context(server.site, clock))
    place = RemotePlace(FtpsWire(FTPS.defaults(**server.settings()), made), "one", time.monotonic)
    assert place.list() == []
    server.kill()
    server.start()
    clock.later = 60.0
    assert place.list() == []
    place.close()
