"""WS-Security on a running node: who is taken, what is refused and audited, repetitions and replays across a restart."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import xmlsec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from zeep.wsse import UsernameToken
from zeep.wsse.signature import verify_envelope

from adapters.soap.security.instants import instant
from adapters.soap.security.names import WSSE, WSU
from adapters.soap.security.outgoing import Outgoing, Signer
from tests.support.cli import meridian
from tests.support.sites import Site
from tests.support.soap import NS, Said, SoapSite, addressed, in_parts, part, post, related
from tests.support.soap_service import write_wsdl
from tests.support.wsse import SECOND, Signers, at, certificate, plain, signed

LAB = "urn:meridian:party:lab"
MEDIA = {"1.1": "text/xml", "1.2": "application/soap+xml"}
PASSWORD = "correct horse, 密码"


class Place:
    """A site, its authority, and ``lab``, who signs."""

    def __init__(self, folder: Path, security: dict[str, Any], **soap: Any) -> None:
        self.signers = Signers(folder / "others")
        self.lab = self.signers.curve("lab")
        self.site = SoapSite(folder / "site", {"security": security, **soap})
        self.site.certify(self.signers.authority)

    def send(self, message: bytes, version: str = "1.1") -> Said:
        return post(self.site.soap, message, MEDIA[version])

    def refusals(self) -> list[str]:
        return [facts["reason"] for facts in self.site.audited("soap.refused")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, {})


@pytest.fixture
def by_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("WSSE_PASSWORD", PASSWORD)
    return Place(tmp_path, {"require": "username", "users": {"lab-system": {"party": "lab", "password": "env:WSSE_PASSWORD"}}})


def now() -> int:
    return int(time.time()) * SECOND


def by_zeep(folder: Path, **more: Any) -> bytes:
    """With nothing of WS-Addressing, which zeep would not sign."""
    when = now()
    times = {"created": instant(when), "expires": instant(when + 300 * SECOND)}
    return signed(folder, plain(**more), method=xmlsec.Transform.ECDSA_SHA256, **times)


_IDS: Iterator[int] = count(1)


def by_us(folder: Path, message_id: str = "urn:uuid:1", version: str = "1.1") -> bytes:
    """With everything signed, as Meridian sends it."""
    key: Any = load_pem_private_key((folder / "node.key").read_bytes(), None)
    envelope = plain(version=version, header=addressed(message_id=message_id))
    Outgoing(now, lambda: str(next(_IDS)), bytes, lambda: Signer(certificate(folder), key)).secure(envelope)
    return etree.tostring(envelope)


def code(said: Said) -> str:
    return said.fault.subcode


class TestSignature:
    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    def test_taken_under_the_party_that_has_signed(self, place: Place, version: str) -> None:
        message = by_us(place.lab, version=version)
        with place.site.running():
            assert place.send(message, version).status == 200
        (kept,) = place.site.kept()
        assert (kept.peer, kept.verdict, kept.control_id, kept.body) == (LAB, "accepted", "urn:uuid:1", message)
        assert place.refusals() == []

    @pytest.mark.parametrize(("version", "status"), [("1.1", 500), ("1.2", 400)])
    def test_what_is_refused_is_audited_and_not_kept(self, place: Place, version: str, status: int) -> None:
        """The sender hears the code; the audit log who it would have been, and why."""
        message = by_us(place.lab, version=version)
        with place.site.running():
            changed = place.send(message.replace(b">17<", b">18<"), version)
            unsigned = place.send(etree.tostring(plain(version=version)), version)
            right = place.send(message, version)
        assert (changed.status, code(changed), changed.fault.text) == (
            status,
            f"{{{WSSE}}}FailedCheck",
            "The signature or decryption was invalid",
        )
        assert code(unsigned) == f"{{{WSSE}}}InvalidSecurity"
        assert right.status == 200  # what was refused is not remembered
        assert len(place.site.kept()) == 1
        refused = place.site.audited("soap.refused")
        assert [(one["reason"], one["party"], one["kept"]) for one in refused] == [
            ("Body is not what was signed", LAB, "False"),
            ("the message has no Security header for us: it is not signed, and says no user", "", "False"),
        ]

    def test_old_ones(self, place: Place) -> None:
        when = now() - 3600 * SECOND
        message = signed(place.lab, method=xmlsec.Transform.ECDSA_SHA256, created=instant(when), expires=instant(when + 300 * SECOND))
        with place.site.running():
            assert code(place.send(message)) == f"{{{WSU}}}MessageExpired"
        assert place.refusals() == ["expired"]

    def test_who_is_revoked_while_the_node_runs(self, place: Place) -> None:
        with place.site.running():
            assert place.send(by_us(place.lab)).status == 200
            place.signers.authority.revoke("lab")
            assert code(place.send(by_us(place.lab, "urn:uuid:2"))) == f"{{{WSSE}}}FailedAuthentication"
        assert place.refusals() == ["the certificate has been revoked"]

    def test_headers_that_are_used_must_be_signed(self, place: Place) -> None:
        with place.site.running():
            assert code(place.send(by_zeep(place.lab, header=addressed()))) == f"{{{WSSE}}}FailedCheck"
            assert place.send(by_zeep(place.lab)).status == 200
        assert place.refusals() == ["not signed: addressing"]

    def test_an_attachment_is_what_was_signed(self, place: Place) -> None:
        root = etree.fromstring(by_zeep(place.lab, payload="<o:Order xmlns:o='urn:lab'><o:d>YWJj</o:d></o:Order>"))
        holder = at(root, "//*[local-name() = 'd']")
        holder.text = None
        etree.SubElement(holder, "{http://www.w3.org/2004/08/xop/include}Include", href="cid:doc@a")
        with place.site.running():
            other = post(place.site.soap, in_parts(etree.tostring(root), part(b"abd", "doc@a")), related())
            right = post(place.site.soap, in_parts(etree.tostring(root), part(b"abc", "doc@a")), related())
        assert (code(other), right.status) == (f"{{{WSSE}}}FailedCheck", 200)
        assert [kept.peer for kept in place.site.kept()] == [LAB]


class TestRepetitions:
    def test_the_very_same_bytes_hear_the_stored_answer(self, place: Place) -> None:
        """Also when the node was down in between. Nothing is taken twice."""
        message = by_us(place.lab)
        with place.site.running():
            first, again = place.send(message), place.send(message)
        with place.site.running():
            later = place.send(message)
        for said in (again, later):
            assert (said.status, etree.tostring(said.message.body)) == (200, etree.tostring(first.message.body))
        assert len(place.site.kept()) == 1
        assert [facts["party"] for facts in place.site.audited("soap.repeated")] == [LAB, LAB]

    def test_in_other_bytes_it_is_a_replay(self, place: Place) -> None:
        """A header that nobody has signed is added; after a restart too."""
        message = by_us(place.lab)
        other = message.replace(b"<s:Header>", b"<s:Header><x:Note xmlns:x='urn:x'/>")
        assert other != message
        with place.site.running():
            assert place.send(message).status == 200
            assert code(place.send(other)) == f"{{{WSSE}}}FailedCheck"
        with place.site.running():
            assert code(place.send(other)) == f"{{{WSSE}}}FailedCheck"
        assert len(place.site.kept()) == 1
        assert place.refusals() == ["a replay: the same signature or nonce came before"] * 2

    def test_what_nobody_would_know_again_is_a_replay(self, place: Place) -> None:
        """It has no id, so that the engine would take it twice."""
        message = by_zeep(place.lab)
        with place.site.running():
            assert place.send(message).status == 200
            assert code(place.send(message)) == f"{{{WSSE}}}FailedCheck"
        assert len(place.site.kept()) == 1
        assert place.refusals() == ["a replay: the same message came before"]


class TestUser:
    def test_a_digest_is_taken_once(self, by_user: Place) -> None:
        envelope = plain()
        UsernameToken("lab-system", PASSWORD, use_digest=True).apply(envelope, {})
        message = etree.tostring(envelope)
        with by_user.site.running():
            assert by_user.send(message).status == 200
            assert code(by_user.send(message.replace(b">17<", b">18<"))) == f"{{{WSSE}}}FailedCheck"
        assert [kept.peer for kept in by_user.site.kept()] == [LAB]
        assert by_user.refusals() == ["a replay: the same signature or nonce came before"]

    def test_a_wrong_password_and_one_that_all_can_read(self, by_user: Place) -> None:
        wrong, text = plain(), plain()
        UsernameToken("lab-system", "guessed", use_digest=True).apply(wrong, {})
        UsernameToken("lab-system", PASSWORD).apply(text, {})
        with by_user.site.running():
            assert code(by_user.send(etree.tostring(wrong))) == f"{{{WSSE}}}FailedAuthentication"
            assert code(by_user.send(etree.tostring(text))) == f"{{{WSSE}}}UnsupportedSecurityToken"
        assert by_user.site.kept() == []
        assert by_user.refusals() == ["the password is wrong", "a password as text without TLS"]
        audited = b"".join(file.read_bytes() for file in (by_user.site.folder / "data" / "audit").iterdir())
        assert PASSWORD.encode() not in audited
        assert b"guessed" not in audited

    def test_as_text_over_tls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody else can read it; the client shows no certificate."""
        monkeypatch.setenv("WSSE_PASSWORD", PASSWORD)
        users = {"lab-system": {"party": "lab", "password": "env:WSSE_PASSWORD"}}
        place = Place(tmp_path, {"require": "username", "users": users}, tls={"client_auth": "none"})
        envelope = plain()
        UsernameToken("lab-system", PASSWORD).apply(envelope, {})
        trust = ssl.create_default_context(cafile=place.site.certs / "ca.pem")
        trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        with place.site.running():
            connection = http.client.HTTPSConnection("localhost", place.site.soap, timeout=60, context=trust)
            connection.request("POST", "/soap", etree.tostring(envelope), {"Content-Type": "text/xml"})
            assert connection.getresponse().status == 200
            connection.close()
        assert [kept.peer for kept in place.site.kept()] == [LAB]


