"""Uploads of terminals, without sockets: what the intake is given, what is said of each line, and how much is under way at once."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fhir.resources.R4B import get_fhir_model_class
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from adapters.fhir.offline.asked import Journal
from adapters.fhir.offline.book import Book, Settled
from adapters.fhir.offline.journals import Journals
from adapters.fhir.offline.taking import AT_ONCE
from engine.errors import StoreCorrupt, StoreError
from engine.message import ACCEPTED, ORDER_KEY, Ack, Judgement, Verdict
from tests.support.uploads import NDJSON, Heard, observation, observations, tagged
from tests.unit.test_fhir_source import FhirSourceCase

MINE = Journal("", "cart-7")
FULL = Judgement(Verdict.UNAVAILABLE, "the store is full")


class Desk:
    """An intake that keeps by key, as a store does; with `held` it answers when told to."""

    def __init__(self) -> None:
        self.envelopes = []
        self.invalid = []
        self.kept = {}
        self.judge = lambda envelope: ACCEPTED
        self.held = False
        self.waiting = []

    def __call__(self, envelope, reply, invalid=None):
        self.envelopes.append(envelope)
        self.invalid.append(invalid)
        known = self.kept.get(envelope.idempotency_key)
        judgement = invalid or (known.judgement if known else self.judge(envelope))
        ack = Ack(judgement, reply(judgement), len(self.envelopes), duplicate=known is not None)
        if judgement.verdict is not Verdict.UNAVAILABLE:
            self.kept.setdefault(envelope.idempotency_key, ack)
        if not self.held:
            return succeed(ack)
        self.waiting.append((Deferred(), ack))
        return self.waiting[-1][0]

    def release(self, count=1):
        released, self.waiting = self.waiting[:count], self.waiting[count:]
        for done, ack in released:
            done.callback(ack)


class UploadCase(FhirSourceCase):
    keeps = False

    def setUp(self):
        super().setUp()
        self.desk = Desk()
        self.source._uploads.intake = self.desk

    def request(self, body, query="device=cart-7&first=1", length=None, **headers):
        named = {"Content-Type": NDJSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        said = len(body) if length is None else length
        return f"POST /fhir/$upload?{query} HTTP/1.1\r\nHost: h:1\r\n{lines}Content-Length: {said}\r\n\r\n".encode() + body

    def upload(self, lines, query="device=cart-7&first=1", **headers) -> Heard:
        body = lines if isinstance(lines, bytes) else b"".join(line + b"\n" for line in lines)
        transport = self.connect()
        transport.protocol.dataReceived(self.request(body, query, **headers))
        return self.heard(transport)

    def heard(self, transport) -> Heard:
        while self.reactor.getDelayedCalls() and not transport.value():
            self.reactor.advance(0)
            if not any(call.getTime() <= self.reactor.seconds() for call in self.reactor.getDelayedCalls()):
                break
        self.produce(transport)
        (message,) = self.answers(transport)
        return Heard(int(message.start[1]), dict(message.headers), message.body)

    def produce(self, transport) -> None:
        while transport.producer is not None and not transport.streaming:
            transport.producer.resumeProducing()

    def standing(self, query="device=cart-7"):
        return json.loads(self.ask("GET", f"/$upload?{query}").body)


class LineTests(UploadCase):
    """What becomes of one line."""

    def test_each_line_is_a_message_of_its_own(self):
        """With its own key, its number, its device, and the bytes as they came (R4 3.1.0.8: a create)."""
        raw = b'{ "resourceType" : "Observation", "status":"final", "code":{"text":"t"}, "valueQuantity":{"value": 1.50} }'
        self.assertEqual(self.upload([observation(1), raw]).results, ["kept", "kept"])
        first, second = self.desk.envelopes
        self.assertEqual(
            [one.idempotency_key for one in (first, second)],
            ["|cart-7|1", "|cart-7|2"],
        )
        self.assertEqual((second.control_id, second.message_type), ("cart-7/2", "Observation create"))
        self.assertIn(raw, second.body)
        self.assertEqual(second.facts["device.sequence"], "2")
        self.assertEqual(first.facts[ORDER_KEY], second.facts[ORDER_KEY])

    def test_a_resource_with_an_id_is_an_update(self):
        """So that references among a terminal's lines hold; a Bundle is what it would be if it were posted."""
        bundle = b'{"resourceType":"Bundle","type":"transaction"}'
        self.assertEqual(self.upload([observation(1, id="a1"), bundle]).results, ["kept", "kept"])
        update, posted = self.desk.envelopes
        self.assertEqual(json.loads(update.body)["entry"][0]["request"], {"method": "PUT", "url": "Observation/a1"})
        self.assertEqual(posted.body, bundle)

    def test_the_times_of_the_terminal_are_kept(self):
        """Its clock, and when it says that it has recorded; the answer says how far off that clock is."""
        line = observation(1, meta={"lastUpdated": "2026-11-20T08:30:00+08:00"})
        heard = self.upload([line], Date="Tue, 14 Nov 2023 20:13:20 GMT")
        facts = self.desk.envelopes[0].facts
        self.assertEqual(facts["device.recorded"], "2026-11-20T08:30:00+08:00")
        self.assertEqual(facts["device.clock"], "Tue, 14 Nov 2023 20:13:20 GMT")
        self.assertIn(line, self.desk.envelopes[0].body)
        self.assertIn("clock is 7200 s behind", heard.summary.text)
        self.assertNotIn("clock", self.upload([observation(2)], "device=cart-7&first=2", Date="nonsense").summary.text)

    def test_bad_lines_do_not_stop_the_rest(self):
        """Broken JSON, a type that there is not, a Bundle that is none to post, a bad id: each said where, and kept as invalid."""
        bad = [
            b"{",
            b'{"resourceType":"Foo"}',
            b'{"resourceType":"Bundle","type":"collection"}',
            b'{"resourceType":"Patient","id":"a b"}',
            b"[]",
        ]
        heard = self.upload([observation(1), *bad, observation(7)])
        self.assertEqual(heard.results, ["kept", *["refused"] * 5, "kept"])
        self.assertEqual([one.fact("line") for one in heard.lines], [1, 2, 3, 4, 5, 6, 7])
        self.assertEqual([one.fact("sequence") for one in heard.lines], [1, 2, 3, 4, 5, 6, 7])
        self.assertEqual(heard.lines[2].expressions, ["Resource.resourceType"])
        self.assertEqual(heard.lines[3].expressions, ["Bundle.type"])
        self.assertEqual(heard.lines[4].expressions, ["Patient.id"])
        self.assertEqual([one.verdict for one in self.desk.invalid if one], [Verdict.INVALID] * 5)
        self.assertEqual(heard.summary.fact("complete"), 7)

    def test_a_line_that_is_too_long_is_said_and_not_kept(self):
        """Its number is settled all the same: it would never come through."""
        self.source._uploads.most_line = 500
        heard = self.upload([observation(1), observation(2, note=[{"text": "x" * 600}]), observation(3)])
        self.assertEqual(heard.results, ["kept", "refused", "kept"])
        self.assertIn("more than the 500", heard.lines[1].text)
        self.assertEqual(self.desk.envelopes[1].body, b"")
        self.assertEqual(heard.summary.fact("complete"), 3)

    def test_every_outcome_is_an_operation_outcome(self):
        """The R4 model takes each line of the answer, and the standing."""
        heard = self.upload([observation(1), b"{", observation(3)], "device=cart-7&first=3")
        model = get_fhir_model_class("OperationOutcome")
        for line in heard.body.splitlines():
            model.model_validate_json(line)
        get_fhir_model_class("Parameters").model_validate(self.standing())

    def test_what_the_channel_refuses_is_said(self):
        """Its own reason, and where."""
        self.desk.judge = lambda envelope: Judgement(Verdict.REFUSED, "not for us", "200", "Observation.code")
        heard = self.upload([observation(1)])
        self.assertEqual(
            (heard.results, heard.lines[0].text, heard.lines[0].expressions), (["refused"], "not for us", ["Observation.code"])
        )
        self.assertEqual(heard.summary.fact("complete"), 1)

    def test_a_refused_number_may_come_again_corrected(self):
        """Nothing was taken under it: the correction is not a conflict, whoever refused the first."""
        self.desk.judge = lambda envelope: Judgement(Verdict.REFUSED, "not for us") if b'"n1"' in envelope.body else ACCEPTED
        self.assertEqual(self.upload([observation(1), b"{"]).results, ["refused", "refused"])
        self.assertEqual(self.upload([observation(1), b"{"]).results, ["refused", "refused"])
        self.assertEqual(self.upload([observation(11), b"{"]).results, ["kept", "refused"])
        self.assertEqual(self.upload([observation(11), observation(22)]).results, ["repeated", "kept"])


