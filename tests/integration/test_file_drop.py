"""Our own SFTP server: OpenSSH's and paramiko's clients put files, and hostile ones get nowhere."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from adapters.file.drop.session import DropSession
from engine.bench.loopback import HOST, free_port
from engine.errors import ConfigError
from tests.support.drop import USER, Dropping
from tests.support.peers import require
from tests.support.sftp_peer import keypair
from tests.support.waiting import until

PARTY = "urn:meridian:party:county-hospital"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Dropping]]:
    made: list[Dropping] = []

    def starting(**serve: Any) -> Dropping:
        drop = Dropping(tmp_path / "site", **serve)
        drop.place.listen()
        made.append(drop)
        return drop

    yield starting
    for drop in made:
        drop.place.stop_listening()


@pytest.fixture
def drop(make: Callable[..., Dropping]) -> Dropping:
    return make()


def waiting(drop: Dropping) -> list[str]:
    return sorted(entry.name.removeprefix(f"{USER}/") for entry in drop.place.list())


def as_client(drop: Dropping, work: Callable[[Any], Coroutine[Any, Any, Any]], **more: Any) -> Any:
    """`work` gets a connection of a client."""

    async def main() -> Any:
        async with drop.connecting(**more) as connection:
            return await work(connection)

    return asyncio.run(main())


# --- what senders do -------------------------------------------------------------------------------


def test_a_file_is_put(drop: Dropping) -> None:
    """It lies there whole, under its name, and the party of the key is proven for it."""
    (drop.folder / "a.csv").write_bytes(b"x" * 3_000_000)
    ended = drop.sftp("put a.csv", "ls -l", "pwd")
    assert ended.returncode == 0, ended.stderr
    assert "a.csv" in ended.stdout
    (entry,) = drop.place.list()
    assert (entry.name, entry.size) == (f"{USER}/a.csv", 3_000_000)
    assert drop.place.party(entry.name) == PARTY
    assert drop.until_audited("sftp.opened")["proven"] == PARTY
    assert drop.until_audited("sftp.uploaded")["bytes"] == 3_000_000


def test_put_and_renamed(drop: Dropping) -> None:
    """The two ways of senders that mark what is half-written."""
    (drop.folder / "a").write_bytes(b"1")
    ended = drop.sftp("put a a.csv.part", "rename a.csv.part a.csv", "put -p a b.csv", "ls -1")
    assert ended.returncode == 0, ended.stderr
    assert waiting(drop) == ["a.csv", "b.csv"]


def test_a_half_written_file_is_put_again(drop: Dropping) -> None:
    """A sender that was interrupted begins anew under the same name; what it has handed over stays as it is."""
    (drop.folder / "half").write_bytes(b"1\n2")
    (drop.folder / "whole").write_bytes(b"1\n2\n3\n")
    ended = drop.sftp("put half a.csv.part", "put whole a.csv.part", "rename a.csv.part a.csv", "-put half a.csv")
    assert ended.returncode == 0, ended.stderr
    assert waiting(drop) == ["a.csv"]
    (entry,) = drop.place.list()
    with drop.place.read(entry.name) as file:
        assert file.read() == b"1\n2\n3\n"


def test_paramiko_puts_and_checks(drop: Dropping) -> None:
    """A third client, which looks at the size of what it has put."""
    require(find_spec("paramiko") is not None, "paramiko is not installed")
    paramiko = import_module("paramiko")
    key = paramiko.Ed25519Key.from_private_key_file(str(drop.folder / "client"))
    transport = paramiko.Transport((HOST, drop.port))
    try:
        transport.connect(username=USER, pkey=key)
        client = paramiko.SFTPClient.from_transport(transport)
        (drop.folder / "a").write_bytes(b"y" * 200_000)
        assert client.put(str(drop.folder / "a"), "p.csv").st_size == 200_000
        assert client.listdir() == ["p.csv"]
    finally:
        transport.close()
    assert waiting(drop) == ["p.csv"]


def test_a_cut_upload_is_not_there(drop: Dropping) -> None:
    """Neither a connection that breaks nor a channel that ends makes a half file a whole one; the next upload of the name does."""

    async def breaking(connection: Any) -> None:
        client = await connection.start_sftp_client()
        file = await client.open("half.csv", "wb")
        await file.write(b"1,2,3\n" * 1000)
        connection.abort()

    async def leaving(connection: Any) -> None:
        client = await connection.start_sftp_client()
        file = await client.open("left.csv", "wb")
        await file.write(b"1,2,3\n")
        client.exit()
        await client.wait_closed()

    as_client(drop, breaking)
    as_client(drop, leaving)
    until(lambda: len(drop.events("sftp.closed")) == 2, "the end of both connections")
    assert waiting(drop) == []
    (drop.folder / "half.csv").write_bytes(b"whole")
    assert drop.sftp("put half.csv", "rm left.csv").returncode == 0
    assert waiting(drop) == ["half.csv"]


def test_what_was_half_written_stays_so_after_a_restart(tmp_path: Path) -> None:
    """The mark is on disk, so that another life of the node does not take it for whole; the sender can go on with it."""
    with Dropping(tmp_path) as drop:

        async def begin(connection: Any) -> None:
            client = await connection.start_sftp_client()
            file = await client.open("a.csv", "wb")
            await file.write(b"first,")
            connection.abort()

        as_client(drop, begin)
        drop.until_audited("sftp.closed")
    with Dropping(tmp_path) as again:
        assert waiting(again) == []
        (again.folder / "a.csv").write_bytes(b"first,second")
        assert again.sftp("reput a.csv").returncode == 0
        assert waiting(again) == ["a.csv"]
        assert (again.files / "a.csv").read_bytes() == b"first,second"


def test_killed_between_the_two_names(tmp_path: Path) -> None:
    """An upload that already had its place when the process ended keeps its content, whatever is put under its name later."""
    with Dropping(tmp_path) as drop:
        (drop.folder / "a.csv").write_bytes(b"whole")
        assert drop.sftp("put a.csv").returncode == 0
        os.link(drop.files / "a.csv", drop.files / ".begun" / "a.csv")
    with Dropping(tmp_path) as again:
        claimed = again.place.claim(f"{USER}/a.csv")
        assert claimed is not None
        (again.folder / "a.csv").write_bytes(b"next")
        assert again.sftp("put a.csv").returncode == 0
        with again.place.read(claimed) as file:
            assert file.read() == b"whole"
        assert (again.files / "a.csv").read_bytes() == b"next"


def test_nothing_is_overwritten_read_or_taken_back(drop: Dropping) -> None:
    """What was closed under its own name belongs to the node."""
    (drop.folder / "a.csv").write_bytes(b"first")
    (drop.folder / "b.csv").write_bytes(b"other")
    assert drop.sftp("put a.csv").returncode == 0
    for command in (
        "put b.csv a.csv",
        "reput b.csv a.csv",
        "get a.csv",
        "rm a.csv",
        "rename a.csv c.csv",
        "mkdir x",
        "rmdir x",
        "ln a.csv d",
    ):
        assert drop.sftp(command).returncode == 1, command
    assert drop.sftp("put b.csv b.tmp", "-rename b.tmp a.csv", "rm b.tmp").returncode == 0
    assert (drop.files / "a.csv").read_bytes() == b"first"
    assert waiting(drop) == ["a.csv"]


def test_names_of_the_field(drop: Dropping) -> None:
    """GBK bytes, a leading dash, 255 bytes are names; what hides itself, or holds a control character, is not."""

    async def put(connection: Any) -> list[bool]:
        client = await connection.start_sftp_client(path_encoding=None)
        done = []
        for name in ("报告.pdf".encode("gb18030"), b"-rf", b"n" * 255, b"a b.csv", b".hidden", b"a\nb", b"n" * 256, b"\x7f", b" a"):
            try:
                async with client.open(name, "wb", encoding=None) as file:
                    await file.write(b"1")
                done.append(True)
            except asyncssh.SFTPError:
                done.append(False)
        return done

    assert as_client(drop, put) == [True] * 4 + [False] * 5
    assert len(waiting(drop)) == 4


# --- who may come ----------------------------------------------------------------------------------


def test_a_strange_key_is_refused(drop: Dropping) -> None:
    """And audited with its fingerprint; what a stranger calls himself is not written down."""
    keypair(drop.folder / "strange")
    assert drop.sftp("ls", key="strange").returncode == 255
    assert drop.until_audited("sftp.login_failed")["shown"].startswith("SHA256:")
    assert drop.sftp("ls", user="root").returncode == 255
    until(lambda: len(drop.events("sftp.login_failed")) == 2, "the second refusal")
    assert "user" not in drop.events("sftp.login_failed")[1]


def test_tries_are_limited(make: Callable[..., Dropping]) -> None:
    """After so many failures even the right key must wait."""
    drop = make(tries=2)
    keypair(drop.folder / "strange")
    for number in (1, 2):
        assert drop.sftp("ls", key="strange").returncode == 255
        until(lambda number=number: len(drop.events("sftp.login_failed")) == number, "a refusal")  # type: ignore[misc]
    drop.until_audited("sftp.logins_limited")
    assert drop.sftp("ls").returncode == 255


def test_a_disabled_party_is_out_at_once(drop: Dropping) -> None:
    """Its open session ends, and its key opens no other."""

    async def stay(connection: Any) -> None:
        client = await connection.start_sftp_client()
        file = await client.open("a.csv", "wb")
        await file.write(b"1")
        drop.disabled.add(PARTY)
        await connection.wait_closed()

    as_client(drop, stay)
    assert drop.until_audited("sftp.ended")["reason"] == "the party has been disabled"
    assert drop.sftp("ls").returncode == 255
    assert drop.until_audited("sftp.login_failed")["reason"] == "the party has been disabled"
    assert waiting(drop) == []


def test_old_algorithms_are_not_spoken(drop: Dropping) -> None:
    """Each of them alone leaves nothing in common."""
    for name, algorithm in (("KexAlgorithms", "diffie-hellman-group14-sha1"), ("Ciphers", "aes128-cbc"), ("MACs", "hmac-sha1")):
        command = [*drop.openssh("sftp", "client"), f"-o{name}={algorithm}", "-P", str(drop.port), f"{USER}@{HOST}"]
        if name == "MACs":  # else a cipher with authentication needs none
            command.insert(1, "-oCiphers=aes128-ctr")
        ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        assert "no matching" in ended.stderr, (name, ended.stderr)


# --- hostile clients -------------------------------------------------------------------------------


def test_no_way_out_of_the_folder(drop: Dropping) -> None:
    """Climbing, absolute paths, links and the node's own folders: nothing is written, read or seen there."""
    (drop.folder / "a").write_bytes(b"1")
    outside = ("/etc/a.csv", "../../../../tmp/a.csv", ".begun/a.csv", "done/a.csv", ".claimed/one/a.csv", "x/../../a/b")
    for path in outside:
        assert drop.sftp(f"put a {path}").returncode == 1, path
    assert drop.sftp("put a ../../up.csv").returncode == 0  # above the folder there is the folder
    assert waiting(drop) == ["up.csv"]
    for command in ("ls /etc", "ls x", "cd .begun", "ln -s /etc/passwd p", "symlink /etc/passwd p", "get /etc/passwd", "df"):
        assert drop.sftp(command).returncode == 1, command
    assert sorted(one.name for one in (drop.folder / "drop").rglob("*")) == [".begun", USER, "up.csv"]
    (drop.files / "link.csv").symlink_to("/etc/hostname")
    assert "link.csv" not in drop.sftp("ls").stdout
    assert drop.sftp("put a link.csv").returncode == 1


