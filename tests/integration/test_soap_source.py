"""The SOAP source over loopback: what it says beside the plain answer."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.soap.generic.options import SOURCE
from adapters.soap.service import Examined, Request
from adapters.soap.source import SoapSource
from engine.errors import StoreFull
from engine.formats import soap
from engine.message import ACCEPTED, Ack, BodyRef, Envelope, Judgement, Verdict
from tests.support.dicomweb import AnsweringIntake, FullSpool, context
from tests.support.soap import NS, WSA, Said, addressed, envelope, in_parts, include, part, post, related

reactor: Any = _reactor
BIG = in_parts(envelope(f"<Order>{include('cid:a')}</Order>"), part(b"x" * 300_000, "a"))


class FixedService:
    """adapters.soap.service.Service: examines as it is told to."""

    def __init__(self, examine: Callable[[Request], Examined]) -> None:
        self.examine = examine

    def wsdl(self, address: str) -> bytes:
        return f"<wsdl at='{address}'/>".encode()

    def schema(self, name: str, address: str) -> bytes | None:
        return None

    def understands(self, header: str) -> bool:
        return header == "{urn:x}heeded"


def examined(request: Request, **more: Any) -> Examined:
    """Answered with what was asked; a verdict that is not accepted, by a fault."""

    def answer(judgement: Judgement) -> bytes:
        if judgement.verdict is not Verdict.ACCEPTED:
            raise soap.SoapFault(soap.RECEIVER if judgement.verdict is Verdict.UNAVAILABLE else soap.SENDER, judgement.reason)
        return soap.envelope(request.message.version, request.message.payload)

    return Examined(request.message.payload.tag, request.message.addressing.message_id, answer, **more)


class SourceCase(TestCase):
    spool: Any = None

    def begin(self, examine: Callable[[Request], Examined] = examined, intake: Any = None, **options: Any) -> Deferred[None]:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.audited: list[tuple[str, dict[str, Any]]] = []
        more = {"audit": lambda event, **facts: self.audited.append((event, facts))}
        made = context(self.data, reactor, *([self.spool] if self.spool else []), **more)
        self.intake = intake or AnsweringIntake()
        self.source = SoapSource(SOURCE.defaults(listen="127.0.0.1:0", **options), made, FixedService(examine))
        self.addCleanup(self.source.stop)
        return self.source.start(self.intake)

    def post(self, *arguments: Any, **more: Any) -> Deferred[Said]:
        return deferToThread(post, self.source.port, *arguments, **more)

    def spooled(self) -> list[Path]:
        return list((self.data / "spool").iterdir())


class Answers(SourceCase):
    @inlineCallbacks
    def test_unavailable(self):  # type: ignore[no-untyped-def]
        """503, to be tried again: whatever the fault's own status."""
        later = Judgement(Verdict.UNAVAILABLE, "later")
        yield self.begin(intake=AnsweringIntake(**{"1": later}))
        for version, kind in (("1.1", "text/xml"), ("1.2", "application/soap+xml")):
            said = yield self.post(envelope(version=version, header=addressed(message_id="1")), kind)
            self.assertEqual((said.status, said.headers["Retry-After"], said.fault.fault_code), (503, "5", "Receiver"))

    @inlineCallbacks
    def test_one_way_and_an_answer_to_nowhere(self):  # type: ignore[no-untyped-def]
        """202 without a body; what is not accepted is a fault all the same."""
        yield self.begin(lambda request: examined(request, one_way=True), AnsweringIntake(**{"bad": Judgement(Verdict.REFUSED, "no")}))
        for header, status in ((addressed(), 202), (addressed(message_id="bad"), 500)):
            self.assertEqual((yield self.post(envelope(header=header))).status, status)
        yield self.source.stop()
        yield self.begin()
        said = yield self.post(envelope(header=addressed(reply_to=f"{WSA}/none")))
        self.assertEqual((said.status, said.body), (202, b""))

    @inlineCallbacks
    def test_gzip_both_ways(self):  # type: ignore[no-untyped-def]
        """Where it is worth it, and the client takes it, and the site allows it."""
        yield self.begin()
        long = envelope(f"<Order>{'x' * 5000}</Order>")
        said = yield self.post(gzip.compress(long), Content_Encoding="gzip", Accept_Encoding="br, gzip;q=0.5")
        self.assertEqual((said.status, said.headers["Content-Encoding"]), (200, "gzip"))
        self.assertEqual(self.intake.kept[0].body, long)
        for body, accepted in ((long, "gzip;q=0"), (long, ""), (envelope(), "gzip")):
            said = yield self.post(body, Accept_Encoding=accepted or "identity")
            self.assertNotIn("Content-Encoding", said.headers)

    @inlineCallbacks
    def test_a_big_envelope_without_parts(self):  # type: ignore[no-untyped-def]
        """Through the spool, unaltered; in chunks and compressed too."""
        yield self.begin()
        long = envelope(f"<Order>{'x' * 200_000}</Order>")
        for body, coding in ((long, ""), (iter([long[:70_000], long[70_000:]]), ""), (gzip.compress(long), "gzip")):
            said = yield self.post(body, Content_Encoding=coding)
            self.assertEqual(said.status, 200)
        self.assertEqual({one.body for one in self.intake.kept}, {BodyRef(hashlib.sha256(long).hexdigest(), len(long))})
        self.assertEqual(self.spooled()[0].read_bytes(), long)

    @inlineCallbacks
    def test_a_version_that_is_not_taken(self):  # type: ignore[no-untyped-def]
        """A fault in that version, with what is taken."""
        yield self.begin(versions=["1.2"])
        said = yield self.post(envelope())
        self.assertEqual((said.status, said.message.version, said.fault.fault_code), (500, "1.1", "VersionMismatch"))
        (offered,) = said.message.header[0]
        self.assertIn(NS["1.2"], offered.nsmap.values())

    @inlineCallbacks
    def test_headers_that_a_service_heeds(self):  # type: ignore[no-untyped-def]
        yield self.begin()
        for name, status in (("heeded", 200), ("unknown", 500)):
            said = yield self.post(envelope(header=f"<{name} xmlns='urn:x' s:mustUnderstand='1'/>"))
            self.assertEqual(said.status, status)

    @inlineCallbacks
    def test_the_address_that_the_client_used(self):  # type: ignore[no-untyped-def]
        yield self.begin()
        said = yield self.post(None, "", "/soap?WSDL", "GET", Host="orders.example:99")
        self.assertEqual(said.body, b"<wsdl at='http://orders.example:99/soap'/>")
        yield self.source.stop()
        yield self.begin(public_url="https://gate.example/orders/")
        said = yield self.post(None, "", "/soap?singleWsdl", "GET")
        self.assertEqual(said.body, b"<wsdl at='https://gate.example/orders'/>")

    @inlineCallbacks
    def test_the_character_set_that_http_says(self):  # type: ignore[no-untyped-def]
        """It goes before the declaration, and goes on with the message."""
        yield self.begin()
        said = yield self.post(envelope("<Order>张三</Order>").decode().encode("gb18030"), "text/xml; charset=GB18030")
        self.assertEqual((said.status, said.message.payload.text), (200, "张三"))
        self.assertEqual(self.intake.kept[0].facts["charset"], "GB18030")


