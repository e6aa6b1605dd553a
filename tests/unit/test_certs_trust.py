"""Folders that trust several authorities: each is changed without harm to the others."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs import Authority
from certs.trust import own_list
from engine.certificates import read_lists
from engine.errors import ConfigError
from engine.identity import party_of


@pytest.fixture
def two(tmp_path: Path) -> tuple[Authority, Authority]:
    """With the same name, as `meridian certs init` gives it by default: only their keys tell them apart."""
    return tuple(Authority.create(tmp_path / name, "Meridian private CA") for name in ("a", "b"))  # type: ignore[return-value]


def revoked(folder: Path, authority: Authority) -> int:
    found = own_list(folder, authority.certificate)
    assert found is not None
    return len(list(found))


def test_lists_of_other_authorities_stay(two: tuple[Authority, Authority], tmp_path: Path) -> None:
    """Revoking by one, copying its trust and renewing its list leave the other's revocations in force."""
    a, b = two
    node = tmp_path / "node"
    a.issue("hospital", out=node)
    b.copy_trust(node)
    a.issue("lost-a", "device", out=tmp_path / "lost-a")
    b.issue("lost-b", "device", out=tmp_path / "lost-b")
    b.revoke("lost-b")
    b.copy_trust(node)
    a.revoke("lost-a")  # reaches the node's folder by itself
    a.renew_list()
    a.copy_trust(node)
    assert (revoked(node, a), revoked(node, b), len(read_lists(node))) == (1, 1, 2)
    assert len(x509.load_pem_x509_certificates((node / "ca.pem").read_bytes())) == 2


def test_an_authority_that_lives_in_a_nodes_folder(two: tuple[Authority, Authority]) -> None:
    """As `meridian init` makes it: its own changes keep what was added there of others."""
    a, b = two
    b.issue("lost-b", "device", out=b.folder)
    b.revoke("lost-b")
    b.copy_trust(a.folder)
    a.issue("lost-a", "device")
    a.revoke("lost-a")
    assert (revoked(a.folder, a), revoked(a.folder, b)) == (1, 1)


def test_an_authority_opens_by_its_key(two: tuple[Authority, Authority], tmp_path: Path) -> None:
    """Whatever comes first in ca.pem; what it issues then verifies."""
    a, b = two
    (a.folder / "ca.pem").write_bytes(b.certificate.public_bytes(Encoding.PEM) + a.certificate.public_bytes(Encoding.PEM))
    opened = Authority.open(a.folder)
    assert opened.certificate == a.certificate
    opened.issue("hospital", out=tmp_path / "out")
    x509.load_pem_x509_certificate((tmp_path / "out/node.pem").read_bytes()).verify_directly_issued_by(a.certificate)


def test_an_authority_without_its_certificate(two: tuple[Authority, Authority]) -> None:
    """Only another's in ca.pem, or a key of another kind: said, nothing is signed with it."""
    a, b = two
    (a.folder / "ca.pem").write_bytes(b.certificate.public_bytes(Encoding.PEM))
    with pytest.raises(ConfigError, match=r"does not hold the certificate of"):
        Authority.open(a.folder)


def test_a_file_without_a_last_line_end(two: tuple[Authority, Authority], tmp_path: Path) -> None:
    """An editor may leave it away: what is added stays readable, and nothing is added twice."""
    a, b = two
    node = tmp_path / "node"
    node.mkdir()
    (node / "ca.pem").write_bytes(a.certificate.public_bytes(Encoding.PEM).strip().replace(b"\n", b"\r\n"))
    for _ in range(2):
        a.copy_trust(node)
        b.copy_trust(node)
    assert x509.load_pem_x509_certificates((node / "ca.pem").read_bytes()) == [a.certificate, b.certificate]


@pytest.mark.parametrize("name", ["ca.pem", "crl.pem"])
def test_what_cannot_be_read_is_not_overwritten(two: tuple[Authority, Authority], tmp_path: Path, name: str) -> None:
    """It may hold somebody's trust."""
    node = tmp_path / "node"
    node.mkdir()
    (node / name).write_text("garbage")
    with pytest.raises(ConfigError, match="nothing was changed"):
        two[0].copy_trust(node)
    assert (node / name).read_text() == "garbage"


def test_a_list_names_the_key_that_signed_it(two: tuple[Authority, Authority]) -> None:
    """Authority key identifier (RFC 5280 clause 5.2.1: conforming issuers must include it)."""
    a, _ = two
    found = own_list(a.folder, a.certificate)
    assert found is not None
    identifier = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifier == a.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


@pytest.mark.parametrize("form", ["{}", "0x{}", "0{}", "colons", "COLONS", " {} "])
def test_a_serial_as_any_tool_prints_it(two: tuple[Authority, Authority], tmp_path: Path, form: str) -> None:
    """openssl x509 -text prints bytes with colons, -serial upper case with leading zeros."""
    a, _ = two
    issued = a.issue("hospital", out=tmp_path / "out", valid_for=timedelta(days=1))
    even = issued.serial if len(issued.serial) % 2 == 0 else f"0{issued.serial}"
    colons = ":".join(even[at : at + 2] for at in range(0, len(even), 2))
    written = {"colons": colons, "COLONS": colons.upper()}.get(form) or form.format(issued.serial)
    assert [one.serial for one in a.revoke(written)] == [issued.serial]


def test_a_party_by_its_uri(two: tuple[Authority, Authority], tmp_path: Path) -> None:
    """Issue, renew and revoke take the name or the URI, and write the same files."""
    a, _ = two
    uri = "urn:meridian:party:analyzer-7"
    assert a.issue(uri, "device", out=tmp_path / "out").stem == "analyzer-7"
    assert party_of(x509.load_pem_x509_certificate((tmp_path / "out/analyzer-7.pem").read_bytes())) == uri
    assert [one.party for one in a.renew(uri)] == [uri]
    assert len(a.revoke(uri)) == 2