class RepetitionTests(UploadCase):
    """Numbers that come again."""

    def test_sending_all_again_doubles_nothing(self):
        """The intake does not even see them: the book outlives the store's own memory of keys."""
        self.upload(observations(1, 5))
        heard = self.upload(observations(1, 7))
        self.assertEqual(heard.results, ["repeated"] * 5 + ["kept"] * 2)
        self.assertEqual([one.control_id for one in self.desk.envelopes], [f"cart-7/{number}" for number in range(1, 8)])

    def test_other_content_under_a_number_is_a_conflict(self):
        """Said, kept as invalid under a key of its own; what was kept first stays."""
        self.upload([observation(1)])
        for _ in range(2):
            heard = self.upload([observation(2)])
            self.assertEqual((heard.status, heard.results), (200, ["conflict"]))
        self.assertEqual(heard.lines[0].outcome["issue"][0]["code"], "conflict")
        keys = [one.idempotency_key for one in self.desk.envelopes]
        self.assertEqual((keys[0], len({*keys})), ("|cart-7|1", 2))
        self.assertEqual(self.upload([observation(1)]).results, ["repeated"])

    def test_the_same_number_twice_in_one_body(self):
        """The second is compared, whether the first is settled already or not."""
        heard = self.upload([tagged(1), tagged(1), tagged(1, id="other")], "device=cart-7")
        self.assertEqual(heard.results[:2], ["kept", "repeated"])
        self.assertEqual(heard.results[2], "conflict")

    def test_terminals_and_parties_have_numbers_of_their_own(self):
        """Another name, another journal."""
        self.upload([observation(1)])
        self.assertEqual(self.upload([observation(2)], "device=cart-8&first=1").results, ["kept"])
        self.assertEqual(self.standing("device=cart-9")["parameter"][1], {"name": "complete", "valueDecimal": 0})

    def test_an_address_is_no_identity(self):
        """Where nothing is proven, a terminal that comes back under another address is the same."""
        self.upload([observation(1)])
        self.assertEqual(self.desk.envelopes[0].idempotency_key, "|cart-7|1")
        self.assertIn("10.0.0.9", self.desk.envelopes[0].remote)


