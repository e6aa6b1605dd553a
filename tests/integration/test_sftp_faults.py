"""Places on SFTP servers: who they must be, and what happens when they go, fill up or try something."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.file.places import Place, last_part
from adapters.file.remote import RemotePlace, Unanswered
from adapters.file.ssh.faults import HostKeyRefused, LoginRefused
from adapters.file.ssh.keys import fingerprint
from adapters.file.ssh.options import SFTP
from adapters.file.ssh.wire import SftpWire
from engine.errors import ConfigError
from tests.support.drop import StillReactor
from tests.support.fhir import context
from tests.support.sftp_moods import MoodyServer
from tests.support.sftp_peer import OpenSsh, keypair
from tests.support.waiting import until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OpenSsh]:
    with OpenSsh(tmp_path / "ssh") as running:
        yield running


class Audit:
    """Events as they are audited."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))


def place_at(settings: dict[str, Any], site: Path, owner: str = "one", audit: Any = None) -> RemotePlace:
    made = dataclasses.replace(context(site, StillReactor()), audit=audit or Audit())
    return RemotePlace(SftpWire(SFTP.defaults(**settings), made), owner, time.monotonic)


# --- who it is -------------------------------------------------------------------------------------


def test_a_changed_host_key_is_refused(server: OpenSsh, tmp_path: Path) -> None:
    """Loudly, once, with what was shown; the new key works when it is pinned, beside the old one too."""
    audit = Audit()
    old = server.host_key
    settings = server.settings()
    place = place_at(settings, tmp_path, audit=audit)
    (server.files / "a.csv").write_bytes(b"1")
    assert [entry.name for entry in place.list()] == ["a.csv"]
    place.close()
    server.kill()
    server.host_key = keypair(server.folder / "host")
    server.start()
    for _ in range(2):
        with pytest.raises(HostKeyRefused, match="not the one that is pinned"):
            place.list()
    assert [(event, facts["shown"]) for event, facts in audit.events] == [("sftp.host_key_refused", fingerprint(server.host_key))]
    both = place_at(server.settings(host_key=[old, server.host_key]), tmp_path)
    assert len(both.list()) == 1
    both.close()
    place.close()


def test_known_hosts_of_openssh(server: OpenSsh, tmp_path: Path) -> None:
    """A file as ssh-keyscan writes it, hashed names too; a host that is not in it is no host of ours."""
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    place = place_at(server.settings(known_hosts="known_hosts"), tmp_path)
    place.open()
    assert place.list() == []
    place.close()
    with pytest.raises(ConfigError, match="has no key for"):
        place_at(server.settings(known_hosts="known_hosts", port=server.port + 1), tmp_path).open()


def test_a_key_that_is_not_known_there(server: OpenSsh, tmp_path: Path) -> None:
    """The server is right and does not let us in: not the same as being down."""
    keypair(tmp_path / "other")
    audit = Audit()
    place = place_at(server.settings(key="other"), tmp_path, audit=audit)
    with pytest.raises(LoginRefused):
        place.list()
    assert [event for event, _ in audit.events] == ["sftp.login_refused"]


def test_a_key_with_a_passphrase(server: OpenSsh, tmp_path: Path) -> None:
    """By reference; a wrong one is a fault of the site, and says so without it."""
    (server.folder / "client.pub").write_text(keypair(tmp_path / "locked", "rsa", "open sesame") + "\n")
    (tmp_path / "right").write_text("open sesame")
    (tmp_path / "wrong").write_text("shut")
    place = place_at(server.settings(key="locked", key_passphrase=f"file:{tmp_path}/right"), tmp_path)
    assert place.list() == []
    place.close()
    with pytest.raises(ConfigError, match="locked") as raised:
        place_at(server.settings(key="locked", key_passphrase=f"file:{tmp_path}/wrong"), tmp_path).open()
    assert "shut" not in str(raised.value)