class WhatDestinationsAnswer(SourceCase):
    """In a channel that answers with a destination's result."""

    @inlineCallbacks
    def answered(self, content: bytes, judgement: Judgement = ACCEPTED, version: str = "1.2"):  # type: ignore[no-untyped-def]
        def intake(envelope: Envelope, reply: Any, invalid: Any = None) -> Deferred[Ack]:
            done: Deferred[Ack] = Deferred()
            done.callback(Ack(judgement, content or reply(judgement), 1))
            return done

        yield self.begin(intake=intake)
        kind = {"1.1": "text/xml", "1.2": "application/soap+xml"}[version]
        said = yield self.post(envelope(version=version, header=addressed()), kind)
        yield self.source.stop()
        return said

    @inlineCallbacks
    def test_a_payload_and_an_envelope_of_either_version(self):  # type: ignore[no-untyped-def]
        """Related to the request in any case."""
        for content in (b"<Taken/>", envelope("<Taken/>"), envelope("<Taken/>", "1.2", header=addressed("urn:taken", "urn:uuid:9"))):
            said = yield self.answered(content)
            self.assertEqual((said.status, said.message.version, said.message.payload.tag), (200, "1.2", "Taken"))
            self.assertEqual(said.message.addressing.relates_to, "urn:uuid:1")
            self.assertIn(said.message.addressing.action, ("urn:taken", "urn:lab:orderResponse"))

    @inlineCallbacks
    def test_a_fault(self):  # type: ignore[no-untyped-def]
        """Of another version it is said in the request's."""
        for version in ("1.1", "1.2"):
            content = soap.fault_envelope(version, soap.SoapFault(soap.SENDER, "no such order", "{urn:x}Unknown"))
            said = yield self.answered(content)
            self.assertEqual((said.status, said.fault.text, said.fault.subcode), (400, "no such order", "{urn:x}Unknown"))

    @inlineCallbacks
    def test_parts(self):  # type: ignore[no-untyped-def]
        said = yield self.answered(soap.kept_form(related()) + BIG, version="1.1")
        self.assertEqual((said.status, said.content_type, said.body), (200, related(), BIG))

    @inlineCallbacks
    def test_parts_that_cannot_be_said(self):  # type: ignore[no-untyped-def]
        """Of the other version of SOAP, and what is no message in parts: the service words the verdict."""
        said = yield self.answered(soap.kept_form(related()) + BIG)
        self.assertEqual((said.status, said.message.version, said.message.payload.tag), (200, "1.2", "{urn:lab}Order"))
        said = yield self.answered(soap.kept_form(related("1.2")) + b"nothing")
        self.assertEqual((said.status, said.message.payload.tag), (200, "{urn:lab}Order"))

    @inlineCallbacks
    def test_what_is_no_xml_is_worded_by_the_service(self):  # type: ignore[no-untyped-def]
        said = yield self.answered(b'{"resourceType": "OperationOutcome"}')
        self.assertEqual((said.status, said.message.payload.tag), (200, "{urn:lab}Order"))
        said = yield self.answered(b"MSH|^~\\&|", Judgement(Verdict.INVALID, "the destination refused it"))
        self.assertEqual((said.status, said.fault.text), (400, "the destination refused it"))