class NumberTests(UploadCase):
    """Gaps, and lines that say their own numbers."""

    def test_a_gap_is_said_and_shown(self):
        """At the line after it, in the summary, and to whoever asks; filled, it is gone."""
        self.upload(observations(1, 2))
        heard = self.upload(observations(5, 6), "device=cart-7&first=5", Prefer="return=minimal")
        self.assertEqual([one.fact("sequence") for one in heard.lines], [5])
        self.assertIn("these numbers have not come: 3-4", heard.lines[0].text)
        self.assertEqual((heard.summary.fact("complete"), heard.summary.fact("highest"), heard.summary.facts("missing")), (2, 6, ["3-4"]))
        missing = [one for one in self.standing()["parameter"] if one["name"] == "missing"]
        self.assertEqual([part["valueDecimal"] for part in missing[0]["part"]], [3, 4])
        heard = self.upload(observations(3, 4), "device=cart-7&first=3")
        self.assertEqual((heard.summary.fact("complete"), heard.summary.facts("missing")), (6, []))

    def test_lines_say_their_own_numbers(self):
        """In a tag; a line without one is refused and settles no number."""
        heard = self.upload([tagged(1), observation(2), tagged(4), b"{"], "device=cart-7")
        self.assertEqual(heard.results, ["kept", "refused", "kept", "refused"])
        self.assertEqual([one.fact("sequence") for one in heard.lines], [1, None, 4, None])
        self.assertEqual(heard.lines[1].expressions, ["Observation.meta.tag"])
        self.assertEqual((heard.summary.fact("complete"), heard.summary.facts("missing")), (1, ["2-3"]))

    def test_a_late_number_is_taken(self):
        """Behind others: it fills its place."""
        self.assertEqual(self.upload([tagged(2), tagged(1)], "device=cart-7").summary.fact("complete"), 2)

    def test_numbers_stay_exact(self):
        """Up to what every JSON reader can hold; above, the request is refused."""
        most = (1 << 53) - 1
        heard = self.upload([observation(1)], f"device=cart-7&first={most}")
        self.assertIn(b'"valueDecimal":%d' % most, heard.body)
        self.assertEqual(self.upload([observation(1)], f"device=cart-7&first={most + 1}").status, 400)


