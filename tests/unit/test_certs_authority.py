"""A private authority's folder: who may read it, what is issued, renewed, revoked and found wrong."""

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs import Authority, check
from engine.errors import ConfigError
from engine.identity import party_of


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "authority", "test authority")


def read(folder, stem="node"):
    return x509.load_pem_x509_certificate((folder / f"{stem}.pem").read_bytes())


def test_keys_are_for_their_owner_only(authority, tmp_path):
    """Key files are 0600 and new folders 0700, also where a key is written over."""
    for _ in range(2):
        authority.issue("hospital", out=tmp_path / "hospital")
    for key in (authority.folder / "ca.key", tmp_path / "hospital/node.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_nothing_half_written_is_left(authority, tmp_path):
    """After an issue there are the four files of a node and nothing else."""
    authority.issue("hospital", out=tmp_path / "hospital")
    assert sorted(file.name for file in (tmp_path / "hospital").iterdir()) == ["ca.pem", "crl.pem", "node.key", "node.pem"]


def test_there_is_one_authority_in_a_folder(authority):
    """A second one would make worthless what the first has issued."""
    with pytest.raises(ConfigError, match="already holds an authority"):
        Authority.create(authority.folder, "another")


@pytest.mark.parametrize(("profile", "server"), [("node", True), ("device", False), ("operator", False)])
def test_profiles(authority, tmp_path, profile, server):
    """Each may be a client, only a node a server; none may sign; the key is the one beside it."""
    issued = authority.issue("party-1", profile, out=tmp_path / "out")
    certificate = read(tmp_path / "out", issued.stem)
    usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usages == {ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert party_of(certificate) == "urn:meridian:party:party-1"
    key = load_pem_private_key((tmp_path / "out" / f"{issued.stem}.key").read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(authority.certificate)


def test_no_certificate_outlives_its_authority(authority, tmp_path):
    """However long it is asked for."""
    authority.issue("hospital", out=tmp_path / "hospital", valid_for=timedelta(days=36500))
    assert read(tmp_path / "hospital").not_valid_after_utc == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize("wrong", [{"party": "No Party"}, {"profile": "wizard"}, {"ips": ["300.1.1.1"]}])
def test_what_cannot_be_issued(authority, wrong):
    """A user's error is a ConfigError, and leaves no line in the index."""
    with pytest.raises(ConfigError):
        authority.issue(**{"party": "hospital", **wrong})
    assert authority.issued() == []


def test_a_request_gives_its_key_and_nothing_else(authority, tmp_path):
    """Names and extensions that a request asks for are not taken over: here it claims to be an authority and another party."""
    key = ec.generate_private_key(ec.SECP256R1())
    claims = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "platform")]))
    claims = claims.add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
    claims = claims.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:meridian:party:platform")]), False)
    authority.issue_for(claims.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), "analyzer-7", "device", tmp_path / "out")
    certificate = read(tmp_path / "out", "analyzer-7")
    assert certificate.public_key() == key.public_key()
    assert party_of(certificate) == "urn:meridian:party:analyzer-7"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not (tmp_path / "out/analyzer-7.key").exists()


def test_a_request_that_is_none(authority, tmp_path):
    """Anything but PEM."""
    with pytest.raises(ConfigError, match="signing request"):
        authority.issue_for(b"hello", "analyzer-7", "device", tmp_path)


def test_renewal_keeps_names_and_changes_key_and_serial(authority, tmp_path):
    """Written to the same place; the one before stays in the index, not revoked."""
    before = authority.issue("hospital", dns=["hospital.example"], out=tmp_path / "hospital")
    old_key = (tmp_path / "hospital/node.key").read_bytes()
    (after,) = authority.renew("hospital")
    assert (after.serial, after.dns, after.folder) == (
        f"{read(tmp_path / 'hospital').serial_number:x}",
        ("hospital.example",),
        before.folder,
    )
    assert after.serial != before.serial
    assert (tmp_path / "hospital/node.key").read_bytes() != old_key
    assert [one.serial for one in authority.issued() if not one.revoked] == [before.serial, after.serial]