class Trouble(SourceCase):
    @inlineCallbacks
    def test_a_message_that_takes_too_long(self):  # type: ignore[no-untyped-def]
        """Its sender hears so and may try again; others are answered meanwhile; nothing of it is kept, nor handed in later."""
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def slow(request: Request) -> Examined:
            if request.message.parts:
                go_on.wait(60)
            return examined(request)

        yield self.begin(slow, examine_within="100ms")
        said = yield self.post(BIG, related())
        self.assertEqual((said.status, said.headers["Retry-After"]), (503, "5"))
        self.assertEqual(self.audited[0][1]["reason"], "reading the message took too long")
        self.assertEqual((yield self.post(envelope())).status, 200)
        self.assertEqual(self.spooled(), [])
        go_on.set()
        yield self.source.stop()
        self.assertEqual(len(self.intake.kept), 1)

    @inlineCallbacks
    def test_a_bug_in_a_service(self):  # type: ignore[no-untyped-def]
        """Is a fault without a word of what it was."""

        def wrong(request: Request) -> Examined:
            raise KeyError("张三")

        yield self.begin(wrong)
        with self.assertLogs("test.fhir", "ERROR"):
            said = yield self.post(BIG, related())
        self.assertEqual((said.status, said.fault.fault_code), (500, "Receiver"))
        self.assertNotIn("张三".encode(), said.body)
        self.assertEqual(self.spooled(), [])

    @inlineCallbacks
    def test_a_fault_of_ours_is_not_kept_and_one_of_the_senders_is(self):  # type: ignore[no-untyped-def]
        """Big ones too: then the spool has it."""
        for code, kept in ((soap.RECEIVER, 0), (soap.SENDER, 1)):

            def refuse(request: Request, code: str = code) -> Examined:
                raise soap.SoapFault(code, "no")

            yield self.begin(refuse)
            said = yield self.post(BIG, related())
            self.assertEqual((said.status, len(self.intake.kept), len(self.spooled())), (500, kept, kept))
            yield self.source.stop()
        self.assertEqual(self.intake.invalid[0].verdict, Verdict.INVALID)

    @inlineCallbacks
    def test_a_client_that_goes_away(self):  # type: ignore[no-untyped-def]
        """In the middle of a big body: nothing stays."""
        yield self.begin()

        def pieces() -> Any:
            yield BIG[:200_000]
            raise ConnectionError

        yield self.assertFailure(self.post(pieces(), related()), ConnectionError)
        while self.source._reception._server.connections:  # until the reactor has heard of it
            yield deferLater(reactor, 0, lambda: None)
        self.assertEqual((self.spooled(), self.intake.kept), ([], []))


class NoRoom(SourceCase):
    spool = FullSpool

    @inlineCallbacks
    def test_a_full_disk(self):  # type: ignore[no-untyped-def]
        """What does not need it is taken."""
        yield self.begin()
        said = yield self.post(BIG, related())
        self.assertEqual((said.status, said.headers["Retry-After"]), (503, "5"))
        self.assertEqual((yield self.post(envelope())).status, 200)

    def test_it_is_a_full_disk(self) -> None:
        self.assertRaises(StoreFull, FullSpool, Path())