class RequestTests(UploadCase):
    """What is asked for, and how."""

    def test_what_is_no_upload_is_refused(self):
        """Before a byte of the body is read."""
        for query in (
            "",
            "first=1",
            "device=",
            "device=a%20b",
            "device=a&device=b",
            "device=a&first=0",
            "device=a&first=x",
            "device=a&start=1",
        ):
            self.assertEqual(self.upload([observation(1)], query).status, 400, query)
        for media in ("application/fhir+json", f"{NDJSON}; charset=gb18030", f"{NDJSON}; fhirVersion=5.0", ""):
            self.assertEqual(self.upload([observation(1)], Content_Type=media).status, 415, media)
        self.assertEqual(self.upload([observation(1)], Content_Encoding="br").status, 415)
        self.assertEqual(self.desk.envelopes, [])

    def test_other_media_types_of_ndjson(self):
        for media in ("application/x-ndjson", f'{NDJSON}; charset="UTF-8"; fhirVersion=4.0'):
            self.assertEqual(self.upload([observation(1)], Content_Type=media).status, 200, media)

    def test_other_methods(self):
        self.assertEqual(self.ask("PUT", "/$upload?device=a", b"{}").start[1], "405")

    def test_gzip(self):
        """As it was before it was packed; what is cut off in the middle of a line is not taken as one."""
        body = b"\n".join(observations(1, 3))
        packed = gzip.compress(body)
        self.assertEqual(self.upload(packed, Content_Encoding="gzip").results, ["kept"] * 3)
        heard = self.upload(packed[:-12], "device=cart-8&first=1", Content_Encoding="gzip")
        self.assertEqual(heard.status, 400)
        self.assertLess(heard.counts["kept"], 3)
        self.assertIn("not complete", heard.summary.text)

    def test_an_upload_that_is_too_large(self):
        """Said with what was kept before the limit."""
        self.source._uploads.most_upload = 1000
        wire = b"".join(line + b"\n" for line in observations(1, 9))
        self.assertEqual(self.upload(wire).status, 413)
        packed = self.upload(gzip.compress(wire), Content_Encoding="gzip")
        self.assertEqual(packed.status, 413)
        self.assertIn("larger than allowed", packed.summary.text)

    def test_only_what_there_is_to_say(self):
        """Prefer: return=minimal (RFC 7240 clause 4.2) leaves out what was kept."""
        heard = self.upload([observation(1), b"{", observation(3)], Prefer="return=minimal")
        self.assertEqual([one.fact("line") for one in heard.lines], [2])
        self.assertEqual((heard.summary.fact("kept"), heard.summary.fact("refused")), (2, 1))

    def test_no_lines(self):
        heard = self.upload(b"\n \r\n")
        self.assertEqual((heard.status, heard.lines, heard.summary.fact("kept")), (200, [], 0))

    def test_the_statement_names_the_operation(self):
        (rest,) = json.loads(self.ask("GET", "/metadata").body)["rest"]
        self.assertEqual([one["name"] for one in rest["operation"]], ["upload"])