def test_revocation_reaches_the_folders(authority, tmp_path):
    """The list names the serial with its reason, at the authority and in the party's own folder."""
    issued = authority.issue("hospital", out=tmp_path / "hospital")
    authority.revoke("hospital", "keyCompromise")
    for folder in (authority.folder, tmp_path / "hospital"):
        crl = x509.load_pem_x509_crl((folder / "crl.pem").read_bytes())
        assert crl.is_signature_valid(authority.certificate.public_key())
        entry = crl.get_revoked_certificate_by_serial_number(int(issued.serial, 16))
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise


def test_one_serial_can_be_revoked_alone(authority, tmp_path):
    """After a renewal the old certificate goes, the new one stays; a second time there is nothing to revoke."""
    old = authority.issue("hospital", out=tmp_path / "hospital")
    authority.renew("hospital")
    assert [one.serial for one in authority.revoke(f"0x{old.serial.upper()}")] == [old.serial]
    with pytest.raises(ConfigError, match="nothing to revoke"):
        authority.revoke(old.serial)


def test_numbers_of_lists_grow(authority, tmp_path):
    """CRL number (RFC 5280 clause 5.2.3)."""
    numbers = []
    for party in ("a", "b"):
        authority.issue(party, out=tmp_path / party)
        authority.revoke(party)
        crl = x509.load_pem_x509_crl((authority.folder / "crl.pem").read_bytes())
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers[0] < numbers[1]


def test_an_authority_opens_again(authority):
    """From its files; a folder without one says how to make it."""
    assert Authority.open(authority.folder).certificate == authority.certificate
    with pytest.raises(ConfigError, match="meridian certs init"):
        Authority.open(authority.folder / "nowhere")


def test_the_index_is_one_json_object_a_line(authority, tmp_path):
    """Readable by other programs."""
    authority.issue("hospital", out=tmp_path / "hospital")
    (line,) = (authority.folder / "issued.jsonl").read_text().splitlines()
    assert json.loads(line)["party"] == "urn:meridian:party:hospital"


# --- check -------------------------------------------------------------------------------------------


def problems(folder):
    return {finding.file: (finding.problem, finding.fatal) for finding in check(folder) if finding.problem}


def test_check_finds_nothing_in_a_good_folder(authority, tmp_path):
    """All findings are without a problem, and say who it is for how long."""
    authority.issue("hospital", out=tmp_path / "hospital")
    assert problems(tmp_path / "hospital") == {}
    (node,) = [finding for finding in check(tmp_path / "hospital") if finding.file == "node.pem"]
    assert (node.party, round(node.days_left)) == ("urn:meridian:party:hospital", 397)


def test_check_finds_what_has_expired_and_what_will(authority, tmp_path):
    """The first is fatal, the second a warning."""
    authority.issue("hospital", out=tmp_path / "soon", valid_for=timedelta(days=20))
    past = datetime.now(UTC) - timedelta(days=10)
    authority.issue("hospital", out=tmp_path / "gone", valid_from=past, valid_for=timedelta(days=1))
    assert problems(tmp_path / "soon") == {"node.pem": ("expires in 20 days", False)}
    assert problems(tmp_path / "gone") == {"node.pem": ("has expired", True)}


def test_check_finds_bad_keys(authority, tmp_path):
    """One that others can read, and one that is another certificate's."""
    for party in ("hospital", "laboratory"):
        authority.issue(party, out=tmp_path / party)
    (tmp_path / "hospital/node.key").chmod(0o640)
    assert "others can read it" in problems(tmp_path / "hospital")["node.key"][0]
    (tmp_path / "hospital/node.key").write_bytes((tmp_path / "laboratory/node.key").read_bytes())
    (tmp_path / "hospital/node.key").chmod(0o600)
    assert problems(tmp_path / "hospital") == {"node.key": ("is not the key of node.pem", True)}


def test_check_finds_garbage_and_nothing(authority, tmp_path):
    """A file that is no certificate; a folder without any."""
    (authority.folder / "node.pem").write_text("garbage")
    assert problems(authority.folder)["node.pem"][1]
    assert check(tmp_path / "nowhere")[0].fatal
