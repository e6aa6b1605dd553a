"""Public keys of parties: what is registered, and what is not let in as one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.jwk import ECKey, KeySet, RSAKey

from engine.parties import Kind, Party
from engine.parties.keys import key_id, public_keys, read_key
from engine.parties.model import faults_of, together
from tests.support.entry import jwk, private_key, private_pem, public_pem


@pytest.mark.parametrize(("kind", "algorithm", "library"), [("RSA", "RS384", RSAKey), ("EC", "ES384", ECKey)])
def test_a_key_in_any_form_is_the_same_text(kind: str, algorithm: str, library: Any) -> None:
    """PEM, JWK and JWK set, as another library writes them; without a name it is called by its thumbprint (RFC 7638)."""
    key = private_key(kind)
    (from_pem,) = public_keys(public_pem(key))
    foreign = library.import_key(private_pem(key))
    (from_jwk,) = public_keys(json.dumps(foreign.as_dict(private=False)))
    (from_set,) = public_keys(json.dumps(KeySet([foreign]).as_dict(private=False)))
    assert from_jwk == from_pem
    assert json.loads(from_set) | {"kid": ""} == json.loads(from_pem) | {"kid": ""}
    assert key_id(from_pem) == foreign.thumbprint()
    assert read_key(from_pem)[:2] == (foreign.thumbprint(), algorithm)
    assert read_key(from_pem)[2].public_numbers() == key.public_key().public_numbers()


def test_a_private_key_is_refused() -> None:
    """It is its owner's alone, in whatever form it comes."""
    key = private_key("EC")
    for text in (private_pem(key).decode(), json.dumps(ECKey.import_key(private_pem(key)).as_dict(private=True)), '{"kty":"oct","k":"eA"}'):
        with pytest.raises(ValueError, match="private"):
            public_keys(text)


WRONG: dict[str, str] = {
    "another curve": public_pem(ec.generate_private_key(ec.SECP256R1())),
    "a short key": public_pem(rsa.generate_private_key(65537, 1024)),
    "another kind": public_pem(ed25519.Ed25519PrivateKey.generate()),
    "no key": "hello",
    "no JSON object": "[1]",
    "an empty set": '{"keys": []}',
    "half a JWK": '{"kty": "EC", "crv": "P-384", "x": "AA"}',
    "a point that is on no curve": '{"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}',
    "half a PEM": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "another kind of JWK": '{"kty": "OKP", "crv": "Ed25519", "x": "AA"}',
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_key_for_this(kind: str) -> None:
    """RSA from 2048 bits and P-384 are what RS384 and ES384 need; anything else is said to be wrong, in a sentence."""
    with pytest.raises(ValueError, match=r"key|JWK|PEM"):
        public_keys(WRONG[kind])


def test_a_name_with_a_semicolon_is_refused() -> None:
    """It could not stand in a CSV cell."""
    with pytest.raises(ValueError, match="kid"):
        jwk(private_key("EC"), "a;b")


def test_keys_of_a_party() -> None:
    """Two of one name cannot be told apart; one key is one party's; a patient is a reference or an identifier; a rate is a number."""
    one, two = jwk(private_key("EC"), "k"), jwk(private_key("RSA"), "k")
    assert list(faults_of(Party("a", Kind.DEVICE, keys=(one, two)))) == ["two of its keys have the same key id (kid)"]
    both = {name: Party(name, Kind.DEVICE, keys=(one,)) for name in ("a", "b")}
    ((party, text),) = together(both)
    assert (party, text.endswith("belongs to 'a' already")) == ("b", True)
    assert not list(faults_of(Party("a", Kind.DEVICE, patients=("Patient/1", "urn:oid:1.2|x"), requests_per_minute=60)))
    assert len(list(faults_of(Party("a", Kind.DEVICE, patients=("1", "Observation/1", "x|y", "Patient/"), requests_per_minute=-1)))) == 5