class FlowTests(UploadCase):
    """How much is under way, and what ends an upload."""

    def test_only_so_many_lines_are_under_way(self):
        """Beyond them the terminal is not read; each answer of the store lets in another line, in order."""
        self.desk.held = True
        transport = self.connect()
        body = b"".join(line + b"\n" for line in observations(1, 200))
        transport.protocol.dataReceived(self.request(body, length=len(body) + 1))
        self.assertEqual((len(self.desk.envelopes), transport.producerState), (AT_ONCE, "paused"))
        self.desk.release(3)
        self.assertEqual(len(self.desk.envelopes), AT_ONCE + 3)
        while self.desk.waiting:
            self.desk.release(50)
        self.assertEqual(transport.producerState, "producing")
        transport.protocol.dataReceived(b"\n")
        heard = self.heard(transport)
        self.assertEqual(heard.counts, {"kept": 200})
        self.assertEqual([one.facts["device.sequence"] for one in self.desk.envelopes], [str(number) for number in range(1, 201)])

    def test_a_small_packed_body_is_unpacked_as_it_is_taken(self):
        """What is not yet taken stays packed."""
        self.desk.held = True
        transport = self.connect()
        transport.protocol.dataReceived(
            self.request(gzip.compress(b"".join(line + b"\n" for line in observations(1, 5000))), Content_Encoding="gzip")
        )
        self.assertEqual(len(self.desk.envelopes), AT_ONCE)
        while self.desk.waiting:
            self.desk.release(AT_ONCE)
        self.assertEqual(self.heard(transport).counts, {"kept": 5000})

    def test_terminals_share_what_may_be_under_way(self):
        """One more terminal than there is room for waits, and is let in in its turn, however much the others have."""
        self.source._uploads.journals._slots = [0, 1]
        self.desk.held = True
        first, second = self.connect(), self.connect()
        first.protocol.dataReceived(self.request(b"".join(line + b"\n" for line in observations(1, 4))))
        second.protocol.dataReceived(self.request(observation(1) + b"\n", "device=cart-8&first=1"))
        self.assertEqual(len(self.desk.envelopes), 2)
        self.desk.release()
        self.desk.release()
        self.assertEqual([one.control_id for one in self.desk.envelopes[2:]], ["cart-7/3", "cart-8/1"])
        while self.desk.waiting:
            self.desk.release()
        self.assertEqual((self.heard(first).results, self.heard(second).results), (["kept"] * 4, ["kept"]))

    def test_a_full_store(self):
        """503 for the rest, with what was kept; sent again from there, nothing is lost or doubled."""
        self.desk.judge = lambda envelope: FULL if envelope.control_id == "cart-7/3" else ACCEPTED
        transport = self.connect()
        transport.protocol.dataReceived(self.request(b"".join(line + b"\n" for line in observations(1, 9)), length=1 << 20))
        heard = self.heard(transport)
        self.assertEqual((heard.status, heard.headers["retry-after"]), (503, "5"))
        self.assertEqual((heard.summary.fact("kept"), heard.summary.fact("unavailable"), heard.summary.fact("complete")), (2, 1, 2))
        self.assertEqual([(one.fact("sequence"), one.result) for one in heard.lines], [(3, "unavailable")])
        self.desk.judge = lambda envelope: ACCEPTED
        self.assertEqual(self.upload(observations(3, 9), "device=cart-7&first=3").summary.fact("complete"), 9)

    def test_a_terminal_that_begins_anew_goes_on(self):
        """Its first connection is dead and nobody has told us: the second waits for what the first had under way, then takes over."""
        self.desk.held = True
        dead, fresh = self.connect(), self.connect()
        dead.protocol.dataReceived(self.request(observation(1) + b"\n" + observation(2) + b"\n", length=9999))
        fresh.protocol.dataReceived(self.request(b"".join(line + b"\n" for line in observations(1, 3))))
        self.assertEqual(len(self.desk.envelopes), 2)
        self.desk.release(2)
        self.desk.release()
        self.assertEqual(self.heard(fresh).results, ["repeated", "repeated", "kept"])
        dead.protocol.dataReceived(observation(3) + b"\n")
        self.assertEqual(self.heard(dead).status, 409)
        self.assertEqual(len(self.desk.envelopes), 3)

    def test_a_connection_that_is_lost(self):
        """What was under way is settled, the rest is not asked of anybody, and the last piece of a line is no line."""
        self.desk.held = True
        transport = self.connect()
        transport.protocol.dataReceived(self.request(observation(1) + b"\n" + observation(2)[:-1], length=9999))
        transport.protocol.connectionLost()
        self.assertEqual(len(self.desk.envelopes), 1)
        self.desk.release()
        self.assertEqual(self.standing()["parameter"][1], {"name": "complete", "valueDecimal": 1})

    def test_a_node_that_stops(self):
        """Waits for what is under way, hands nothing more in, and says what was kept."""
        self.desk.held = True
        transport = self.connect()
        transport.protocol.dataReceived(self.request(b"".join(line + b"\n" for line in observations(1, 200)), length=1 << 20))
        stopped = self.source.stop()
        self.reactor.advance(0)
        self.desk.release(AT_ONCE)
        self.assertEqual((len(self.desk.envelopes), self.desk.waiting), (AT_ONCE, []))
        heard = self.heard(transport)
        self.assertEqual((heard.status, heard.summary.fact("complete")), (503, AT_ONCE))
        self.reactor.advance(5)
        self.successResultOf(stopped)

    def test_a_long_report_lies_in_a_file_and_goes_with_the_answer(self):
        """The answer is as long as the upload; memory is not."""
        heard = self.upload(observations(1, 2000))
        self.assertEqual((heard.counts, len(heard.lines)), ({"kept": 2000}, 2000))
        self.assertEqual(list((self.context.data / "uploads").rglob("report-*")), [])

    def test_a_report_that_nobody_hears_is_removed(self):
        """The terminal went away before the answer."""
        self.desk.held = True
        transport = self.connect()
        transport.protocol.dataReceived(self.request(b"".join(line + b"\n" for line in observations(1, 2000))))
        while len(self.desk.envelopes) < 2000:
            self.desk.release(AT_ONCE)
        self.assertEqual(len(list((self.context.data / "uploads").rglob("report-*"))), 1)
        transport.protocol.connectionLost()
        self.desk.release(AT_ONCE)
        self.assertEqual(list((self.context.data / "uploads").rglob("report-*")), [])


