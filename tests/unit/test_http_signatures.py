"""Signatures of webhooks, without a server: the published example, every way of signing, and what is none."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from adapters.http.authentication.options import SIGNATURE
from adapters.http.authentication.schemes import ALGORITHMS, scheme_of
from adapters.http.authentication.signatures import Signatures
from engine.errors import ConfigError, Fault, FramingError
from engine.http_answers import HttpRefusal
from engine.http_coding import Plain
from engine.options import Place
from tests.support.plain_http import faults_of, hub_signature

NOW = 1_800_000_000
BODY = b'{"id":"evt_1","n":1.50}'
KEY = b"\x01\x02\x03" * 8


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Signatures of the options; the secrets are the files `one` and `two`, and `key` in base64."""
    (tmp_path / "one").write_text("It's a Secret to Everybody")
    (tmp_path / "two").write_text("the next")
    (tmp_path / "key").write_text("whsec_" + b64encode(KEY).decode())

    def made(**options: Any) -> Signatures:
        faults: list[Fault] = []
        settings = SIGNATURE.parse({"secrets": ["file:one"], **options}, Place("c.yaml", 1, folder=tmp_path), faults)
        assert not faults
        return Signatures(settings, lambda: NOW * 1_000_000)

    return made


def verified(signatures: Signatures, headers: dict[str, str], body: bytes = BODY) -> str:
    """ "" where it is right, else why not; the body comes in two pieces."""
    try:
        verifying = signatures.begin(headers, Plain(1000))
        assert b"".join(piece for part in (body[:5], body[5:]) for piece in verifying.feed(part)) == body
        verifying.finish()
    except HttpRefusal as refused:
        assert refused.status == 401
        return refused.text
    return ""


def test_the_published_example(make: Any) -> None:
    """GitHub's own: secret, payload and header of "Validating webhook deliveries"."""
    said = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verified(make(scheme="github"), {"x-hub-signature-256": said}, b"Hello, World!") == ""
    assert verified(make(scheme="github"), {"x-hub-signature-256": said}, b"Hello, World?") == "the signature is not right"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_every_algorithm_as_the_standard_library_has_it(make: Any, algorithm: str, encoding: str) -> None:
    """SM3 too; one bit of the body is enough to be refused."""
    digest = hmac.new(b"It's a Secret to Everybody", BODY, algorithm).digest()
    text = digest.hex() if encoding == "hex" else b64encode(digest).decode()
    signatures = make(algorithm=algorithm, encoding=encoding, header="X-Signed", prefix="p=")
    assert verified(signatures, {"x-signed": f"p={text}"}) == ""
    assert verified(signatures, {"x-signed": f"p={text}"}, BODY[:-1] + b"|") != ""
    assert verified(signatures, {"x-signed": text}) != ""


def stripe(at: int, *secrets: bytes, body: bytes = BODY) -> dict[str, str]:
    macs = [hmac.new(secret, b"%d.%b" % (at, body), hashlib.sha256).hexdigest() for secret in secrets]
    return {"stripe-signature": ",".join([f"t={at}", *(f"v1={mac}" for mac in macs), "v0=ffff"])}


def test_a_signed_time(make: Any) -> None:
    """Within the tolerance on both sides; it is signed, and said once."""
    signatures = make(scheme="stripe")
    right = b"It's a Secret to Everybody"
    for at, ok in ((NOW, True), (NOW - 299, True), (NOW + 299, True), (NOW - 301, False), (NOW + 301, False)):
        assert (verified(signatures, stripe(at, right)) == "") is ok
    assert verified(make(scheme="stripe", tolerance="1h"), stripe(NOW - 3000, right)) == ""
    for change in ("t=1800000001", "t=", "t=-1", "t=1e9", "t=１８", f"t={NOW},t={NOW + 1}"):
        headers = {"stripe-signature": stripe(NOW, right)["stripe-signature"].replace(f"t={NOW}", change)}
        assert verified(signatures, headers) != ""


