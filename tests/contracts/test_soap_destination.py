"""The SOAP client against a server that does what the test says."""

import base64
import gzip
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

from lxml import etree
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase
from zeep.exceptions import SignatureVerificationFailed
from zeep.wsse import BinarySignature

from adapters.soap.client.destination import SoapDestination
from adapters.soap.client.options import DESTINATION
from engine.errors import ConfigError, Fault, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.formats.soap import SoapFault, fault_envelope
from engine.formats.soap.names import WSA, qname
from engine.message import CDA, FHIR_JSON, HL7V2, SOAP, BodyRef, Parcel
from engine.options import Place
from tests.contracts.destination_contract import DestinationContract
from tests.support.certs import Trust
from tests.support.dicom_instances import Folder, context
from tests.support.soap_service import ACKNOWLEDGED, NAMESPACE, SoapPeer, response, write_wsdl

RPC_REPLY = (
    f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><r:SubmitResponse xmlns:r="{NAMESPACE}">'
    "<payload>done</payload></r:SubmitResponse></s:Body></s:Envelope>"
).encode()
HL7 = b"MSH|^~\\&|LAB|H|X|Y|20260101||ADT^A01|7|P|2.5||||||UNICODE UTF-8\rPID|1||P-1^^^H&<1>||M\xc3\xbcller^A\r"
BODY = {"action": "${message.control_id}", "message": "${content.text}"}
STRICT = {"path": "MCCI_IN000002UV01/acknowledgement/@typeCode", "accepted": ["AA"], "reason": "MCCI_IN000002UV01/acknowledgement"}


