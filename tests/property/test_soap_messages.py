"""SOAP messages in any shape: what is written is read, in memory as from a file, in any chunking; what is mangled is refused, and only that."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some
from lxml import etree

from adapters.soap.binding import Binding
from adapters.soap.generic.options import SOURCE
from adapters.soap.generic.service import GenericService
from adapters.soap.incoming import Incoming, Received
from adapters.soap.reading import Arrived, Rules, reading
from engine.errors import ParseError
from engine.formats import soap
from engine.formats.xml import Limits
from engine.http_answers import Answer, HttpRefusal
from engine.http_coding import decoder
from engine.message import Excerpt
from tests.support.dicomweb import FolderSpool
from tests.support.soap import addressed, envelope, in_parts, include, kept, part, related

BOUNDARY = "gR7x" * 8
contents = some.lists(
    some.binary(max_size=300) | some.sampled_from([b"\r\n--", b"\r\n--" + BOUNDARY[:-1].encode(), b"\r", b"--"]), max_size=5
)
texts = some.text(some.characters(blacklist_categories=["Cs"], min_codepoint=32), max_size=20)
SERVICE = GenericService(SOURCE.defaults(listen=1), lambda: "1", lambda: 0)
RULES = Rules(("1.1", "1.2"), Limits(size=1 << 20))


@given(some.sampled_from(["1.1", "1.2"]), contents, texts)
def test_what_is_packed_is_unpacked(version: str, attached: list[bytes], text: str) -> None:
    """Any content, however much of it looks like a delimiter; twice, from bytes and from a file."""
    holder = etree.Element("Order", note="".join(one for one in text if one.isprintable()))
    for number in range(len(attached)):
        etree.SubElement(holder, "file").append(soap.include(f"part {number}@test"))
    attachments = [soap.Attachment(f"part {number}@test", "a/b", content) for number, content in enumerate(attached)]
    package = soap.package(version, soap.envelope(version, holder), attachments, BOUNDARY, "urn:x")
    body = soap.kept_form(package.content_type) + b"".join(package.pieces())
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        for one in (body, Excerpt(body[:1], "", Path(file.name))):
            message = soap.read(one)
            assert message.version == version
            assert message.payload.get("note") == holder.get("note")
            assert [bytes(message.content_of(element).content) for element in message.payload] == attached


@given(some.text("ab<>&\"' \n\t\r\x00\x1f\uffff李", max_size=30), some.sampled_from(["1.1", "1.2"]))
def test_a_reason_is_read_as_it_was_given(reason: str, version: str) -> None:
    back = soap.read_fault(soap.read(soap.fault_envelope(version, soap.SoapFault(soap.SENDER, reason))).payload)
    assert back is not None
    assert back.text == reason.replace("\x00", "").replace("\x1f", "").replace("\uffff", "")


@given(some.data(), some.booleans(), some.integers(0, 200_000))
@settings(deadline=None)
def test_any_chunking_gives_the_same_body(data: Any, zipped: bool, size: int) -> None:
    """Compressed or not, in memory or in the spool; with the line that stands before it."""
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size] or b"x"
    wire = gzip.compress(body, 1) if zipped else body
    cuts = sorted(data.draw(some.lists(some.integers(0, len(wire)), max_size=6)))
    taken: list[Received] = []
    with tempfile.TemporaryDirectory() as folder:
        undo = decoder({"content-encoding": "gzip"} if zipped else {}, 1 << 20, ratio=0)

        def take(received: Received) -> Answer:
            taken.append(received)
            return Answer(200)

        incoming = Incoming(lambda: FolderSpool(Path(folder)), undo, b"first\r\n\r\n", take, lambda error: error)
        for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            if wire[begin:end]:
                incoming.content(wire[begin:end])
        incoming.ended()
        found = taken[0].body()
        assert (found.file.read_bytes() if isinstance(found, Excerpt) else found) == b"first\r\n\r\n" + body
        taken[0].abort()
        assert not list(Path(folder).iterdir())


WHOLE = kept(
    related(), in_parts(envelope(f"<Order><id>1</id>{'<f>' + include('cid:a') + '</f>'}</Order>", header=addressed()), part(b"x" * 99, "a"))
)
PLAIN = envelope(header=addressed(reply_to="http://www.w3.org/2005/08/addressing/anonymous"), version="1.2")


@given(
    some.sampled_from([WHOLE, PLAIN]),
    some.lists(some.tuples(some.integers(0, len(WHOLE)), some.integers(0, 12), some.binary(max_size=12)), max_size=4),
)
def test_whatever_comes_is_read_or_refused(body: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """With a fault, never with another error; and the fault can be said."""
    for at, gone, put in changes:
        body = body[:at] + put + body[at + gone :]
    try:
        found = reading(body, Arrived(Binding("")), RULES, SERVICE, None)
    except HttpRefusal:
        return
    assert (found.fault is None) <= (found.examined is not None)
    if found.fault is not None:
        assert soap.read_fault(soap.read(soap.fault_envelope(found.version, found.fault, found.addressing)).payload) is not None


@given(some.binary(max_size=400))
def test_any_bytes(body: bytes) -> None:
    for one in (body, b"Content-Type: " + body, kept(related(), body)):
        try:
            soap.read(one)
        except ParseError:
            continue
