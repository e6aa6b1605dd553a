"""What may be said of places far away, what is pure of them, and what is found out about their files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.file import adapter
from adapters.file.drop.options import SERVE
from adapters.file.drop.tries import WINDOW_SECONDS, Tries
from adapters.file.ftps.options import FTPS
from adapters.file.options import DESTINATION, SOURCE
from adapters.file.ssh.algorithms import OLD, algorithms, host_key_algorithms
from adapters.file.ssh.keys import fingerprint, public_key
from adapters.file.ssh.options import SFTP
from certs import Authority
from engine.examination import Level, View
from engine.options import Faulty
from engine.parties import Kind, Party, Snapshot
from tests.support.sftp_peer import keypair

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6B1sUjtfdCqFb1MGDd9MnyCNpJ4w5Op6nDO+2kPRfI"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBkAtzAQ7c1wxIVzHbXZVVLqQPVyAGe8sVVwE8nEJt4z"
LOGIN = {"host": "h", "user": "u", "key": "k", "host_key": KEY}
SERVER = {"listen": 2222, "host_key": "k", "folder": "drop", "users": {"county": {"public_keys": KEY}}}


@pytest.mark.parametrize(
    ("spec", "given", "fault"),
    [
        (SFTP, {**LOGIN, "host_key": []}, "never trusted unseen"),
        (SFTP, {**LOGIN, "known_hosts": "f"}, "either 'host_key'"),
        (SFTP, {**LOGIN, "key": None}, "needs 'key'"),
        (SFTP, {**LOGIN, "host_key": "ssh-dss AAAA"}, "no public key"),
        (SFTP, {**LOGIN, "host_key": "ssh-ed25519 AAAA"}, "no public key"),
        (SFTP, {**LOGIN, "password": "geheim"}, "never written here"),
        (SFTP, {**LOGIN, "old_algorithms": ["arcfour"]}, "not one of the choices"),
        (SERVE, {**SERVER, "users": {}}, "at least one user"),
        (SERVE, {**SERVER, "users": {"../x": {"public_keys": KEY}}}, "cannot be a user"),
        (SERVE, {**SERVER, "users": {"a": {"public_keys": []}}}, "needs a public key"),
        (
            SERVE,
            {**SERVER, "users": {"a": {"public_keys": KEY}, "b": {"public_keys": f"{KEY} comment"}}},
            "users a and b have the same key",
        ),
        (FTPS, {"host": "h", "user": "u", "password": "env:P", "tls": {"certificate": "c"}}, "needs its key"),
        (SOURCE, {"format": "csv", "folder": "in", "sftp": LOGIN}, "exactly one of folder, sftp, ftps, serve"),
        (DESTINATION, {"sftp": LOGIN, "folder": "out"}, "exactly one of folder, sftp, ftps"),
        (DESTINATION, {"serve": SERVER}, "no option 'serve'"),
    ],
)
def test_faults_are_said(spec: Any, given: dict[str, Any], fault: str) -> None:
    """In words; a password that was written down is not repeated."""
    with pytest.raises(ValueError, match=fault) as raised:
        spec.defaults(**given)
    assert "geheim" not in str(raised.value)


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    """1,024 bits were enough once."""
    line = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ" + "C" * 170 + "w=="
    with pytest.raises(Faulty):
        public_key(line)
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(tmp_path / "k")], check=True)
    with pytest.raises(Faulty, match="1024 bits"):
        public_key((tmp_path / "k.pub").read_text())


def test_fingerprints_are_openssh_s(tmp_path: Path) -> None:
    """The same that ssh-keygen shows."""
    line = keypair(tmp_path / "k")
    said = subprocess.run(["ssh-keygen", "-l", "-f", str(tmp_path / "k.pub")], check=True, capture_output=True, text=True).stdout
    assert fingerprint(public_key(line)) in said


def test_old_algorithms_come_last_and_only_by_name() -> None:
    """Nothing old by itself; what is named is asked for after what is safe."""
    known = ["curve25519-sha256", "diffie-hellman-group14-sha1"]
    modern = algorithms([], known)
    assert not {name for names in modern.values() for name in names} & set(OLD)
    assert not any("cbc" in name or "sha1" in name or "dss" in name for names in modern.values() for name in names)
    assert algorithms(["diffie-hellman-group14-sha1"], known)["kex_algs"] == known
    assert host_key_algorithms([], ["ssh-rsa"]) == ["rsa-sha2-512", "rsa-sha2-256"]
    assert host_key_algorithms(["ssh-rsa"], ["ssh-rsa"])[-1] == "ssh-rsa"
    assert host_key_algorithms([], ["ssh-ed25519"]) == ["ssh-ed25519"]


def test_tries_of_an_address() -> None:
    """So many in any minute; others are not concerned."""
    tries = Tries(2)
    assert not tries.failed("a", 0.0)
    assert tries.failed("a", 10.0)
    assert not tries.may_try("a", 59.0)
    assert tries.may_try("b", 59.0)
    assert tries.may_try("a", WINDOW_SECONDS)
    assert tries.failed("a", WINDOW_SECONDS + 1)
    assert not tries.may_try("a", WINDOW_SECONDS + 2)


def test_a_crowd_of_addresses_costs_no_memory() -> None:
    """The oldest is forgotten."""
    tries = Tries(1)
    for number in range(10_001):
        tries.failed(str(number), float(number) / 1000)
    assert tries.may_try("0", 10.1)
    assert not tries.may_try("10000", 10.1)


def test_whoever_belongs_to_a_disabled_party_is_disabled() -> None:
    """As with messages; nobody's name is nobody's."""
    snapshot = Snapshot([Party("group", Kind.INSTITUTION, disabled_at=1), Party("county", Kind.INSTITUTION, belongs_to="group")])
    county = snapshot.standing("urn:meridian:party:county")
    assert county is not None
    assert county.disabled == "group"
    assert snapshot.standing("urn:meridian:party:stranger") is None


def test_what_doctor_says_of_keys(tmp_path: Path) -> None:
    """A key that others can read, one that is missing, an old algorithm; and the fingerprint that senders compare."""
    line = keypair(tmp_path / "k")
    view = View("files", "source", tmp_path)
    served = SOURCE.defaults(format="csv", serve={**SERVER, "old_algorithms": ["ssh-rsa"]})
    found = list(adapter.examine_site(served, view))
    assert [one.level for one in found] == [Level.WARN, Level.OK]
    assert fingerprint(line) in found[1].text
    (tmp_path / served.serve.folder).write_bytes(b"")
    assert "no folder that this user can read and write" in list(adapter.examine_site(served, view))[-1].text
    (tmp_path / served.serve.folder).unlink()
    (tmp_path / "k").chmod(0o644)
    assert [one.advice for one in adapter.examine_site(served, view) if "others" in one.text] == [f"chmod 600 {tmp_path / 'k'}"]
    (tmp_path / "k").unlink()
    far = SOURCE.defaults(format="csv", sftp={**LOGIN, "host_key": [], "known_hosts": "none"})
    assert [one.level for one in adapter.examine_site(far, view)] == [Level.FAIL, Level.FAIL]


def test_what_doctor_says_of_certificates(tmp_path: Path) -> None:
    """Before anything connects."""
    options = DESTINATION.defaults(ftps={"host": "h", "user": "u", "password": "env:P"})
    view = View("files/out", "destination", tmp_path)
    assert [one.level for one in adapter.examine_site(options, view)] == [Level.FAIL]
    Authority.create(tmp_path / "certs", "files CA")
    assert [one.level for one in adapter.examine_site(options, view)] == [Level.OK]


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """A folder of this machine needs none; the error says how to install it."""
    script = (
        "import sys; sys.modules['asyncssh'] = None\n"
        "from adapters.file.placing import _loaded\nfrom engine.errors import ConfigError\n"
        "try:\n    _loaded('adapters.file.ssh.wire', 'SftpWire')\nexcept ConfigError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert "pip install 'meridian[sftp]'" in said