def test_a_password(tmp_path: Path) -> None:
    """For servers that know no keys."""
    (tmp_path / "files").mkdir()
    with MoodyServer(tmp_path / "files") as moody:
        place = place_at(moody.settings(tmp_path / "password"), tmp_path)
        assert place.write("a.csv", [b"1"])
        place.close()
        wrong = place_at(moody.settings(tmp_path / "password", user="somebody"), tmp_path)
        with pytest.raises(LoginRefused):
            wrong.list()


@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
def refused(place: Place) -> Exception:
    """Why we are not let in; a server may close the connection before its reason was read, then it is only out of reach."""
    with pytest.raises((LoginRefused, ConnectionError)) as caught:
        place.list()
    return caught.value


@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")  # that is what is old about them
def test_old_algorithms_only_by_name(tmp_path: Path) -> None:
    """A server that speaks nothing else is refused, and taken where the channel names them."""
    more = "KexAlgorithms diffie-hellman-group14-sha1\nCiphers aes128-cbc\nMACs hmac-sha1\n"
    with OpenSsh(tmp_path / "ssh", more=more) as server:
        until(
            lambda: isinstance(reason := refused(place_at(server.settings(), tmp_path)), LoginRefused) and "old_algorithms" in str(reason)
        )
        old = ["diffie-hellman-group14-sha1", "aes128-cbc", "hmac-sha1"]
        place = place_at(server.settings(old_algorithms=old), tmp_path)
        assert place.list() == []
        place.close()


# --- when it goes ----------------------------------------------------------------------------------


def test_killed_in_the_middle_of_a_read(server: OpenSsh, tmp_path: Path) -> None:
    """The reader hears it, the claim stays ours, and when the server is back the whole is read."""
    content = os.urandom(20 << 20)
    (server.files / "big.bin").write_bytes(content)
    place = place_at(server.settings(), tmp_path)
    claimed = place.claim("big.bin")
    assert claimed is not None
    with place.read(claimed) as file:
        assert len(file.read(1 << 20)) == 1 << 20
        server.kill()
        with pytest.raises(ConnectionError):
            file.read()
    server.start()
    assert [entry.name for entry in place.claimed()] == [claimed]
    with place.read(claimed) as file:
        assert file.read() == content
    place.close()


def test_killed_in_the_middle_of_a_write(server: OpenSsh, tmp_path: Path) -> None:
    """Nothing has the name; written again, all of it has."""
    place = place_at(server.settings(), tmp_path)

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


@pytest.mark.parametrize("mood", ["before", "after"])
def test_an_answer_that_is_lost(tmp_path: Path, mood: str) -> None:
    """The connection ends at the rename that decides: it may have happened. The second attempt finds the name taken, or takes it."""
    (tmp_path / "files").mkdir()
    with MoodyServer(tmp_path / "files") as moody:
        place = place_at(moody.settings(tmp_path / "password"), tmp_path)
        moody.cut_at_rename = mood
        with pytest.raises(Unanswered):
            place.write("out.json", [b"{}"])
        assert place.write("out.json", [b"{}"]) is (mood == "before")
        assert (tmp_path / "files" / "out.json").read_bytes() == b"{}"
        assert os.listdir(tmp_path / "files") == ["out.json"]
        place.close()


def test_a_server_that_is_not_there(server: OpenSsh, tmp_path: Path) -> None:
    """Opening needs no server; the first request says that it is out of reach."""
    server.kill()
    place = place_at(server.settings(), tmp_path)
    place.open()
    with pytest.raises(ConnectionError, match="out of reach"):
        place.list()
    place.close()
    server.start()
    assert place.list() == []
    place.close()


def test_a_connection_that_the_server_has_ended(server: OpenSsh, tmp_path: Path) -> None:
    """Between two rounds the server was started anew: the next request connects again by itself."""
    place = place_at(server.settings(), tmp_path)
    wire = place._wire
    assert place.list() == []
    server.kill()
    assert isinstance(wire, SftpWire)
    until(wire.is_lost, "the end of the connection")
    server.start()
    assert place.list() == []
    place.close()


