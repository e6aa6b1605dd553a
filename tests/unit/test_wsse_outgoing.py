"""What we sign, others verify: zeep with xmlsec, signxml; and so do we."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from signxml import SignatureConfiguration, XMLVerifier
from zeep.exceptions import SignatureVerificationFailed
from zeep.wsse.signature import verify_envelope

from adapters.soap.security import CLIENT_SECURITY, outgoing
from adapters.soap.security.names import WSU, ds, wsse
from adapters.soap.security.outgoing import Login, Outgoing, Signer
from adapters.soap.security.trust import Trust
from adapters.soap.security.username import User
from adapters.soap.security.verify import Proof
from engine.errors import ConfigError
from engine.formats.xml import parse
from tests.support.wsse import ACTION, NOW, SECOND, Signers, at, certificate, context, judged, plain

ALL = ("body", "timestamp", "addressing")


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    made = Signers(tmp_path_factory.mktemp("outgoing"))
    made.rsa()
    made.curve()
    return made


@pytest.fixture(scope="module")
def trust(signers: Signers) -> Trust:
    return signers.trust()


def sender(folder: Path | None = None, digest: str = "sha256", **more: Any) -> Outgoing:
    ids = iter(range(1, 1000))
    key: Any = load_pem_private_key((folder / "node.key").read_bytes(), None) if folder else None
    signer = (lambda: Signer(certificate(folder), key, digest)) if folder else None
    return Outgoing(lambda: NOW, lambda: str(next(ids)), lambda count: b"n" * count, signer, **more)


def sent(folder: Path | None = None, version: str = "1.1", header: str = ACTION, **more: Any) -> bytes:
    envelope = plain(version=version, header=header)
    sender(folder, **more).secure(envelope)
    return etree.tostring(envelope)


class TestSigned:
    @pytest.mark.parametrize("party", ["lab", "ward"])
    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    @pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
    def test_zeep_and_xmlsec_verify_it(self, signers: Signers, party: str, version: str, digest: str) -> None:
        message = sent(signers.folder / party, version, digest=digest)
        verify_envelope(etree.fromstring(message), str(signers.folder / party / "node.pem"))
        for changed in (b">17", b">urn:lab:order", b"Created>20"):
            assert changed in message
            with pytest.raises(SignatureVerificationFailed):
                verify_envelope(etree.fromstring(message.replace(changed, changed + b"1")), str(signers.folder / party / "node.pem"))

    @pytest.mark.parametrize("party", ["lab", "ward"])
    def test_signxml_verifies_it(self, signers: Signers, party: str) -> None:
        config = SignatureConfiguration(location=".//", expect_references=4)
        results = XMLVerifier().verify(
            sent(signers.folder / party),
            x509_cert=certificate(signers.folder / party),
            id_attribute="Id",
            expect_config=config,
            validate_schema=False,
        )
        assert {etree.QName(one.signed_xml).localname for one in results} == {"Body", "Timestamp", "Action", "To"}

    @pytest.mark.parametrize("party", ["lab", "ward"])
    def test_so_do_we_and_everything_is_covered(self, signers: Signers, trust: Trust, party: str) -> None:
        root = parse(sent(signers.folder / party))
        proof = judged(root, trust, signed=ALL)
        assert proof.party == f"urn:meridian:party:{party}"
        assert [etree.QName(one).localname for one in proof.signed] == ["Body", "Timestamp", "Action", "To"]

    def test_its_time(self, signers: Signers, trust: Trust) -> None:
        message = sent(signers.folder / "ward", lifetime=300 * SECOND)
        assert judged(message, trust).until == NOW + 360 * SECOND

    def test_a_header_is_made_where_there_is_none(self, signers: Signers, trust: Trust) -> None:
        envelope = plain()
        envelope.remove(envelope[0])
        sender(signers.folder / "ward").secure(envelope)
        assert judged(etree.tostring(envelope), trust).party == "urn:meridian:party:ward"

    def test_for_a_role(self, signers: Signers, trust: Trust) -> None:
        message = sent(signers.folder / "ward", role="urn:gateway")
        assert judged(message, trust, role="urn:gateway").party == "urn:meridian:party:ward"
        with pytest.raises(Exception, match="no Security header for us"):
            judged(message, trust)

    def test_order_and_must_understand(self, signers: Signers) -> None:
        """What is needed to read a thing stands before it (WSS 1.1 clause 5)."""
        security = at(parse(sent(signers.folder / "ward")), "//wsse:Security")
        assert [etree.QName(child).localname for child in security] == ["Timestamp", "BinarySecurityToken", "Signature"]
        assert security.get("{http://schemas.xmlsoap.org/soap/envelope/}mustUnderstand") == "1"

    def test_an_attachment_is_signed_as_what_it_is(self, signers: Signers, trust: Trust) -> None:
        """zeep sees the base64 in its place."""
        include = "<p><d><x:Include xmlns:x='http://www.w3.org/2004/08/xop/include' href='cid:a'/></d></p>"
        envelope = plain(include)
        sender(signers.folder / "ward").secure(envelope, lambda _: [b"ab", b"cde"])
        holder = at(envelope, "//d")
        holder[:] = []
        holder.text = b64encode(b"abcde").decode()
        verify_envelope(etree.fromstring(etree.tostring(envelope)), str(signers.folder / "ward" / "node.pem"))
        assert judged(etree.tostring(envelope), trust).party == "urn:meridian:party:ward"


class TestLogin:
    @pytest.mark.parametrize("text", [False, True])
    def test_we_take_what_we_say(self, text: bool) -> None:
        message = sent(login=Login("lab-system", lambda: "a password", text))
        users = {"lab-system": User("urn:meridian:party:lab", lambda: "a password")}
        proof: Proof = judged(message, Trust(), require="username", users=users, encrypted=text)
        assert (proof.party, proof.user) == ("urn:meridian:party:lab", "lab-system")
        assert (b"a password" in message) is text

    def test_beside_a_signature(self, signers: Signers, trust: Trust) -> None:
        message = sent(signers.folder / "ward", login=Login("x", lambda: "y"))
        assert judged(message, trust).party == "urn:meridian:party:ward"

    def test_nothing_but_a_timestamp(self) -> None:
        security = at(parse(sent()), "//wsse:Security")
        assert [child.tag for child in security] == [f"{{{WSU}}}Timestamp"]
        assert security.find(ds("Signature")) is None
        assert security.find(wsse("UsernameToken")) is None


class TestOptions:
    def test_zeep_is_given_it_as_its_wsse(self, signers: Signers, tmp_path: Path, trust: Trust) -> None:
        made = outgoing(CLIENT_SECURITY.defaults(), context(tmp_path, signers.folder / "lab"))
        envelope, headers = made.apply(plain(header=ACTION), {"SOAPAction": "x"})
        made.verify(envelope)
        assert headers == {"SOAPAction": "x"}
        assert judged(etree.tostring(envelope), trust, signed=ALL).party == "urn:meridian:party:lab"

    def test_a_new_certificate_is_used_at_once(self, tmp_path: Path) -> None:
        own = Signers(tmp_path)
        folder = own.curve()
        made = outgoing(CLIENT_SECURITY.defaults(), context(tmp_path, folder))
        other = own.curve("pharmacy")
        for name in ("node.pem", "node.key"):
            (other / name).rename(folder / name)
        envelope, _ = made.apply(plain(), {})
        assert judged(etree.tostring(envelope), own.trust()).party == "urn:meridian:party:pharmacy"

    @pytest.mark.parametrize("spoilt", ["node.pem", "node.key"])
    def test_files_that_do_not_do(self, tmp_path: Path, signers: Signers, spoilt: str) -> None:
        for name in ("node.pem", "node.key"):
            (tmp_path / name).write_bytes((signers.folder / ("ward" if name == spoilt else "lab") / name).read_bytes())
        with pytest.raises(ConfigError, match="is not the key of"):
            outgoing(CLIENT_SECURITY.defaults(), context(tmp_path, tmp_path))
        (tmp_path / spoilt).write_text("nothing")
        with pytest.raises(ConfigError, match="cannot be read"):
            outgoing(CLIENT_SECURITY.defaults(), context(tmp_path, tmp_path))
        (tmp_path / spoilt).unlink()
        with pytest.raises(ConfigError, match=spoilt):
            outgoing(CLIENT_SECURITY.defaults(), context(tmp_path, tmp_path))

    def test_a_password_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options = CLIENT_SECURITY.defaults(sign=False, username={"name": "lab-system", "password": "env:WSSE_PASSWORD"})
        with pytest.raises(ConfigError, match="WSSE_PASSWORD is not set"):
            outgoing(options, context(tmp_path, tmp_path))
        monkeypatch.setenv("WSSE_PASSWORD", "a password")
        envelope, _ = outgoing(options, context(tmp_path, tmp_path)).apply(plain(), {})
        users = {"lab-system": User("urn:meridian:party:lab", lambda: "a password")}
        assert judged(etree.tostring(envelope), Trust(), require="username", users=users).user == "lab-system"

    @pytest.mark.parametrize("wrong", [{"signed": ["timestamp"]}, {"timestamp": False}, {"lifetime": "2d"}, {"digest": "sha1"}])
    def test_contradictions(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
            CLIENT_SECURITY.defaults(**wrong)