class ValidationTests(UploadCase):
    options = {"validate": "fhir.resources"}  # noqa: RUF012

    def test_each_line_is_checked_in_its_turn(self):
        """Against the R4 model; the fault names its place."""
        wrong = b'{"resourceType":"Observation","code":{"text":"a"}}'
        heard = self.upload([observation(1), wrong, observation(3)])
        self.assertEqual((heard.results, heard.lines[1].expressions), (["kept", "refused", "kept"], ["Observation.status"]))
        self.assertEqual([one.facts["device.sequence"] for one in self.desk.envelopes], ["1", "2", "3"])


class BookTests(SynchronousTestCase):
    """adapters.fhir.offline.book"""

    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "uploads" / "book.db"
        self.book = self.opened()

    def opened(self, remember=1000.0):
        book = Book(self.path, remember)
        book.open()
        self.addCleanup(book.close)
        return book

    def line(self, sequence, digest=b"a", taken=True, at=0, journal=MINE):
        return Settled(journal, sequence, digest, taken, at)

    def test_what_was_taken_stays(self):
        """A refused line is replaced by a later one, a taken one never."""
        self.book.record([self.line(1, b"a"), self.line(2, b"a", taken=False)])
        self.book.record([self.line(1, b"b"), self.line(2, b"b")])
        self.assertEqual([self.book.find(MINE, number).digest for number in (1, 2)], [b"a", b"b"])
        self.book.record([self.line(2, b"c")])
        self.assertEqual(self.book.find(MINE, 2), self.line(2, b"b"))

    def test_it_survives(self):
        """Another book at the same file knows all of it."""
        self.book.record([self.line(number) for number in (1, 2, 5)])
        self.book.close()
        standing = self.opened().standing(MINE)
        self.assertEqual((standing.complete, standing.highest, standing.missing), (2, 5, [(3, 4)]))

    def test_what_is_forgotten_stays_settled(self):
        """It can be compared with nothing, so that a terminal that counts anew is not taken for one that repeats itself."""
        book = self.opened(remember=10)
        book.record([self.line(number, at=0) for number in (1, 2)])
        book.record([self.line(3, at=60_000_000)])
        self.assertEqual(book.find(MINE, 1), self.line(1, b""))
        self.assertEqual(book.find(MINE, 3).digest, b"a")
        self.assertEqual(book.standing(MINE).complete, 3)

    def test_a_newer_schema_is_refused(self):
        self.book._writer.execute("PRAGMA user_version = 9")
        self.assertRaises(StoreCorrupt, Book(self.path, 1).open)

    def test_a_file_that_is_none(self):
        self.book.close()
        self.path.write_bytes(b"x" * 4096)
        for left in self.path.parent.glob("book.db-*"):
            left.unlink()
        self.assertRaises(StoreError, Book(self.path, 1).open)