def test_a_secret_is_replaced_by_another(make: Any, tmp_path: Path) -> None:
    """Any of them will do, a sender may sign with both, and a file is read again; without it those that were read go on."""
    signatures = make(scheme="stripe", secrets=["file:one", "file:two"])
    for secrets in ([b"the next"], [b"It's a Secret to Everybody"], [b"wrong", b"the next"]):
        assert verified(signatures, stripe(NOW, *secrets)) == ""
    assert verified(signatures, stripe(NOW, b"wrong")) == "the signature is not right"
    (tmp_path / "two").write_text("newest")
    assert verified(signatures, stripe(NOW, b"newest")) == ""
    (tmp_path / "two").unlink()
    assert verified(signatures, stripe(NOW, b"newest")) == ""


def standard(message_id: str = "msg_1", at: int = NOW, key: bytes = KEY) -> dict[str, str]:
    mac = hmac.new(key, f"{message_id}.{at}.".encode() + BODY, hashlib.sha256).digest()
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": f"v1a,AAAA v1,{b64encode(mac).decode()}"}


def test_a_signed_identifier(make: Any) -> None:
    """Standard Webhooks: identifier, time and body; none of them can be another."""
    signatures = make(scheme="standard-webhooks", secrets=["file:key"])
    assert verified(signatures, standard()) == ""
    assert signatures.begin(standard(), Plain(10)).signed_id == "msg_1"
    for change in ({"webhook-id": "msg_2"}, {"webhook-id": ""}, {"webhook-id": "msg_1, msg_1"}, {"webhook-timestamp": str(NOW + 1)}):
        assert verified(signatures, {**standard(), **change}) != ""


def test_a_header_that_is_there_twice_or_is_no_signature(make: Any) -> None:
    """As the server joins it, however it is made; far too many signatures are not even tried."""
    signatures = make(scheme="github")
    right = hub_signature("It's a Secret to Everybody", BODY)
    assert verified(signatures, {"x-hub-signature-256": right}) == ""
    wrong = ["", right.upper(), f"{right}, {right}", right + "00", right[:-2], "sha256=", "sha256=zz", "sha1=" + right[7:], right[7:]]
    for said in wrong:
        assert verified(signatures, {"x-hub-signature-256": said}) != "", said
    flood = {"webhook-id": "1", "webhook-timestamp": str(NOW), "webhook-signature": "v1,AAAA " * 1000}
    assert verified(make(scheme="standard-webhooks", secrets=["file:key"]), flood) == "this server wants the request signed"


def test_the_body_is_signed_as_it_was_sent(make: Any) -> None:
    """What goes wrong further on is said as it is: here, a body that is larger than allowed."""
    signatures = make(scheme="github")
    verifying = signatures.begin({"x-hub-signature-256": hub_signature("It's a Secret to Everybody", BODY)}, Plain(3))
    with pytest.raises(FramingError):
        list(verifying.feed(BODY))


def test_a_secret_in_the_wrong_form(make: Any) -> None:
    """Said when the source starts, without the secret."""
    with pytest.raises(ConfigError, match="base64") as caught:
        make(scheme="standard-webhooks").read()
    assert "Everybody" not in str(caught.value)


def test_what_a_channel_file_cannot_say() -> None:
    """Each with what would be right."""
    for said, words in (
        ({"scheme": "github"}, "needs 'secrets'"),
        ({"scheme": "githup", "secrets": "env:A"}, "did you mean 'github'"),
        ({"secrets": "env:A", "signed": "timestamp.body"}, "needs timestamp_header"),
        ({"secrets": "env:A", "signed": "id.timestamp.body", "timestamp_header": "X-T"}, "needs id_header"),
        ({"secrets": "hunter2"}, "never written here"),
        ({"secrets": "env:A", "header": "X Y"}, "name of a header field"),
    ):
        assert words in faults_of("source", {"listen": 1, "credentials": {"signature": said}}), said


def test_a_scheme_and_what_is_otherwise() -> None:
    """A preset with another header and algorithm is still that preset otherwise."""
    settings = SIGNATURE.parse({"scheme": "github", "header": "X-Lab", "algorithm": "sm3", "secrets": "env:A"}, Place("c.yaml"), [])
    scheme = scheme_of(settings)
    assert (scheme.header, scheme.algorithm, scheme.prefix) == ("x-lab", "sm3", "sha256=")
