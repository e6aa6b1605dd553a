"""Any change to what was signed is refused; whatever is signed is taken; nothing that comes breaks the verifier."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import xmlsec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lxml import etree
from zeep.wsse.signature import verify_envelope

from adapters.soap.security.outgoing import Outgoing, Signer
from adapters.soap.security.refusal import Refusal
from adapters.soap.security.trust import Trust
from engine.errors import ParseError
from engine.formats.xml import parse
from tests.support.wsse import NOW, Signers, at, certificate, judged, plain, signed

BODY = "/s11:Envelope/s11:Body"


@dataclass(frozen=True)
class Case:
    folder: Path
    trust: Trust
    message: bytes
    body: range


@pytest.fixture(scope="module")
def case() -> Iterator[Case]:
    with TemporaryDirectory() as folder:
        signers = Signers(Path(folder))
        ward = signers.curve()
        message = signed(
            ward,
            plain("<o:Order xmlns:o='urn:lab' a='1'><o:id>17</o:id> 张三 &amp; <o:x/></o:Order>"),
            method=xmlsec.Transform.ECDSA_SHA256,
        )
        begin = message.index(b"<s:Body")
        yield Case(ward, signers.trust(), message, range(begin, message.index(b"</s:Body>") + len(b"</s:Body>")))


def canonical(message: bytes) -> bytes:
    """Of the Body, as our reader sees it."""
    return etree.tostring(at(parse(message), BODY), method="c14n", exclusive=True)


@settings(max_examples=400, deadline=timedelta(seconds=5))
@given(data=st.data())
def test_any_byte_of_the_body(case: Case, data: st.DataObject) -> None:
    """Flipped, it is another document, none, or one that says the very same (a blank in a tag). Only the last is taken."""
    index = data.draw(st.sampled_from(case.body))
    flipped = data.draw(st.integers(1, 255))
    message = case.message[:index] + bytes([case.message[index] ^ flipped]) + case.message[index + 1 :]
    try:
        proof = judged(message, case.trust)
    except (Refusal, ParseError):
        return
    assert canonical(message) == canonical(case.message)
    assert proof.signed


@settings(max_examples=400, deadline=timedelta(seconds=5))
@given(data=st.data())
def test_any_bytes_anywhere(case: Case, data: st.DataObject) -> None:
    """Cut, doubled, exchanged: what is taken has the Body that was signed, and nothing else is ever raised."""
    size = len(case.message)
    begin, end = sorted((data.draw(st.integers(0, size)), data.draw(st.integers(0, size))))
    piece = data.draw(st.sampled_from([b"", b"<x/>", b" ", case.message[begin:end] * 2, b"<!-- -->", b"&#x41;"]))
    message = case.message[:begin] + piece + case.message[end:]
    try:
        judged(message, case.trust)
    except (Refusal, ParseError):
        return
    assert canonical(message) == canonical(case.message)


NAMES = st.sampled_from(["a", "b", "{urn:p}c", "{urn:q}d", "{urn:lab}e"])
TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"), max_size=8)


def element(tag: str, attributes: dict[str, str], text: str, children: list[etree._Element]) -> etree._Element:
    made = etree.Element(tag, attributes)
    made.text = text
    for child in children:
        child.tail = text
        made.append(child)
    return made


PAYLOADS: st.SearchStrategy[Any] = st.recursive(
    st.builds(element, NAMES, st.dictionaries(NAMES, TEXTS, max_size=3), TEXTS, st.just([])),
    lambda children: st.builds(element, NAMES, st.dictionaries(NAMES, TEXTS, max_size=2), TEXTS, st.lists(children, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150, deadline=timedelta(seconds=5))
@given(payload=PAYLOADS)
def test_what_we_sign_of_any_payload_xmlsec_and_we_verify(case: Case, payload: etree._Element) -> None:
    """Over the wire, where prefixes and white space are what they are."""
    envelope = plain("<here/>")
    body = at(envelope, BODY)
    body[:] = [payload]
    payload.tail = None
    ids, key = count(), load_pem_private_key((case.folder / "node.key").read_bytes(), None)
    signer: Any = Signer(certificate(case.folder), key)  # type: ignore[arg-type]
    secured, _ = Outgoing(lambda: NOW, lambda: str(next(ids)), bytes, lambda: signer).apply(envelope, None)
    message = etree.tostring(secured)
    verify_envelope(etree.fromstring(message), str(case.folder / "node.pem"))
    root = parse(message)
    assert judged(root, case.trust).covers(at(root, BODY))


@settings(max_examples=150, deadline=timedelta(seconds=5))
@given(payload=PAYLOADS)
def test_what_xmlsec_signs_of_any_payload_we_verify(case: Case, payload: etree._Element) -> None:
    envelope = plain("<here/>")
    payload.tail = None
    at(envelope, BODY)[:] = [payload]
    written = etree.fromstring(etree.tostring(envelope))  # where prefixes are what they will be
    root = parse(signed(case.folder, written, method=xmlsec.Transform.ECDSA_SHA256))
    assert judged(root, case.trust).covers(at(root, BODY))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # of a serial number below zero
@settings(max_examples=500, deadline=timedelta(seconds=5))
@given(data=st.data())
def test_any_certificate(case: Case, data: st.DataObject) -> None:
    """A token with bytes flipped is another certificate, or none: refused, and nothing else is raised. The signature of it tells."""
    root = parse(case.message)
    token = at(root, "//wsse:BinarySecurityToken")
    content = bytearray(b64decode("".join(token.text.split())))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assume(bytes(content) != b64decode("".join(token.text.split())))
    token.text = b64encode(content).decode()
    for trust in (case.trust, Trust()):
        with pytest.raises(Refusal):
            judged(root, trust)
