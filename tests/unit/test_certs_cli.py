"""`meridian certs`: a user's error is one line and exit code 2, never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs import Authority
from tests.support.cli import Said, meridian


@pytest.fixture
def certs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)
    Authority.create(tmp_path / "authority", "ca")
    run = meridian(monkeypatch, capfd)
    return lambda command, *arguments: run("certs", command, "--ca", "authority", *arguments)


def request(file: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    file.write_bytes(made.public_bytes(Encoding.PEM))
    return file


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("issue", "a", "--csr", "nowhere.csr"), "cannot read nowhere.csr: No such file"),
        (("issue", "a", "--out", "taken/inside"), "cannot write taken/inside/node.key: Not a directory"),
        (("issue", "A B"), "is not a party name"),
        (("issue", "a", "--dns", "b\u00fcro.example"), "values should be passed as an A-label"),
        (("issue", "a", "--ip", "300.1.1.1"), "300.1.1.1"),
        (("issue", "a", "--profile", "wizard"), "there is no profile 'wizard'"),
        (("issue", "a", "--passphrase", "hunter2"), "--passphrase: a secret is never written here"),
        (("issue", "a", "--csr", "taken", "--passphrase", "env:HOME"), "made elsewhere"),
        (("renew", "No Party"), "is not a party name"),
        (("renew", "nobody"), "no certificate of nobody to renew"),
        (("renew",), "name the party"),
        (("revoke", "nobody"), "nothing to revoke"),
        (("revoke", "a", "--reason", "whim"), "'whim' is no reason"),
    ],
)
def test_a_users_error_is_one_line(certs: Callable[..., Said], tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """On standard error, with what is wrong; nothing is issued."""
    (tmp_path / "taken").write_text("a file")
    result = certs(*arguments)
    assert result.code == 2
    assert result.err.startswith("meridian: ")
    assert result.err.count("\n") == 1
    assert said in result.err
    assert "hunter2" not in result.err
    assert Authority.open(tmp_path / "authority").issued() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(certs: Callable[..., Said], tmp_path: Path) -> None:
    """Permission denied, with the file's name."""
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot write locked/node.key: Permission denied" in certs("issue", "a", "--out", "locked").err


def test_an_index_that_cannot_be_read(certs: Callable[..., Said], tmp_path: Path) -> None:
    """Somebody has edited it."""
    (tmp_path / "authority/issued.jsonl").write_text('{"serial": 1}\n')
    assert "issued.jsonl cannot be read" in certs("list").err


def test_names_for_a_request(certs: Callable[..., Said], tmp_path: Path) -> None:
    """--dns and --ip count with --csr too: a server whose key is made elsewhere needs them."""
    request(tmp_path / "a.csr")
    assert certs("issue", "a", "--csr", "a.csr", "--dns", "a.example", "--ip", "10.0.0.5", "--out", "out").code == 0
    names = x509.load_pem_x509_certificate((tmp_path / "out/a.pem").read_bytes())
    found = names.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["a.example"]
    assert [str(ip) for ip in found.get_values_for_type(x509.IPAddress)] == ["10.0.0.5"]
    assert Authority.open(tmp_path / "authority").issued()[0].dns == ("a.example",)


def test_an_encrypted_key(certs: Callable[..., Said], tmp_path: Path) -> None:
    """The passphrase comes by reference, as in a channel file."""
    (tmp_path / "passphrase").write_text("correct horse\n")
    assert certs("issue", "a", "--out", "out", "--passphrase", "file:passphrase").code == 0
    assert b"ENCRYPTED" in (tmp_path / "out/node.key").read_bytes()