class RecoveryTests(UploadCase):
    """Between the commit of a line and its record in the book."""

    def checkpoints(self):
        return succeed(dict(one.checkpoint for one in self.desk.envelopes if one.checkpoint))

    def recovered(self):
        book = Book(self.context.data / "uploads" / "platform" / "book.db", 1000)
        journals = Journals(book, replace(self.context, checkpoints=self.checkpoints), 4, None)
        self.successResultOf(journals.start())
        self.addCleanup(journals.close)
        return book

    def test_a_line_that_the_book_has_missed(self):
        """It is in its slot, which was committed with it."""
        record, self.source._uploads.journals._book.record = self.source._uploads.journals._book.record, self.refuse
        heard = self.upload(observations(1, 3))
        self.assertEqual(heard.results, ["kept"] * 3)
        self.source._uploads.journals._book.record = record
        self.assertEqual(self.recovered().standing(MINE).complete, 3)

    def refuse(self, lines, **_):
        raise StoreError("no")

    def test_a_book_that_cannot_be_written_is_tried_again(self):
        """Nothing hangs on it; meanwhile the slots fill up, which bounds what it may miss."""
        self.source._uploads.journals._slots = list(range(4))
        journals = self.source._uploads.journals
        record, journals._book.record = journals._book.record, self.refuse
        transport = self.connect()
        transport.protocol.dataReceived(self.request(b"".join(line + b"\n" for line in observations(1, 9))))
        self.assertEqual(len(self.desk.envelopes), 4)
        journals._book.record = record
        self.reactor.advance(1.1)
        self.assertEqual(self.heard(transport).counts, {"kept": 9})
        self.assertEqual(self.recovered().standing(MINE).complete, 9)

    def test_a_damaged_book(self):
        """Uploads are refused, and said to be; everything else goes on."""
        file = self.context.data / "uploads" / "platform" / "book.db"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 4096)
        journals = Journals(Book(file, 1000), replace(self.context, checkpoints=self.checkpoints), 4, None)
        with self.assertLogs("test.fhir", "ERROR"):
            self.successResultOf(journals.start())
        self.source._uploads.journals = journals
        self.assertEqual(self.upload([observation(1)]).status, 503)
        self.assertEqual((self.desk.envelopes, self.ask("GET", "/metadata").start[1]), ([], "200"))

    def test_a_slot_does_not_undo_a_refusal(self):
        """A slot that was not used again says nothing new at the next start."""
        self.desk.judge = lambda envelope: Judgement(Verdict.REFUSED, "not for us")
        self.upload([observation(1)])
        self.assertFalse(self.recovered().find(MINE, 1).taken)