def test_a_server_that_hangs(server: OpenSsh, tmp_path: Path) -> None:
    """A request has a limit; afterwards the place works again."""
    place = place_at(server.settings(timeout="5s"), tmp_path)
    assert place.list() == []
    server.halt(signal.SIGSTOP)
    with pytest.raises(TimeoutError, match="does not answer"):
        place.list()
    server.halt(signal.SIGCONT)
    assert place.list() == []
    place.close()


def test_its_disk_is_full(tmp_path: Path) -> None:
    """It is said as what it is, though the protocol has no word for it; nothing is left behind."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        with OpenSsh(tmp_path / "ssh", files=small) as server:
            place = place_at(server.settings(), tmp_path)
            with pytest.raises(OSError, match="full") as raised:
                place.write("out.bin", [b"x" * (3 << 20)])
            assert raised.value.errno == errno.ENOSPC
            assert os.listdir(small) == []
            assert place.write("out.bin", [b"x"])
            place.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --- what lies there -------------------------------------------------------------------------------


def test_weird_names(server: OpenSsh, tmp_path: Path) -> None:
    """GBK bytes, a line end, a leading dash, 255 bytes: claimed, read and moved by the bytes that they are."""
    names = ["报告.pdf".encode("gb18030"), b"a\nb.csv", b"-rf", b"n" * 255, b"a b'\"$(x).csv", "\u00e9.csv".encode()]
    for name in names:
        (Path(os.fsdecode(server.files)) / os.fsdecode(name)).write_bytes(name)
    place = place_at(server.settings(), tmp_path)
    found = place.list()
    assert sorted(entry.name.encode("utf-8", "surrogateescape") for entry in found) == sorted(names)
    for entry in found:
        claimed = place.claim(entry.name)
        assert claimed is not None
        with place.read(claimed) as file:
            assert file.read() == entry.name.encode("utf-8", "surrogateescape")
        place.move(claimed, "done")
    assert sorted(os.listdir(os.fsencode(server.files / "done"))) == sorted(names)
    place.close()


def test_links_are_a_trap(server: OpenSsh, tmp_path: Path) -> None:
    """Neither listed nor read, also where a file is changed for one after it was claimed."""
    (server.files / "link.csv").symlink_to("/etc/hostname")
    (server.files / "a.csv").write_bytes(b"1")
    place = place_at(server.settings(), tmp_path)
    assert [entry.name for entry in place.list()] == ["a.csv"]
    with pytest.raises(OSError, match="no regular file"):
        place.read("link.csv")
    claimed = place.claim("a.csv")
    assert claimed is not None
    (server.files / claimed).unlink()
    (server.files / claimed).symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="no regular file"):
        place.read(claimed)
    assert place.claimed() == []
    place.close()


def test_ten_thousand_files(server: OpenSsh, tmp_path: Path) -> None:
    """All of them are listed, once each."""
    for number in range(10_000):
        (server.files / f"{number:05}.csv").write_bytes(b"1")
    place = place_at(server.settings(), tmp_path)
    found = [entry.name for entry in place.list()]
    assert len(found) == len(set(found)) == 10_000
    place.close()


@pytest.mark.parametrize("sftp", ["", "-P posix-rename,fsync,statvfs"])
def test_two_nodes_claim_each_file_once(tmp_path: Path, sftp: str) -> None:
    """At the same time, over connections of their own, with OpenSSH's rename and without it."""
    with OpenSsh(tmp_path / "ssh", sftp=sftp) as server:
        names = [f"{number}.csv" for number in range(100)]
        for name in names:
            (server.files / name).write_bytes(name.encode())
        won: dict[str, list[str]] = {"one": [], "two": []}

        def claim(owner: str) -> None:
            place = place_at(server.settings(), tmp_path, owner)
            for name in names:
                if (claimed := place.claim(name)) is not None:
                    won[owner].append(last_part(claimed))
                    place.move(claimed, "done")
            place.close()

        threads = [threading.Thread(target=claim, args=(owner,)) for owner in won]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won["one"] + won["two"]) == sorted(names)
        assert sorted(os.listdir(server.files / "done")) == sorted(names)