class TestAnswers:
    def test_they_are_signed_where_the_site_says_so(self, tmp_path: Path) -> None:
        """zeep verifies them with the node's certificate; that of a repetition is of its own time."""
        place = Place(tmp_path, {"answers": {"digest": "sha384"}})
        message = by_us(place.lab)
        with place.site.running():
            answers = [place.send(message) for _ in range(2)]
        for said in answers:
            verify_envelope(etree.fromstring(said.body), str(place.site.certs / "node.pem"))
        bodies = [said.message.body for said in answers]
        assert [etree.QName(body[0]).localname for body in bodies] == [etree.QName(bodies[0][0]).localname] * 2
        assert NS["1.1"] in bodies[0].tag


class TestNothingAsked:
    def test_a_header_that_must_be_understood_is_not(self, tmp_path: Path) -> None:
        """An endpoint without WS-Security does not say that it has looked."""
        place = Place(tmp_path, {"require": "none"})
        message = by_us(place.lab)
        with place.site.running():
            assert place.send(message).fault.fault_code == "MustUnderstand"
            assert place.send(message.replace(b's:mustUnderstand="1"', b"")).status == 200
        assert [kept.peer for kept in place.site.kept()] == [""]


class TestCheck:
    """``meridian check`` and the start say the same of what is missing."""

    @pytest.mark.parametrize(
        ("security", "why"),
        [
            ({"ca": "nobody.pem"}, "nobody.pem in"),
            ({"certificates": {"vendor": "vendor.pem"}}, "vendor.pem in"),
            ({"answers": {"key": "other.key"}}, "other.key in"),
            ({"require": "username", "users": {"x": {"party": "lab", "password": "env:WSSE_NOWHERE"}}}, "WSSE_NOWHERE is not set"),
        ],
    )
    def test_files_and_secrets_that_are_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], security: dict[str, Any], why: str
    ) -> None:
        place = Place(tmp_path, security)
        said = meridian(monkeypatch, capfd)("check", place.site.folder)
        assert said.code == 1
        assert why in said.out
        with pytest.raises(Exception, match=why.split(maxsplit=1)[0]), place.site.running():
            pass

    def test_a_site_with_users_needs_no_certificates(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("WSSE_PASSWORD", PASSWORD)
        place = Place(tmp_path, {"require": "username", "users": {"x": {"party": "lab", "password": "env:WSSE_PASSWORD"}}})
        shutil.rmtree(place.site.certs)
        assert meridian(monkeypatch, capfd)("check", place.site.folder).code == 0

    def test_a_destination(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        site = Site(tmp_path / "site", destinations=[])
        site.certify(Signers(tmp_path / "others").authority)
        write_wsdl(site.folder)
        for security, code in (({}, 0), ({"key": "other.key"}, 1)):
            soap = {"wsdl": "exchange.wsdl", "port": "Soap11", "operation": "Exchange", "security": security}
            channel = {"name": "lines", "source": {"mllp": site.port}, "destinations": [{"name": "hospital", "soap": soap}]}
            (site.folder / "channels" / "lines.yaml").write_text(json.dumps(channel))
            said = meridian(monkeypatch, capfd)("check", site.folder)
            assert (said.code, "other.key" in said.out) == (code, bool(code)), said.out