class SoapDestinationContract(DestinationContract, TestCase):
    def start_peer(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data, self.tls = Path(folder.name), None
        write_wsdl(self.data)
        return SoapPeer()

    def make(self, **options):
        return self.to(self.peer.port, options)

    def make_nowhere(self):
        return self.to(1, {})

    def to(self, number, options):
        faults: list[Fault] = []
        node = {"wsdl": "exchange.wsdl", "operation": "Exchange", "url": f"http://127.0.0.1:{number}/exchange", "body": BODY, **options}
        settings = DESTINATION.parse(node, Place("c.yaml", 1, folder=self.data), faults)
        self.assertEqual(faults, [])
        return SoapDestination(settings, context(self.data, reactor, tls=self.tls))

    def parcel(self, number, body=None, **more):
        parcel = Parcel(number, number, HL7 if body is None else body, HL7V2, "ADT^A01", str(number), f"key-{number}", "P-1")
        return replace(parcel, **more)

    @inlineCallbacks
    def again(self, **options):
        """Another destination, with other options."""
        yield self.destination.close()
        self.destination = self.make(**options)
        yield self.destination.open()

    @inlineCallbacks
    def fails(self, kind, answers=None, parcel=None, **options):
        if options:
            yield self.again(**options)
        self.peer.answers = answers
        error = yield self.assertFailure(self.destination.deliver(parcel or self.parcel(1)), kind)
        return error

    # --- what is said ----------------------------------------------------------------------------

    @inlineCallbacks
    def test_values_become_text_and_never_markup(self):
        """Facts, paths and the whole content, in 1.1 and 1.2, with the action where each version has it."""
        body = {"action": "${PID-3[1].4} & ${tables.word}", "message": "${content.text}", "note": "${PID-40}", "count": 3}
        tables = {"word": {"of": "${message.type}", "table": {"ADT^A01": "<in>"}}}
        for version in ("1.1", "1.2"):
            yield self.again(body=body, tables=tables, version=version)
            receipt = yield self.destination.deliver(self.parcel(1))
            payload = self.peer.messages[-1].payload
            self.assertEqual([child.text for child in payload], ["H&<1> & <in>", HL7.decode(), "3"])
            self.assertIn(b"done", receipt.answer)
        self.assertEqual(self.peer.requests[0].headers["soapaction"], '"urn:exchange"')
        self.assertIn('action="urn:exchange"', self.peer.requests[1].headers["content-type"])
        dead = yield self.fails(PermanentDelivery, parcel=self.parcel(1, message_type="ORU^R01"))
        self.assertIn("tables.word", dead.text)

    @inlineCallbacks
    def test_a_template_in_xml(self):
        """Attributes, and the content as elements; the operation is the one whose element it is."""
        (self.data / "t.xml").write_text(
            f'<e:Exchange xmlns:e="{NAMESPACE}"><e:action id="${{message.control_id}}" none="${{PID-40}}">${{message.type}}</e:action>'
            "<e:message> ${content.base64} </e:message></e:Exchange>"
        )
        yield self.again(body="t.xml", operation=None)
        yield self.destination.deliver(self.parcel(5))
        action, message = self.peer.messages[-1].payload
        self.assertEqual((dict(action.attrib), action.text), ({"id": "5"}, "ADT^A01"))
        self.assertEqual(base64.b64decode(message.text), HL7)

    @inlineCallbacks
    def test_paths_are_those_of_the_content(self):
        """Of a Bundle and of a SOAP message; a path that the content cannot have is at fault."""
        bundle = b'{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"Patient","id":"p-7"}}]}'
        yield self.again(body={"action": "${entry[0].resource.id}", "message": "${content.text}"})
        yield self.destination.deliver(self.parcel(1, bundle, content_type=FHIR_JSON))
        yield self.again(body={"action": "${Order/id/@extension}", "message": "m"})
        soap = b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Order><id extension="o-1"/></Order></s:Body></s:Envelope>'
        yield self.destination.deliver(self.parcel(1, soap, content_type=SOAP))
        self.assertEqual([message.payload[0].text for message in self.peer.messages], ["p-7", "o-1"])
        error = yield self.fails(PermanentDelivery, body={"action": "${not a path!}", "message": "m"})
        self.assertEqual(error.location, "not a path!")
        error = yield self.fails(PermanentDelivery, parcel=self.parcel(1, b"x", content_type="text/plain"))
        self.assertIn("cannot look into", error.text)

    @inlineCallbacks
    def test_text_is_read_in_the_character_set_that_it_declares(self):
        """GB18030 in MSH-18 and in an XML declaration."""
        text = "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|7|P|2.5||||||GB18030-2000\rPID|1||P||张^三\r"
        yield self.destination.deliver(self.parcel(1, text.encode("gb18030")))
        xml = '<?xml version="1.0" encoding="GBK"?><a>张</a>'
        yield self.destination.deliver(self.parcel(1, xml.encode("gbk"), content_type=CDA))
        self.assertEqual([message.payload[1].text for message in self.peer.messages], [text, xml])
        bad = xml.replace("GBK", "x-none").encode()
        yield self.fails(PermanentDelivery, parcel=self.parcel(1, bad, content_type=CDA))

    @inlineCallbacks
    def test_rpc_literal(self):
        """The body element is the operation, in the binding's namespace; the parts have none."""
        yield self.again(port="Rpc", operation="Submit")
        self.peer.answers = lambda _: (200, RPC_REPLY, "text/xml")
        yield self.destination.deliver(self.parcel(3))
        payload = self.peer.messages[0].payload
        self.assertEqual((payload.tag, [child.tag for child in payload]), (f"{{{NAMESPACE}}}Submit", ["action", "message"]))
        yield self.fails(UncertainDelivery, lambda _: (200, RPC_REPLY.replace(b"SubmitR", b"OtherR"), "text/xml"))

    @inlineCallbacks
    def test_a_compressed_reply(self):
        """Which was offered; one that is not what it says is uncertain."""
        self.peer.coding = "gzip"
        self.peer.answers = lambda _: (200, gzip.compress(response("done")), "text/xml")
        yield self.destination.deliver(self.parcel(1))
        yield self.fails(UncertainDelivery, lambda _: (200, response("done"), "text/xml"))
        yield self.fails(TransientDelivery, lambda _: (502, b"no gzip", "text/xml"))
        self.assertEqual(self.peer.requests[0].headers["accept-encoding"], "gzip")

    @inlineCallbacks
    def test_many_at_once_do_not_mix(self):
        """Threads build them side by side; each says its own, and hears its own."""
        self.peer.answers = lambda message: (200, response(message.payload[0].text), "text/xml")
        yield self.again(connections=16, reference="ExchangeResponse/payload")
        numbers = [str(number) for number in range(1, 201)]
        receipts = yield gatherResults([self.destination.deliver(self.parcel(int(number))) for number in numbers])
        self.assertEqual([receipt.reference for receipt in receipts], numbers)

    @inlineCallbacks
    def test_content_as_it_came(self):
        """XML and SOAP are the payload; what is neither, or another element than the WSDL's, is at fault."""
        yield self.again(body="as it came", operation=None)
        own = f'<Exchange xmlns="{NAMESPACE}"><action>9</action><message>m</message></Exchange>'.encode()
        yield self.destination.deliver(self.parcel(1, own, content_type=CDA))
        soap = (
            b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header><x/></s:Header><s:Body>'
            + own
            + b"</s:Body></s:Envelope>"
        )
        yield self.destination.deliver(self.parcel(1, soap, content_type=SOAP))
        for message in self.peer.messages:
            self.assertEqual((message.version, message.header, message.payload[0].text), ("1.1", None, "9"))
        for body, words in ((b"<a/>", "Exchange"), (HL7, "no XML"), (b"<!DOCTYPE a><a/>", "document type")):
            error = yield self.fails(PermanentDelivery, parcel=self.parcel(1, body, content_type=CDA))
            self.assertIn(words, error.text)

    @inlineCallbacks
    def test_addressing_says_the_same_message_id_at_every_attempt(self):
        """And the template can say it too; header blocks of the site go along."""
        block = "<k:Key xmlns:k='urn:k' for='${message.id}'/>"
        yield self.again(addressing=True, headers=[block], http_headers={"X-Hospital": "one"})
        for attempt in (1, 2):
            yield self.destination.deliver(self.parcel(1, attempt=attempt))
        yield self.destination.deliver(self.parcel(2))
        first, again, other = (message.addressing for message in self.peer.messages)
        self.assertEqual(first, again)
        self.assertNotEqual(first.message_id, other.message_id)
        self.assertEqual((first.action, first.to), ("urn:exchange", f"http://127.0.0.1:{self.peer.port}/exchange"))
        self.assertEqual(self.peer.messages[0].header[0].get("for"), first.message_id)
        self.assertEqual(self.peer.requests[0].headers["x-hospital"], "one")
        self.assertIsNotNone(self.peer.messages[0].header.find(qname(WSA, "ReplyTo")))

    @inlineCallbacks
    def test_big_content_goes_beside_the_envelope_from_its_file(self):
        """Small content stays in it; without mtom a big one cannot be sent."""
        folder = Folder(self.data / "bodies")
        big = folder.keep(bytes(range(256)) * (80 << 10))
        yield self.again(body={**BODY, "message": "${content.base64}"}, mtom=True, mtom_threshold="1KB", version="1.2", timeout="20s")
        yield self.destination.deliver(self.parcel(1, big, content_type=CDA))
        yield self.destination.deliver(self.parcel(2))
        sent, small = self.peer.messages
        self.assertEqual(sent.content_of(sent.payload[1]).sha256(), big.digest)
        self.assertEqual((len(sent.parts), len(small.parts)), (1, 0))
        self.assertIn('start-info="application/soap+xml"', self.peer.requests[0].headers["content-type"])
        gone = yield self.fails(PermanentDelivery, parcel=self.parcel(1, BodyRef("0" * 64, 17 << 20)))
        self.assertIn("read back", gone.text)
        error = yield self.fails(PermanentDelivery, parcel=self.parcel(1, big), body={**BODY, "message": "${content.base64}"})
        self.assertIn("attachment", error.text)

    @inlineCallbacks
    def test_attachments_of_a_message_as_it_came_go_along(self):
        """In base64 where the service has no mtom."""
        own = f'<Exchange xmlns="{NAMESPACE}"><action>9</action><message><i:Include xmlns:i="http://www.w3.org/2004/08/xop/include" href="cid:d@x"/></message></Exchange>'
        root = f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{own}</s:Body></s:Envelope>'.encode()
        kind = b'multipart/related; type="application/xop+xml"; boundary=b; start="<r@x>"; start-info="text/xml"'
        heads = [
            b'Content-Type: application/xop+xml; type="text/xml"\r\nContent-ID: <r@x>',
            b"Content-Type: image/png\r\nContent-ID: <d@x>",
        ]
        parts = b"".join(b"\r\n--b\r\n" + head + b"\r\n\r\n" + content for head, content in zip(heads, (root, b"\0\xff" * 9), strict=True))
        body = b"Content-Type: " + kind + b"\r\n\r\n" + parts + b"\r\n--b--\r\n"
        for mtom in (True, False):
            yield self.again(body="as it came", mtom=mtom, mtom_threshold="1B")
            yield self.destination.deliver(self.parcel(1, body, content_type=SOAP))
            message = self.peer.messages[-1]
            self.assertEqual(bytes(message.content_of(message.payload[1]).content), b"\0\xff" * 9)
            self.assertEqual([part.content_type for part in message.parts.values()], ["image/png"] if mtom else [])
        pixels = bytes(range(256)) * (80 << 10)
        big = Folder(self.data / "bodies").keep(body.replace(b"\0\xff" * 9, pixels))
        yield self.again(body="as it came", mtom=True, timeout="20s")
        yield self.destination.deliver(self.parcel(1, big, content_type=SOAP))
        message = self.peer.messages[-1]
        self.assertEqual(bytes(message.content_of(message.payload[1]).content), pixels)

    @inlineCallbacks
    def test_what_the_wsdl_does_not_take_is_not_sent(self):
        """A value that is missing, one of the wrong type, one that XML cannot hold."""
        error = yield self.fails(PermanentDelivery, body={"action": "${PID-40}", "message": "m"})
        self.assertIn("Missing element action", error.text)
        error = yield self.fails(PermanentDelivery, parcel=self.parcel(1, b"\x01", content_type="text/plain"), body=BODY)
        self.assertIn("characters", error.text)
        error = yield self.fails(PermanentDelivery, parcel=self.parcel(1, b"\xff", content_type="text/plain"))
        self.assertIn("base64", error.text)
        error = yield self.fails(PermanentDelivery, parcel=self.parcel(1, b"no hl7"), body={**BODY, "note": "${PID-3}"})
        self.assertNotIn("no hl7", error.text)
        self.assertEqual(self.peer.requests, [])

    @inlineCallbacks
    def test_what_is_signed_is_what_the_attachment_stands_for(self):
        """xmlsec, which knows nothing of XOP, verifies the message with the attachment put in its place; an altered one it does not."""
        trust = Trust(self.data, reactor)
        self.tls = trust.provider("lab")
        (self.data / "password").write_text("secret")
        security = {"sign": True, "username": {"name": "lab", "password": "file:password"}}
        more = {"mtom": True, "mtom_threshold": "1B", "addressing": True, "security": security, "version": "1.2"}
        yield self.again(body={**BODY, "message": "${content.base64}"}, **more)
        yield self.destination.deliver(self.parcel(1))
        message = self.peer.messages[0]
        self.assertEqual(len(message.parts), 1)
        content = bytes(message.content_of(message.payload[1]).content)
        self.assertNotIn(b"secret", self.peer.requests[0].body)
        for sent, right in ((content, True), (content[:-1], False)):
            message.payload[1][:] = []
            message.payload[1].text = base64.b64encode(sent).decode()
            envelope = etree.fromstring(etree.tostring(message.root))
            check = BinarySignature(str(self.data / "lab" / "node.key"), str(self.data / "lab" / "node.pem")).verify
            if right:
                check(envelope)
            else:
                self.assertRaises(SignatureVerificationFailed, check, envelope)

    @inlineCallbacks
    def test_a_key_that_is_not_there(self):
        """Then the destination does not open."""
        self.tls = Trust(self.data, reactor).provider("lab", self.data)
        destination = self.make(security={"sign": True})
        yield self.assertFailure(destination.open(), ConfigError)
        yield destination.close()

    # --- what is answered ------------------------------------------------------------------------

    @inlineCallbacks
    def test_faults_mean_what_the_standards_and_the_site_say(self):
        def fault(code, subcode="", version="1.1"):
            return lambda _: (500, fault_envelope(version, SoapFault(code, "secret", subcode)), "text/xml")

        for version in ("1.1", "1.2"):
            yield self.again(version=version)
            yield self.fails(TransientDelivery, fault("Receiver", version=version))
            yield self.fails(PermanentDelivery, fault("Sender", version=version))
            yield self.fails(PermanentDelivery, fault("MustUnderstand", version=version))
        wsse = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}FailedAuthentication"
        error = yield self.fails(TransientDelivery, fault("Sender", wsse, "1.2"))
        self.assertTrue(error.whole_destination)
        listed = {"transient": ["Locked"], "permanent": ["Unknown"]}
        yield self.fails(TransientDelivery, fault("Sender", "{urn:x}Locked", "1.2"), faults=listed, version="1.2")
        error = yield self.fails(PermanentDelivery, fault("Receiver", "{urn:x}Unknown", "1.2"))
        self.assertEqual(error.text, "the service answered with the fault Receiver / Unknown")
        self.assertIn(b"secret", error.answer)
        dotted = lambda _: (200, fault_envelope("1.1", SoapFault("Server.Busy", "x")), "text/xml")  # noqa: E731
        yield self.fails(TransientDelivery, dotted)

    @inlineCallbacks
    def test_answers_that_are_no_soap(self):
        """By their status; with 200, nobody knows what has answered."""
        for status, kind in ((502, TransientDelivery), (404, PermanentDelivery), (401, TransientDelivery), (200, UncertainDelivery)):
            yield self.fails(kind, lambda _, status=status: (status, b"<html>secret", "text/html"))
        error = yield self.fails(TransientDelivery, lambda _: (503, fault_envelope("1.1", SoapFault("Sender", "x")), "text/xml"))
        self.assertTrue(error.whole_destination)
        for body in (b"", b"<!DOCTYPE x><x/>", b"<x/>", response("done", element="Other"), response("done", child="other")):
            yield self.fails(UncertainDelivery, lambda _, body=body: (200, body, "text/xml"))
        yield self.again(strict=False)
        self.peer.answers = lambda _: (200, response("done", child="other"), "text/xml")
        yield self.destination.deliver(self.parcel(1))

    @inlineCallbacks
    def test_one_way(self):
        """Nothing is said, and that is a receipt."""
        yield self.again(operation="Announce")
        self.peer.answers = lambda _: (202, b"", "text/xml")
        receipt = yield self.destination.deliver(self.parcel(1))
        self.assertEqual(receipt.reference, "202")

    @inlineCallbacks
    def test_a_refusal_within_the_reply(self):
        """The acknowledgement of a hospital platform is XML in a text; its detail is kept."""

        def acknowledged(code):
            return lambda _: (200, response(ACKNOWLEDGED.format(code=code, text="secret")), "text/xml")

        yield self.again(accepted_when={**STRICT, "transient": ["AR"]}, reference=STRICT["path"])
        self.peer.answers = acknowledged("AA")
        receipt = yield self.destination.deliver(self.parcel(1))
        self.assertEqual(receipt.reference, "AA")
        error = yield self.fails(PermanentDelivery, acknowledged("AE"))
        self.assertIn("typeCode is AE", error.text)
        yield self.fails(TransientDelivery, acknowledged("AR"))
        yield self.fails(UncertainDelivery, lambda _: (200, response("queued"), "text/xml"))
        yield self.fails(TransientDelivery, acknowledged("AE"), accepted_when={**STRICT, "otherwise": "transient"})

    @inlineCallbacks
    def test_a_reason_is_kept_and_not_said(self):
        yield self.again(accepted_when={"path": "acknowledgement/@typeCode", "reason": "acknowledgement/text/@value"})
        own = '<acknowledgement typeCode="AE"><text value="secret"/></acknowledgement>'
        error = yield self.fails(PermanentDelivery, lambda _: (200, response(own), "text/xml"))
        self.assertEqual(error.answer, b"secret")
        self.assertNotIn("secret", str(error))

    # --- time ------------------------------------------------------------------------------------

    @inlineCallbacks
    def test_a_call_ends_in_time(self):
        """Sent and not answered is uncertain, and the next goes over another connection."""
        yield self.again(within="300ms")
        self.peer.mode = "hold"
        error = yield self.fails(UncertainDelivery)
        self.assertIn("given up", error.text)
        self.peer.mode = "take"
        yield self.destination.deliver(self.parcel(2))
        self.assertEqual(self.peer.taken, ["2"])

    @inlineCallbacks
    def test_a_server_that_never_shakes_hands_got_nothing(self):
        """It takes the connection and says nothing: no longer than the call may take, and it is the destination that is out of reach."""
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        self.tls = Trust(self.data, reactor).provider("lab")
        yield self.again(within="300ms", url=f"https://127.0.0.1:{silent.getsockname()[1]}/")
        error = yield self.fails(TransientDelivery)
        self.assertTrue(error.whole_destination)

    @inlineCallbacks
    def test_close_waits_for_what_is_under_way(self):
        """The answer that comes meanwhile counts."""
        self.peer.mode = "hold"
        came = gatherResults([self.peer.received()])
        sent = self.destination.deliver(self.parcel(1))
        yield came
        self.destination.wind_up()
        closed = self.destination.close()
        self.closed = True
        self.peer.mode = "take"
        self.peer.release()
        yield sent
        yield closed
        self.assertEqual(self.peer.taken, ["1"])

    @inlineCallbacks
    def test_winding_up_ends_a_call_that_would_take_long(self):
        """Within the timeout for an answer, however much time the call has."""
        yield self.again(within="1h", timeout="400ms")
        self.peer.mode = "hold"
        sent = self.destination.deliver(self.parcel(1))
        self.destination.wind_up()
        yield self.assertFailure(sent, UncertainDelivery)
