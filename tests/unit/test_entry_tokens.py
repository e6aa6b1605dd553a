"""The token endpoint: who proves itself by a registered key has a token for five minutes, and no trick gets one otherwise."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from engine.parties import Mark
from tests.support.entry import BASE, TOKEN, Guarded, device, jwk, private_key, public_pem, signed

OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}


def base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.fixture
def source(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path, device())


def test_a_registered_key_gives_a_token_that_opens(source: Guarded) -> None:
    """RFC 6749 clause 5.1: the answer is not to be kept anywhere; the envelope carries the party that the token has proven."""
    answer = source.connect().form(scope="system/Observation.c", client_assertion=signed(source.claims()))
    assert answer.status == 200
    assert {name: answer.said[name] for name in ("token_type", "expires_in", "scope")} == {
        "token_type": "bearer",
        "expires_in": 300,
        "scope": "system/Observation.c",
    }
    assert "Cache-Control: no-store" in answer.head
    assert "Pragma: no-cache" in answer.head
    assert source.connect().post(OBSERVATION, answer.said["access_token"]).status == 202
    assert source.intake.envelopes[0].peer == "urn:meridian:party:terminal-7"
    assert source.audited == []


def test_rsa_keys_and_rotation(source: Guarded, tmp_path: Path) -> None:
    """Several keys are registered at once, and `kid` says which one it was; a key that was removed proves nothing."""
    old, new = private_key("EC"), private_key("RSA")
    both = device(keys=(jwk(old, "old"), jwk(new, "new")))
    source.register(both)
    for key, kid in ((old, "old"), (new, "new")):
        assert source.connect().form(client_assertion=signed(source.claims(), key, kid)).status == 200
    source.register(replace(both, keys=both.keys[1:]))
    assert source.connect().form(client_assertion=signed(source.claims(), old, "old")).said["error"] == "invalid_client"
    assert source.connect().form(client_assertion=signed(source.claims(), new, "new")).status == 200


def unsigned(claims: dict[str, Any], header: dict[str, Any], signature: bytes = b"") -> str:
    return ".".join([base64url(json.dumps(header).encode()), base64url(json.dumps(claims).encode()), base64url(signature)])


def confused(claims: dict[str, Any]) -> str:
    """Signed by HMAC with the public key, which everybody knows."""
    head = unsigned(claims, {"alg": "HS256", "kid": "k1"}).rpartition(".")[0]
    digest = hmac.new(public_pem(private_key("EC")).encode(), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64url(digest)}"


NOW = 1_700_000_000
HOSTILE: dict[str, Any] = {
    "alg none": lambda claims: unsigned(claims, {"alg": "none", "kid": "k1"}),
    "alg none, in other letters": lambda claims: unsigned(claims, {"alg": "NoNe", "kid": "k1"}),
    "no signature": lambda claims: unsigned(claims, {"alg": "ES384", "kid": "k1"}),
    "HS256 with the public key": confused,
    "another's key": lambda claims: signed(claims, private_key("EC", 2)),
    "RS384 with the key id of an EC key": lambda claims: signed(claims, private_key("RSA")),
    "unknown kid": lambda claims: signed(claims, kid="k2"),
    "no kid": lambda claims: signed(claims, kid=None),
    "a kid that is no text": lambda claims: unsigned(claims, {"alg": "ES384", "kid": ["k1"]}),
    "a critical header": lambda claims: jwt.encode(claims, private_key("EC"), "ES384", {"kid": "k1", "crit": ["x"]}),
    "expired": lambda claims: signed({**claims, "exp": NOW - 31}),
    "exp far ahead": lambda claims: signed({**claims, "exp": NOW + 3600}),
    "exp as text": lambda claims: signed({**claims, "exp": str(NOW + 60)}),
    "exp without end": lambda claims: signed({**claims, "exp": 1e300}),
    "not yet valid": lambda claims: signed({**claims, "nbf": NOW + 120}),
    "issued in the future": lambda claims: signed({**claims, "iat": NOW + 120}),
    "another audience": lambda claims: signed({**claims, "aud": "https://evil.example/token"}),
    "another audience beside ours": lambda claims: signed({**claims, "aud": [TOKEN, "https://evil.example/token"]}),
    "no audience in a list": lambda claims: signed({**claims, "aud": []}),
    "sub is another": lambda claims: signed({**claims, "sub": "other"}),
    "iss is another": lambda claims: signed({**claims, "iss": "other"}),
    "nobody's": lambda claims: signed({**claims, "iss": "nobody", "sub": "nobody"}),
    "iss by another of its names": lambda claims: signed({**claims, "iss": "alias", "sub": "alias"}),
    "no jti": lambda claims: signed({name: value for name, value in claims.items() if name != "jti"}),
    "jti of nothing": lambda claims: signed({**claims, "jti": ""}),
    "no exp": lambda claims: signed({name: value for name, value in claims.items() if name != "exp"}),
    "oversized": lambda claims: signed({**claims, "more": "x" * 8192}),
    "no JWT": lambda _: "x.y",
    "claims that are a list": lambda _: f"{base64url(b'{}')}.{base64url(b'[]')}.",
    "deep nonsense": lambda _: f"{base64url(b'[' * 3000)}.e30.e30",
}  # fmt: skip


@pytest.mark.parametrize("trick", HOSTILE)
def test_no_trick_gives_a_token(tmp_path: Path, trick: str) -> None:
    """Each is refused as invalid_client, audited without the assertion, and the same client is let in when it does it right."""
    source = Guarded(tmp_path, device(marks=((Mark.CERTIFICATE, "alias"),)), replace(device("other"), keys=()))
    assertion = HOSTILE[trick](source.claims())
    answer = source.connect().form(client_assertion=assertion)
    assert (answer.status, answer.said["error"]) == (400, "invalid_client")
    assert "access_token" not in answer.said
    ((event, facts),) = source.audited
    assert event == "fhir.token_refused"
    assert assertion not in json.dumps(facts)
    assert source.connect().form(client_assertion=signed(source.claims())).status == 200


def test_clocks_may_differ_a_little(source: Guarded) -> None:
    """A device whose clock is half a minute off is let in on both sides of now."""
    for claims in ({"exp": NOW - 29}, {"exp": NOW + 329}, {"exp": NOW + 60, "iat": NOW + 29, "nbf": NOW + 29}, {"aud": [BASE]}):
        assert source.connect().form(client_assertion=signed(source.claims(**claims))).status == 200


def test_an_assertion_is_used_once(source: Guarded) -> None:
    """Also after a restart; when it has expired nothing of it is kept, and it is refused for its time."""
    assertion = signed(source.claims())
    assert source.connect().form(client_assertion=assertion).status == 200
    assert "used before" in source.connect().form(client_assertion=assertion).said["error_description"]
    source.restart()
    assert "used before" in source.connect().form(client_assertion=assertion).said["error_description"]
    source.advance(271)
    assert "expired" in source.connect().form(client_assertion=assertion).said["error_description"]
    source.token()
    tokens = source.source._reception._entrance._tokens
    assert tokens._connection.execute("SELECT count(*) FROM assertion").fetchone() == (1,)
    assert tokens._connection.execute("SELECT count(*) FROM token").fetchone() == (2,)


def test_a_token_lives_five_minutes_and_over_a_restart(source: Guarded) -> None:
    """A restart of the node cuts nobody off; the end of the five minutes does, on an open connection too."""
    token = source.token()
    source.restart()
    line = source.connect()
    assert line.post(OBSERVATION, token).status == 202
    source.advance(299)
    assert source.connect().post(OBSERVATION, token).status == 202
    source.advance(1)
    answer = source.connect().post(OBSERVATION, token)
    assert answer.status == 401
    assert 'WWW-Authenticate: Bearer realm="meridian", error="invalid_token"' in answer.head
    assert answer.said["resourceType"] == "OperationOutcome"


FORMS: dict[str, tuple[dict[str, str], str]] = {
    "no grant_type": ({"grant_type": ""}, "invalid_request"),
    "another grant": ({"grant_type": "password"}, "unsupported_grant_type"),
    "no assertion": ({"client_assertion": ""}, "invalid_request"),
    "another kind of assertion": ({"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, "invalid_request"),
    "another client_id": ({"client_id": "other"}, "invalid_client"),
    "what it may not": ({"scope": "system/MedicationRequest.c patient/Observation.rs openid"}, "invalid_scope"),
}


@pytest.mark.parametrize("wrong", FORMS)
def test_what_is_asked_wrongly(source: Guarded, wrong: str) -> None:
    """RFC 6749 clause 5.2."""
    fields, error = FORMS[wrong]
    answer = source.connect().form(**{"client_assertion": signed(source.claims()), **fields})
    assert (answer.status, answer.said["error"]) == (400, error)


def test_the_request_has_one_form(source: Guarded) -> None:
    """POST, a form, a length, no parameter twice, and no second proof beside the assertion."""
    form = "application/x-www-form-urlencoded"
    assert source.ask("GET", "/fhir/token").status == 405
    assert source.ask("POST", "/fhir/token", b"{}").said["error"] == "invalid_request"
    twice = b"grant_type=client_credentials&grant_type=client_credentials"
    assert source.ask("POST", "/fhir/token", twice, content_type=form).said["error"] == "invalid_request"
    assert source.ask("POST", "/fhir/token", b"\xff=1", content_type=form).said["error"] == "invalid_request"
    assert source.ask("POST", "/fhir/token", b"a=1", content_type=form, authorization="Basic eDp5").said["error"] == "invalid_request"
    assert source.ask("POST", "/fhir/token?client_assertion=x", b"a=1", content_type=form).said["error"] == "invalid_request"
    large = b"POST /fhir/token HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n"
    assert source.connect().raw(large).status == 413
    assert source.connect().raw(b"POST /fhir/token HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").status == 411


def test_what_is_said_of_it_is_true(source: Guarded) -> None:
    """Anybody may read the SMART configuration and the CapabilityStatement; both name the endpoint where tokens are."""
    found = source.ask("GET", "/fhir/.well-known/smart-configuration").said
    assert found["token_endpoint"] == TOKEN
    assert found["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    assert found["tls_client_certificate_bound_access_tokens"] is False
    security = source.ask("GET", "/fhir/metadata").said["rest"][0]["security"]
    assert security["extension"][0]["extension"] == [{"url": "token", "valueUri": TOKEN}]


def test_without_tokens_nothing_of_them_is_there(tmp_path: Path) -> None:
    """With certificates alone there is no token endpoint, and no statement speaks of one."""
    source = Guarded(tmp_path, device(), auth={"introspection": {"url": "http://127.0.0.1:9/introspect", "auth": {"bearer": "env:HOME"}}})
    assert source.ask("GET", "/fhir/.well-known/smart-configuration").status == 401
    assert "extension" not in source.ask("GET", "/fhir/metadata").said["rest"][0]["security"]


def test_a_disabled_party_has_no_token(source: Guarded) -> None:
    """Neither a new one, nor one that it had: the very next request on an open connection is refused, and audited."""
    token, line = source.token(), source.connect()
    assert line.post(OBSERVATION, token).status == 202
    source.disable("terminal-7")
    assert line.post(OBSERVATION, token).status == 401
    assert source.connect().form(client_assertion=signed(source.claims())).said["error"] == "invalid_client"
    assert [event for event, _ in source.audited] == ["fhir.refused", "fhir.token_refused"]
    assert {facts["party"] for _, facts in source.audited} == {"terminal-7"}


def test_no_party_hoards_tokens(source: Guarded) -> None:
    """Of more than fifty the oldest is forgotten: a client that asks before each request does not fill the disk."""
    first = source.token()
    source.advance(1)
    for _ in range(50):
        source.token()
    assert source.connect().post(OBSERVATION, first).status == 401
    source.restart()
    assert source.connect().post(OBSERVATION, first).status == 401
    assert source.connect().post(OBSERVATION, source.token()).status == 202
