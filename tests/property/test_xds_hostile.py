"""Whatever stands in metadata: an answer by the book, never anything else, and no value of it in what is said."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adapters.soap.service import Request
from adapters.soap.xdr.recipient import DocumentRecipient, Forgetful
from engine import registry
from engine.errors import MessageError
from engine.formats import soap
from engine.formats.soap import SoapFault
from engine.formats.xds.checking import check
from engine.formats.xds.reading import read_submission
from engine.formats.xds.responses import read_response
from engine.message import ACCEPTED
from tests.support.xdr import Doc, member, message
from tests.unit.test_xdr_recipient import CDA

SECRET = "Zhang-San-4711"
BODY = message([Doc(CDA.encode(), mime="text/xml"), Doc(id="Document02", unique_id="1.2.3.9")], more=member("Document01", 9, "Reference"))
MAPPER = registry.mapping("xdr-to-fhir").compile(None)


def mutated(seed: int) -> bytes:
    """Some elements removed, doubled, moved or renamed, some values replaced: by nothing, by a secret, by something long, by another's."""
    choose = random.Random(seed)
    head, envelope, tail = cut()
    root = etree.fromstring(envelope)
    for _ in range(choose.randint(1, 6)):
        elements = [one for one in root.iter() if one.getparent() is not None and "Envelope" not in one.getparent().tag]
        element = choose.choice(elements)
        parent = element.getparent()
        action = choose.randrange(7)
        if action == 0 and parent is not None and len(elements) > 20:
            parent.remove(element)
        elif action == 1:
            parent.append(etree.fromstring(etree.tostring(element)))
        elif action == 2:
            choose.choice(elements).tag = element.tag
        elif action == 3 and element.attrib:
            del element.attrib[choose.choice(list(element.attrib))]
        elif element.attrib:
            element.set(
                choose.choice(list(element.attrib)),
                choose.choice(["", SECRET, "9" * 3000, "^^^&&ISO", "urn:uuid:", choose.choice(elements).get("id", "")]),
            )
        else:
            element.text = choose.choice(["", SECRET, "20269999", "PID-5|" + SECRET, "|", "\u202e" + SECRET])
    return head + etree.tostring(root) + tail


def cut() -> tuple[bytes, bytes, bytes]:
    begin, end = BODY.index(b"<s:Envelope"), BODY.index(b"</s:Envelope>") + len(b"</s:Envelope>")
    return BODY[:begin], BODY[begin:end], BODY[end:]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 32))
def test_an_answer_by_the_book(seed: int) -> None:
    """A fault, or a RegistryResponse whose errors quote nothing; what is accepted has no errors."""
    try:
        read = soap.read(mutated(seed))
        examined = DocumentRecipient(Forgetful(), cda="refuse").examine(Request(read, read.addressing.action))
    except (SoapFault, MessageError) as error:
        assert SECRET not in str(error)
        return
    answer = soap.read(examined.answer(examined.judgement or ACCEPTED))
    response = read_response(answer.payload)
    assert SECRET.encode() not in etree.tostring(answer.body)
    assert SECRET not in str(examined.judgement)
    assert (examined.judgement is None) == response.status.endswith(":Success")
    if examined.judgement is None:
        assert check(read_submission(read.payload), read.content_of) == []


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_bundle_or_a_reason(seed: int) -> None:
    """Of what a channel may let through: the mapping gives a Bundle, the same each time, or says why not, without a value."""
    body = mutated(seed)
    try:
        rendition = MAPPER.map(body)
    except MessageError as error:
        assert SECRET not in str(error)
        return
    assert MAPPER.explain(body)[0] == rendition
