"""An endpoint's verifier: what is remembered against replays, repetitions, and what a stranger and the audit hear."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import xmlsec
from lxml import etree
from zeep.wsse import UsernameToken

from adapters.soap.security import SECURITY, NotProven, Verifier, verifier
from adapters.soap.security.names import WSSE, WSU
from adapters.soap.security.refusal import Code, Refusal
from adapters.soap.security.replays import Replays, Seen
from engine.errors import ConfigError, StoreError, StoreFull
from engine.formats.soap import SoapMessage, read
from tests.support.soap import NS, in_parts, kept, part, related
from tests.support.wsse import ACTION, NOW, SECOND, Signers, at, context, judged, plain, refused, signed

EC = xmlsec.Transform.ECDSA_SHA256
MARK, ONE, OTHER = b"m" * 32, b"1" * 32, b"2" * 32


class TestReplays:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / "seen.db"

    def test_the_same_bytes_are_a_repetition_others_a_replay(self, file: Path) -> None:
        replays = Replays(file)
        assert replays.remember(MARK, "c", ONE, NOW + SECOND, NOW) is Seen.NEVER
        assert replays.remember(MARK, "c", ONE, NOW + SECOND, NOW) is Seen.REPEATED
        assert replays.remember(MARK, "c", OTHER, NOW + SECOND, NOW) is Seen.REPLAYED
        assert replays.remember(MARK, "d", ONE, NOW + SECOND, NOW) is Seen.REPLAYED
        assert replays.remember(OTHER, "c", ONE, NOW + SECOND, NOW) is Seen.NEVER
        replays.close()

    def test_bytes_that_nobody_knows_are_no_repetition(self, file: Path) -> None:
        replays = Replays(file)
        assert [replays.remember(MARK, "c", b"", NOW, NOW) for _ in range(2)] == [Seen.NEVER, Seen.REPLAYED]
        replays.close()

    def test_across_a_restart_and_to_other_channels(self, file: Path) -> None:
        first, beside = Replays(file), Replays(file)
        first.remember(MARK, "c", ONE, NOW + SECOND, NOW)
        assert beside.remember(MARK, "c", OTHER, NOW + SECOND, NOW) is Seen.REPLAYED
        first.close()
        beside.close()
        again = Replays(file)
        assert again.remember(MARK, "c", OTHER, NOW + SECOND, NOW) is Seen.REPLAYED
        again.close()
        assert file.stat().st_mode & 0o777 == 0o600

    def test_what_is_over_goes(self, file: Path) -> None:
        replays = Replays(file, most=2)
        for mark in (b"a", b"b"):
            replays.remember(mark, "c", ONE, NOW + SECOND, NOW)
        with pytest.raises(StoreFull):
            replays.remember(b"c", "c", ONE, NOW + 9 * SECOND, NOW + SECOND)
        assert replays.remember(b"a", "c", OTHER, NOW, NOW) is Seen.REPLAYED
        later = NOW + SECOND + 1
        assert replays.remember(b"c", "c", ONE, later + 9 * SECOND, later) is Seen.NEVER
        assert replays.remember(b"d", "c", ONE, later + 9 * SECOND, later) is Seen.NEVER
        with pytest.raises(StoreFull):
            replays.remember(b"e", "c", ONE, later, later)
        replays.forget(b"d")
        assert replays.remember(b"e", "c", ONE, later, later) is Seen.NEVER
        replays.close()

    def test_of_many_threads_one_is_first(self, file: Path) -> None:
        replays, found = Replays(file), []
        threads = [
            threading.Thread(target=lambda digest: found.append(replays.remember(MARK, "c", digest, NOW, NOW)), args=(bytes([number]),))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(one.value for one in found) == ["never", *["replayed"] * 7]
        replays.close()


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Signers:
    made = Signers(tmp_path_factory.mktemp("incoming"))
    made.curve()
    return made


@pytest.fixture(scope="module")
def message(signers: Signers) -> SoapMessage:
    return read(signed(signers.folder / "ward", method=EC))


def endpoint(folder: Path, signers: Signers, name: str = "orders", **options: Any) -> Verifier:
    made = verifier(SECURITY.defaults(**options), replace(context(folder, signers.authority.folder), name=name))
    assert made is not None
    return made


class TestVerifier:
    def test_who_it_was_and_what_was_signed(self, tmp_path: Path, signers: Signers, message: SoapMessage) -> None:
        proven = endpoint(tmp_path, signers).verify(message, NOW, digest=ONE)
        assert (proven.party, proven.signed, proven.repeated, proven.user) == ("urn:meridian:party:ward", True, False, "")
        assert any(one is message.body for one in proven.elements)
        assert "test authority" in proven.token

    def test_the_same_bytes_again_are_handed_on_as_a_repetition(self, tmp_path: Path, signers: Signers, message: SoapMessage) -> None:
        """Whose answer was lost may ask for it again; the intake's duplicate check knows it."""
        gate = endpoint(tmp_path, signers)
        first, again = (gate.verify(message, NOW, digest=ONE) for _ in range(2))
        assert (first.repeated, again.repeated, again.party) == (False, True, first.party)
        gate.refuse_repeated(first)
        with pytest.raises(NotProven) as raised:
            gate.refuse_repeated(again)
        assert "replay" in raised.value.why

    @pytest.mark.parametrize(
        ("name", "digest", "options"),
        [("orders", OTHER, {}), ("orders", b"", {}), ("other", ONE, {}), ("orders", ONE, {"replay": "refuse"})],
    )
    def test_a_replay(
        self, tmp_path: Path, signers: Signers, message: SoapMessage, name: str, digest: bytes, options: dict[str, Any]
    ) -> None:
        """In other bytes, on another channel, or where the site wants none at all; after a restart too."""
        first = endpoint(tmp_path, signers)
        first.verify(message, NOW, digest=ONE)
        first.close()
        with pytest.raises(NotProven) as raised:
            endpoint(tmp_path, signers, name, **options).verify(message, NOW, digest=digest)
        assert (raised.value.party, "replay" in raised.value.why) == ("urn:meridian:party:ward", True)
        assert "replay" not in raised.value.text

    def test_what_was_not_taken_may_come_again(self, tmp_path: Path, signers: Signers, message: SoapMessage) -> None:
        gate = endpoint(tmp_path, signers, replay="refuse")
        gate.forget(gate.verify(message, NOW, digest=ONE))
        assert not gate.verify(message, NOW, digest=ONE).repeated

    @pytest.mark.parametrize("version", ["1.1", "1.2"])
    def test_a_stranger_hears_the_code_and_no_more(self, tmp_path: Path, signers: Signers, version: str) -> None:
        changed = signed(signers.folder / "ward", plain(version=version), method=EC).replace(b">17<", b">18<")
        with pytest.raises(NotProven) as raised:
            endpoint(tmp_path, signers).verify(read(changed), NOW)
        assert raised.value.why == "Body is not what was signed"
        fault = raised.value.element(version)
        text = "".join(fault.itertext())
        assert "The signature or decryption was invalid" in text
        assert "Body" not in text
        code = fault.find("faultcode") if version == "1.1" else fault.findall(f".//{{{NS['1.2']}}}Value")[1]
        prefix, _, local = code.text.partition(":")
        assert (code.nsmap[prefix], local) == (WSSE, "FailedCheck")

    def test_each_code_has_a_sentence_and_expired_is_of_the_utility_namespace(self) -> None:
        for code in Code:
            fault = NotProven(Refusal(code, "why"))
            assert fault.subcode == f"{{{WSU if code is Code.EXPIRED else WSSE}}}{code.value}"
            assert fault.text != "why"

    def test_nothing_is_asked_for(self, tmp_path: Path, signers: Signers) -> None:
        """Then there is nobody who heeds a Security header that must be understood."""
        made = context(tmp_path, signers.authority.folder)
        assert verifier(None, made) is verifier(SECURITY.defaults(require="none"), made) is None
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize("require", ["signature", "none"])
    def test_answers_are_signed_as_they_go_out(self, tmp_path: Path, signers: Signers, message: SoapMessage, require: str) -> None:
        """So that the stored answer of a repetition has the time of now."""
        clock = iter([NOW, NOW + 3600 * SECOND])
        made = context(tmp_path, signers.folder / "ward", lambda: next(clock))
        gate = verifier(SECURITY.defaults(require=require, answers={}), made)
        assert gate is not None
        stored = etree.tostring(plain("<answer/>", header=ACTION))
        first, later = gate.secure(stored, message), gate.secure(stored, message)
        assert judged(first, signers.trust(), NOW).party == "urn:meridian:party:ward"
        assert judged(later, signers.trust(), NOW + 3600 * SECOND).party == "urn:meridian:party:ward"
        assert refused(later, signers.trust(), NOW)[0] is Code.INVALID_SECURITY
        gate.close()

    def test_answers_are_as_they_are_where_nothing_is_said(self, tmp_path: Path, signers: Signers, message: SoapMessage) -> None:
        assert endpoint(tmp_path, signers).secure(b"<answer/>", message) == b"<answer/>"

    def test_attachments_of_a_message_in_parts(self, tmp_path: Path, signers: Signers) -> None:
        """Signed with the base64 in place; the part comes after it, and another one in its stead is refused."""
        root = etree.fromstring(signed(signers.folder / "ward", plain("<p><d>YWJj</d></p>"), method=EC))
        holder = at(root, "//d")
        holder.text = None
        etree.SubElement(holder, "{http://www.w3.org/2004/08/xop/include}Include", href="cid:doc@a")
        for content, right in ((b"abc", True), (b"abd", False)):
            body = kept(related(), in_parts(etree.tostring(root), part(content, "doc@a")))
            if right:
                assert endpoint(tmp_path, signers).verify(read(body), NOW).signed
                continue
            with pytest.raises(NotProven):
                endpoint(tmp_path, signers).verify(read(body), NOW)

    def test_a_file_that_cannot_be_used_is_the_stores_fault(self, tmp_path: Path, signers: Signers, message: SoapMessage) -> None:
        gate = endpoint(tmp_path, signers)
        with sqlite3.connect(tmp_path / "data" / "soap-seen.db") as other:
            other.execute("drop table seen")
        other.close()
        with pytest.raises(StoreError):
            gate.verify(message, NOW)
        gate.close()

    def test_users(self, tmp_path: Path, signers: Signers, monkeypatch: pytest.MonkeyPatch) -> None:
        options = {"require": "username", "users": {"lab-system": {"party": "lab", "password": "env:WSSE_PASSWORD"}}}
        with pytest.raises(ConfigError, match="WSSE_PASSWORD is not set"):
            endpoint(tmp_path, signers, **options)
        monkeypatch.setenv("WSSE_PASSWORD", "a password")
        gate = endpoint(tmp_path, signers, **options)
        envelope = plain()
        created = datetime.fromtimestamp(NOW / SECOND, UTC)  # not when a slow machine comes to this test
        UsernameToken("lab-system", "a password", use_digest=True, created=created).apply(envelope, {})
        came = read(etree.tostring(envelope))
        proven = gate.verify(came, NOW, digest=ONE)
        assert (proven.party, proven.user, proven.signed) == ("urn:meridian:party:lab", "lab-system", False)
        assert gate.verify(came, NOW, digest=ONE).repeated
        with pytest.raises(NotProven):
            gate.verify(came, NOW, digest=OTHER)
        monkeypatch.delenv("WSSE_PASSWORD")
        with pytest.raises(StoreError):
            gate.verify(came, NOW, digest=ONE)

    def test_no_authority(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"ca\.pem"):
            verifier(SECURITY.defaults(), context(tmp_path, tmp_path))


class TestOptions:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"signed": ["timestamp"]},
            {"require": "username"},
            {"users": {"x": {"party": "lab", "password": "env:X"}}},
            {"certificates": {"No Party": "x.pem"}},
            {"freshness": "3d"},
            {"require": "username", "users": {"x": {"party": "lab", "password": "secret"}}},
        ],
    )
    def test_contradictions(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
            SECURITY.defaults(**wrong)