def test_nothing_but_sftp(drop: Dropping) -> None:
    """No command, no shell, no scp, no other subsystem, no forwarding either way."""
    assert drop.ssh("id").returncode != 0
    assert drop.ssh("scp -t /tmp").returncode != 0
    assert drop.ssh("-s", "netconf").returncode != 0
    assert "uid" not in drop.ssh().stdout

    async def forward(connection: Any) -> None:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection(HOST, 22)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port(HOST, free_port(), HOST, 22)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_unix_connection("/run/x")

    as_client(drop, forward)


def test_room_is_limited(make: Callable[..., Dropping]) -> None:
    """Size of a file, of all files, and their number; what could not be written to its end is not there, though its client closes it."""
    drop = make(most_size="64KB", quota_size="100KB", quota_files=4)
    (drop.folder / "a").write_bytes(b"x" * 65536)
    (drop.folder / "big").write_bytes(b"x" * 65537)
    (drop.folder / "small").write_bytes(b"x")
    assert drop.sftp("put big").returncode == 1
    assert drop.sftp("rm big", "put a").returncode == 0
    assert drop.sftp("put a b").returncode == 1
    assert drop.sftp("rm b", "put small c", "put small d", "put small e").returncode == 0
    assert drop.sftp("put small f").returncode == 1
    assert waiting(drop) == ["a", "c", "d", "e"]

    async def far(connection: Any) -> None:
        client = await connection.start_sftp_client()
        await client.rename("/nothing", "/x")

    with pytest.raises(asyncssh.SFTPNoSuchFile):
        as_client(drop, far)


