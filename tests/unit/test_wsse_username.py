"""UsernameToken, as zeep writes it: password digests with nonce and time, passwords as text over TLS only."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from lxml import etree
from zeep.wsse import UsernameToken

from adapters.soap.security.instants import instant
from adapters.soap.security.names import PASSWORD_TEXT, wsse, wsu
from adapters.soap.security.refusal import Code
from adapters.soap.security.trust import Trust
from adapters.soap.security.username import User, password_digest
from adapters.soap.security.verify import Proof
from engine.formats.xml import parse
from tests.support.wsse import NOW, SECOND, at, judged, plain, refused

PASSWORD = "correct horse, 密码"
USERS = {"lab-system": User("urn:meridian:party:lab", lambda: PASSWORD)}
ASKED = {"require": "username", "users": USERS}
TOKEN = "//wsse:UsernameToken"


def said(name: str = "lab-system", password: str = PASSWORD, age: int = 5, digest: bool = True) -> etree._Element:
    envelope = plain()
    created = datetime.fromtimestamp(NOW // SECOND - age, UTC)
    UsernameToken(name, password, use_digest=digest, created=created).apply(envelope, {})
    return parse(etree.tostring(envelope))


def taken(root: etree._Element, encrypted: bool = False) -> Proof:
    return judged(root, Trust(), encrypted=encrypted, **ASKED)


def not_taken(root: etree._Element, encrypted: bool = False, **more: object) -> tuple[Code, str]:
    return refused(root, Trust(), encrypted=encrypted, **{**ASKED, **more})


class TestDigest:
    def test_it_proves_the_party_of_the_user(self) -> None:
        proof = taken(said())
        assert (proof.party, proof.user, proof.signed) == ("urn:meridian:party:lab", "lab-system", ())
        assert proof.until == NOW - 5 * SECOND + 660 * SECOND

    def test_as_the_profile_says(self) -> None:
        """Base64(SHA-1(nonce + created + password)); the value is openssl's, of the bytes `nonce`, the time and `secret`."""
        assert password_digest(b"nonce", "2026-11-26T00:00:00Z", "secret") == DIGEST_BY_OPENSSL

    def test_the_wrong_password_and_the_unknown_user_hear_the_same(self) -> None:
        wrong, unknown = not_taken(said(password="else")), not_taken(said(name="nobody"))
        assert wrong == (Code.FAILED_AUTHENTICATION, "the password is wrong")
        assert unknown == (Code.FAILED_AUTHENTICATION, "the user is unknown")

    @pytest.mark.parametrize("missing", [wsse("Nonce"), wsu("Created")])
    def test_nonce_and_time_are_needed(self, missing: str) -> None:
        root = said()
        token = at(root, TOKEN)
        token.remove(token.find(missing))
        assert not_taken(root) == (Code.INVALID_TOKEN, "a password digest without nonce or creation time")

    @pytest.mark.parametrize("twice", [wsse("Nonce"), wsu("Created"), wsse("Password"), wsse("Username")])
    def test_nothing_twice(self, twice: str) -> None:
        root = said()
        token = at(root, TOKEN)
        etree.SubElement(token, twice).text = token.findtext(twice)
        assert not_taken(root)[0] is Code.INVALID_SECURITY

    def test_two_tokens(self) -> None:
        root = said()
        etree.SubElement(at(root, "//wsse:Security"), wsse("UsernameToken"))
        assert not_taken(root)[0] is Code.INVALID_SECURITY

    @pytest.mark.parametrize(("age", "fault"), [(700, Code.EXPIRED), (-120, Code.INVALID_SECURITY)])
    def test_old_or_of_the_future(self, age: int, fault: Code) -> None:
        assert not_taken(said(age=age))[0] is fault

    def test_another_time_is_not_what_was_digested(self) -> None:
        root = said()
        at(root, TOKEN).find(wsu("Created")).text = instant(NOW)
        assert not_taken(root)[0] is Code.FAILED_AUTHENTICATION

    @pytest.mark.parametrize("nonce", ["", "!!", "AAAA", "A" * 400])
    def test_nonces_that_are_none(self, nonce: str) -> None:
        root = said()
        at(root, TOKEN).find(wsse("Nonce")).text = nonce
        assert not_taken(root)[0] is Code.INVALID_TOKEN

    def test_the_same_token_is_known_again_and_others_are_not(self) -> None:
        root = said()
        assert taken(root).mark == taken(parse(etree.tostring(root))).mark != taken(said()).mark

    def test_the_white_space_of_a_nonce_makes_no_other(self) -> None:
        root = said()
        first = taken(root).mark
        nonce = at(root, TOKEN).find(wsse("Nonce"))
        nonce.text = f"\n{nonce.text[:6]}\n {nonce.text[6:]}"
        assert taken(root).mark == first

    def test_a_stale_timestamp_beside_it(self) -> None:
        root = said()
        timestamp = etree.SubElement(at(root, "//wsse:Security"), wsu("Timestamp"))
        etree.SubElement(timestamp, wsu("Created")).text = instant(NOW - 3600 * SECOND)
        assert not_taken(root)[0] is Code.EXPIRED

    def test_parties_that_are_allowed(self) -> None:
        assert not_taken(said(), allow=["ward"])[0] is Code.FAILED_AUTHENTICATION


DIGEST_BY_OPENSSL = "pN9P1bjnuorf0Z/Y/wqdUO5FS/Y="


class TestText:
    def test_over_tls(self) -> None:
        proof = taken(said(digest=False), encrypted=True)
        assert (proof.party, proof.mark) == ("urn:meridian:party:lab", b"")

    def test_not_without(self) -> None:
        assert not_taken(said(digest=False)) == (Code.UNSUPPORTED_TOKEN, "a password as text without TLS")

    def test_the_wrong_one(self) -> None:
        assert not_taken(said(password="x", digest=False), encrypted=True)[0] is Code.FAILED_AUTHENTICATION

    def test_it_is_text_where_nothing_is_said(self) -> None:
        root = said(digest=False)
        password = at(root, TOKEN).find(wsse("Password"))
        assert password.attrib.pop("Type") == PASSWORD_TEXT
        assert taken(root, encrypted=True).party == "urn:meridian:party:lab"

    def test_not_with_elements_in_it(self) -> None:
        root = said(digest=False)
        etree.SubElement(at(root, TOKEN).find(wsse("Password")), "x")
        assert not_taken(root, encrypted=True)[0] is Code.FAILED_AUTHENTICATION

    @pytest.mark.parametrize("kind", ["", "urn:x"])
    def test_kinds_that_are_none(self, kind: str) -> None:
        root = said(digest=False)
        at(root, TOKEN).find(wsse("Password")).set("Type", kind)
        assert not_taken(root, encrypted=True)[0] is Code.UNSUPPORTED_TOKEN

    def test_a_signature_is_no_password(self) -> None:
        assert refused(said(), Trust())[0] is Code.INVALID_SECURITY