def test_a_folder_that_cannot_be_used_is_said_by_name(tmp_path: Path) -> None:
    """When the node starts, as of a host key."""
    (tmp_path / "drop").write_bytes(b"")
    with pytest.raises(ConfigError, match="channel files: cannot use the folder drop: Not a directory"):
        Dropping(tmp_path).place.listen()


def test_sessions_of_one_connection_are_limited(drop: Dropping) -> None:
    """Ten at a time; those that have ended count no more."""

    async def opening(connection: Any) -> None:
        for _ in range(15):
            client = await connection.start_sftp_client()
            client.exit()
            await client.wait_closed()
        for _ in range(11):
            await connection.start_sftp_client()

    with pytest.raises(asyncssh.ChannelOpenError):
        as_client(drop, opening)


def test_answers_that_nobody_takes_do_not_pile_up(make: Callable[..., Dropping], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that only asks is not heard any more, and is idle then."""
    asked: list[int] = []
    original = DropSession.realpath
    monkeypatch.setattr(DropSession, "realpath", lambda session, path: asked.append(len(path)) or original(session, path))
    drop = make(idle="5s")
    packet = bytes([16]) + bytes(4) + (100_000).to_bytes(4, "big") + b"x" * 100_000  # SSH_FXP_REALPATH

    async def asking(connection: Any) -> None:
        writer, _, _ = await connection.open_session(subsystem="sftp", encoding=None)
        writer.write(b"\0\0\0\5\1\0\0\0\3")  # SSH_FXP_INIT
        for _ in range(400):
            writer.write(len(packet).to_bytes(4, "big") + packet)
        await connection.wait_closed()

    as_client(drop, asking)
    assert drop.until_audited("sftp.ended")["reason"] == "no request came"
    assert 0 < len(asked) < 200


def test_lists_that_are_never_closed_are_limited(drop: Dropping) -> None:
    """A client that only opens the folder, again and again, is refused; one that closes its lists looks as often as it likes."""

    async def opening(connection: Any) -> None:
        client = await connection.start_sftp_client()
        for _ in range(40):
            await client.listdir(".")
        for _ in range(40):
            await client._handler.opendir(b".")

    with pytest.raises(asyncssh.SFTPFailure, match="too many lists"):
        as_client(drop, opening)


def test_a_hole_is_no_way_round_the_limit(drop: Dropping) -> None:
    """A byte far out is as large as what is before it."""

    async def far(connection: Any) -> None:
        client = await connection.start_sftp_client()
        async with client.open("a.csv", "wb", encoding=None) as file:
            await file.write(b"x", 1 << 50)

    with pytest.raises(asyncssh.SFTPError):
        as_client(drop, far)
    assert waiting(drop) == []


def test_a_full_disk_refuses_and_recovers(drop: Dropping, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is not there; once there is room, the same upload is."""
    (drop.folder / "a.csv").write_bytes(b"1" * 100_000)
    real = os.pwrite

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert drop.sftp("put a.csv").returncode == 1
    assert waiting(drop) == []
    monkeypatch.setattr(os, "pwrite", real)
    assert drop.sftp("put a.csv").returncode == 0
    assert waiting(drop) == ["a.csv"]


def test_huge_packets_end_the_session(drop: Dropping) -> None:
    """A length that is announced is not waited for."""

    async def announce(connection: Any) -> None:
        writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
        writer.write(b"\x00\x00\x00\x05\x01\x00\x00\x00\x03")
        await reader.readexactly(9)
        writer.write(b"\x7f\xff\xff\xff" + b"\x00" * 1000)
        assert await reader.read() is not None
        await writer.channel.wait_closed()

    as_client(drop, announce)
    assert drop.sftp("ls").returncode == 0


def test_handles_are_limited(drop: Dropping) -> None:
    """One session holds a few files open, not thousands."""

    async def hoard(connection: Any) -> int:
        client = await connection.start_sftp_client()
        held = []
        try:
            for number in range(1000):
                held.append(await client.open(f"{number}.csv", "wb"))
        except asyncssh.SFTPError:
            pass
        return len(held)

    assert as_client(drop, hoard) == 16


def test_one_name_is_uploaded_once_at_a_time(drop: Dropping) -> None:
    """Two sessions of one user do not write into one file."""

    async def twice(connection: Any) -> None:
        one, two = await connection.start_sftp_client(), await connection.start_sftp_client()
        file = await one.open("a.csv", "wb", encoding=None)
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await two.open("a.csv", "wb")
        await file.write(b"1")
        await file.close()

    as_client(drop, twice)
    assert (drop.files / "a.csv").read_bytes() == b"1"


def test_who_does_not_log_in_is_let_go(make: Callable[..., Dropping]) -> None:
    """By the server's clock."""
    drop = make(login_timeout="1s")
    with socket.create_connection((HOST, drop.port)) as silent:
        silent.settimeout(60)
        while silent.recv(4096):
            pass
    assert drop.events("sftp.opened") == []


def test_the_slow_are_let_go(make: Callable[..., Dropping]) -> None:
    """Who sends nothing, or only pieces of a request, ends by the server's clock."""
    drop = make(idle="3s")

    async def dribble(connection: Any) -> None:
        writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
        writer.write(b"\x00\x00\x00\x05\x01\x00\x00\x00\x03")
        await reader.readexactly(9)
        writer.write(b"\x00\x00")
        await connection.wait_closed()

    as_client(drop, dribble)
    assert drop.until_audited("sftp.ended")["reason"] == "no request came"


def test_two_hundred_connections(make: Callable[..., Dropping]) -> None:
    """Beyond the limit they are closed at once; when they have gone, senders are served as before."""
    drop = make(most_per_address=150, most_connections=100, login_timeout="5m")
    crowd = [socket.create_connection((HOST, drop.port)) for _ in range(200)]
    try:
        told = 0
        for one in crowd:
            one.settimeout(60)
            try:
                told += bool(one.recv(4096))
            except ConnectionResetError:
                continue
        assert told == 100
    finally:
        for one in crowd:
            one.close()
    until(lambda: drop.sftp("ls").returncode == 0, "a session after the crowd")
