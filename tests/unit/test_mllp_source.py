"""The MLLP source, rule by rule, without a network."""

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from adapters.mllp.framing import COMMIT, NOT_COMMITTED
from adapters.mllp.protocol import FLUSH, LINGER
from engine.message import ACCEPTED, Judgement, Verdict
from engine.pipeline import UNAVAILABLE
from tests.support.mllp import Listening, message, msa

REFUSED = Judgement(Verdict.REFUSED, "not for this channel", "200", "MSH-9")

ENHANCED = {  # MSH-15 and -16: answers to a message that is taken, one that is refused, one that cannot be kept
    ("AL", "AL"): ("CA AA", "CR", "CE"),
    ("AL", "NE"): ("CA", "CR", "CE"),
    ("AL", "ER"): ("CA", "CR", "CE"),
    ("AL", "SU"): ("CA AA", "CR", "CE"),
    ("AL", ""): ("CA", "CR", "CE"),
    ("NE", "AL"): ("AA", "AR", "AE"),
    ("NE", "ER"): ("", "AR", "AE"),
    ("NE", "SU"): ("AA", "", ""),
    ("", "AL"): ("AA", "AR", "AE"),
    ("ER", "AL"): ("AA", "CR", "CE"),
    ("ER", "ER"): ("", "CR", "CE"),
    ("ER", ""): ("", "CR", "CE"),
    ("SU", "AL"): ("CA AA", "AR", "AE"),
    ("SU", "ER"): ("CA", "AR", "AE"),
    ("SU", "NE"): ("CA", "", ""),
}


class AnswerTests(SynchronousTestCase):
    def test_original_mode(self) -> None:
        """AA with the original control id; the parties are swapped."""
        line = Listening()
        line.send(message("77"))
        (answer,) = line.heard()
        self.assertEqual(msa(answer), "AA|77")
        self.assertTrue(answer.startswith(b"MSH|^~\\&|PLAT|CITY|LAB|HOSP|"))

    def test_nothing_before_the_commit(self) -> None:
        """No byte leaves before the intake has fired."""
        line = Listening(at_once=False)
        line.send(message())
        self.assertEqual(line.heard(), [])
        line.intake.answer(0)
        self.assertEqual(line.codes(), ["AA|1"])

    def test_pipelined_frames_are_answered_in_order(self) -> None:
        """The second is ready first; its answer waits for the first."""
        line = Listening(at_once=False)
        line.send(message("1"), message("2"), message("3"))
        line.intake.answer(1)
        line.intake.answer(2)
        self.assertEqual(line.heard(), [])
        line.intake.answer(0)
        self.assertEqual(line.codes(), ["AA|1", "AA|2", "AA|3"])

    def test_a_refusal_is_ar_with_err(self) -> None:
        """ERR-3 from table 0357, ERR-2 the location, ERR-8 the reason."""
        line = Listening()
        line.intake.judgement = REFUSED
        line.send(message("9"))
        (answer,) = line.heard()
        self.assertEqual(msa(answer), "AR|9")
        self.assertIn(b"\rERR||MSH^1^9^1|200^Unsupported message type^HL70357|E||||not for this channel\r", answer)

    def test_enhanced_mode(self) -> None:
        """MSH-15 and -16 (table 0155): what is answered to a message that is taken, refused, or cannot be kept (clause 2.9.3)."""
        for (accept, application), answers in ENHANCED.items():
            for judgement, expected in zip((ACCEPTED, REFUSED, UNAVAILABLE), answers, strict=True):
                line = Listening()
                line.intake.judgement = judgement
                line.send(message("5", msh15=accept, msh16=application))
                codes = " ".join(code.removesuffix("|5") for code in line.codes())
                self.assertEqual(codes, expected, (accept, application, judgement.verdict))
                self.assertEqual(len(line.intake.kept), 1)

    def test_who_wants_no_answer_and_whose_message_cannot_be_kept(self) -> None:
        """The connection is closed, the only sign there is."""
        for judgement, closed in ((ACCEPTED, False), (REFUSED, False), (UNAVAILABLE, True)):
            line = Listening()
            line.intake.judgement = judgement
            line.send(message("5", msh15="NE", msh16="NE"))
            self.assertEqual((line.heard(), line.wire.disconnecting), ([], closed))

    def test_a_full_store_is_ae_never_aa(self) -> None:
        """UNAVAILABLE: AE in original, CE in enhanced mode, text says to try later; or silence where asked for."""
        line = Listening()
        line.intake.judgement = UNAVAILABLE
        line.send(message("1"), message("2", msh15="AL"))
        self.assertEqual(line.codes(), ["AE|1", "CE|2"])

    def test_a_full_store_and_silence(self) -> None:
        """Where asked for: no answer, closed; nor is a later message answered, since that could be taken for the answer to this one."""
        line = Listening(at_once=False, when_unavailable="silent")
        line.send(message("1"))
        line.intake.judgement = UNAVAILABLE
        line.send(message("2"))
        line.intake.judgement = ACCEPTED
        line.send(message("3"))
        for index in (2, 1, 0):
            line.intake.answer(index)
        self.assertEqual(line.codes(), ["AA|1"])
        self.assertTrue(line.wire.disconnecting)

    def test_no_usable_msh_is_quarantined_and_answered_ar(self) -> None:
        """Kept as it came, answered AR with the reason."""
        line = Listening()
        line.send(b"PID|1||4711\r", b"hello")
        answers = line.heard()
        self.assertEqual([msa(answer) for answer in answers], ["AR", "AR"])
        self.assertEqual([envelope.body for envelope in line.intake.kept], [b"PID|1||4711\r", b"hello"])
        self.assertTrue(all(judgement is not None for judgement in line.intake.invalid))

    def test_release_2_commit_acknowledgments(self) -> None:
        """0B 06 1C 0D after the commit, before HL7's own; 0B 15 1C 0D when it could not be kept."""
        line = Listening(release=2)
        line.send(message("1"))
        commit, answer = line.heard()
        self.assertEqual((commit, msa(answer)), (COMMIT, "AA|1"))
        line.intake.judgement = UNAVAILABLE
        line.send(message("2"))
        self.assertEqual(line.heard()[0], NOT_COMMITTED)


class FactsTests(SynchronousTestCase):
    def envelope(self, content: bytes, **options: object):  # type: ignore[no-untyped-def]
        line = Listening(**options)  # type: ignore[arg-type]
        line.send(content)
        return line.intake.kept[0], line.intake.invalid[0]

    def test_header_facts(self) -> None:
        """Type, control id, sender, patient and address are read; the bytes are untouched."""
        content = message("7", "ORU^R01")
        envelope, invalid = self.envelope(content)
        self.assertIsNone(invalid)
        self.assertEqual((envelope.body, envelope.message_type, envelope.control_id), (content, "ORU^R01", "7"))
        self.assertEqual((envelope.sender, envelope.patient_ids, envelope.remote), ("LAB|HOSP", ("4711",), "10.0.0.9:4444"))

    def test_a_new_timestamp_is_the_same_content(self) -> None:
        """A resend with another MSH-7 has the same key and the same digest."""
        line = Listening()
        line.send(message("1"), message("1").replace(b"20261123081500", b"20261123081501"), message("1", body="PID|1||4712"))
        first, again, other = line.intake.kept
        self.assertEqual((first.idempotency_key, first.content_digest), (again.idempotency_key, again.content_digest))
        self.assertNotEqual(first.content_digest, other.content_digest)

    def test_gb18030_with_delimiters_in_trail_bytes(self) -> None:
        """Patient facts are right although the second bytes of characters equal | ^ ~ and the escape character."""
        text = message(msh18="GB 18030-2000").decode().replace("Doe^Jo", "倈俕倊乗^乗").replace("4711", "俕1")
        envelope, invalid = self.envelope(text.encode("gb18030"))
        self.assertIsNone(invalid)
        self.assertEqual(envelope.patient_ids, ("俕1",))

    def test_bytes_that_are_not_what_msh18_says(self) -> None:
        """GB18030 bytes declared as UTF-8: quarantined with location MSH-18, never replacement characters."""
        content = message(msh18="UNICODE UTF-8").decode().replace("Doe", "张三").encode("gb18030")
        envelope, invalid = self.envelope(content)
        self.assertEqual((invalid.location, invalid.verdict, envelope.body), ("MSH-18", Verdict.INVALID, content))

    def test_the_stated_fallback(self) -> None:
        """With a fallback the message passes, and the character set that fits goes along."""
        content = message(msh18="UNICODE UTF-8").decode().replace("Doe", "张三").encode("gb18030")
        envelope, invalid = self.envelope(content, fallback="GB18030")
        self.assertIsNone(invalid)
        self.assertEqual(envelope.facts["charset"], "gb18030")

    def test_senders_bound_to_parties(self) -> None:
        """A sender that claims to be somebody else is refused."""
        envelope, invalid = self.envelope(message(), senders={"*": ["OTHER|HOSP"]})
        self.assertEqual((invalid.verdict, invalid.location), (Verdict.REFUSED, "MSH-3"))
        self.assertEqual(envelope.idempotency_key, "")  # else it would use up the control ids of the one that it claims to be


class ConnectionTests(SynchronousTestCase):
    def test_too_long_a_message(self) -> None:
        """Answered AR with condition 207, kept as far as it came; what else comes is thrown away, and the connection closed."""
        line = Listening(max_size="1KB")
        line.connection.dataReceived(b"\x0bhello" + b"x" * 2000)
        line.connection.dataReceived(b"y" * 2000)
        line.connection.dataReceived(b"\x1c\r")
        (answer,) = line.heard()
        self.assertEqual(msa(answer), "AR")
        self.assertIn(b"|207^", answer)
        self.assertEqual([len(envelope.body) for envelope in line.intake.kept], [2005])
        self.assertFalse(line.wire.disconnecting)  # the sender has time to read why
        line.clock.advance(LINGER)
        self.assertTrue(line.wire.disconnecting)
        line.clock.advance(FLUSH)
        self.assertTrue(line.wire.aborted)

    def test_too_long_a_message_with_a_header(self) -> None:
        """AE with its control id, so that the sender knows which; it never counts as the same message as another one."""
        line = Listening(max_size="1KB")
        line.connection.dataReceived(b"\x0b" + message("7", body="OBX|" + "x" * 2000))
        self.assertEqual(line.codes(), ["AE|7"])
        self.assertEqual((line.intake.kept[0].control_id, line.intake.kept[0].idempotency_key), ("7", ""))

    def test_a_missing_end_block(self) -> None:
        """A start block inside a frame: both are kept in quarantine, the first is answered AE, closed."""
        line = Listening()
        line.connection.dataReceived(b"\x0b" + message("1") + b"\x0b" + message("2") + b"\x1c\r")
        self.assertEqual(line.codes(), ["AE|1"])
        self.assertIn(message("1"), line.intake.kept[0].body)
        self.assertIn(message("2"), line.intake.kept[0].body)
        line.clock.advance(LINGER)
        self.assertTrue(line.wire.disconnecting)

    def test_whole_frames_before_a_fault_are_taken(self) -> None:
        """Though they came in the same bytes."""
        line = Listening()
        line.connection.dataReceived(b"\x0b" + message("1") + b"\x1c\rjunk\x1c\r\x0b" + message("2") + b"\x1c\r")
        self.assertEqual(line.codes(), ["AA|1", "AR"])
        self.assertEqual([envelope.control_id for envelope in line.intake.kept], ["1", ""])

    def test_stray_bytes_are_kept(self) -> None:
        """Bytes before a frame are quarantined, the frame itself is taken."""
        line = Listening()
        line.connection.dataReceived(b"junk\x0b" + message("1") + b"\x1c\r")
        self.assertEqual(line.codes(), ["AA|1"])
        self.assertEqual(line.intake.kept[0].body, b"junk")

    def test_keep_alive_bytes_are_not_stray(self) -> None:
        """Line ends between frames are what many senders add."""
        line = Listening()
        line.connection.dataReceived(b"\r\n\x0b" + message("1") + b"\x1c\r\n")
        self.assertEqual(len(line.intake.kept), 1)

    def test_a_slow_sender_is_cut_off(self) -> None:
        """A frame must be complete in time, however its bytes dribble."""
        line = Listening(receive_within="5s")
        line.connection.dataReceived(b"\x0bMSH")
        for _ in range(6):
            line.clock.advance(1)
            line.connection.dataReceived(b"|")
        self.assertTrue(line.wire.aborted)

    def test_a_handshake_that_does_not_end(self) -> None:
        """Has no longer than a message, and counts as slow, not as idle."""
        line = Listening(tls={}, receive_within="5s")
        line.clock.advance(6)
        self.assertTrue(line.wire.aborted)
        count = line.source._context.metrics.registry.get_sample_value
        self.assertEqual(count("meridian_mllp_faults_total", {"channel": "c", "fault": "slow"}), 1)

    def test_an_idle_connection_is_closed(self) -> None:
        """After the idle time, counted from the last message."""
        line = Listening(idle="10s")
        line.clock.advance(9)
        line.send(message())
        line.clock.advance(9)
        self.assertFalse(line.wire.aborted)
        line.clock.advance(2)
        self.assertTrue(line.wire.aborted)

    def test_too_much_under_way_stops_reading(self) -> None:
        """Beyond in_flight the connection is not read, and read again once there is room."""
        line = Listening(at_once=False, in_flight=2)
        line.send(message("1"), message("2"))
        self.assertEqual(line.wire.producerState, "paused")
        line.intake.answer(0)
        self.assertEqual(line.wire.producerState, "producing")

    def test_a_peer_that_does_not_read_its_answers(self) -> None:
        """The transport says so; then no more is read, until it has read. While it is ending what comes is thrown away all the same."""
        line = Listening()
        line.wire.producer.pauseProducing()
        self.assertEqual(line.wire.producerState, "paused")
        line.wire.producer.resumeProducing()
        self.assertEqual(line.wire.producerState, "producing")
        line.wire.producer.pauseProducing()
        line.connection.stop()
        self.assertEqual((line.wire.producerState, line.wire.producer, line.wire.disconnecting), ("producing", None, True))

    def test_room_is_not_enough_where_the_peer_does_not_read(self) -> None:
        """Nor is its reading, while too much is under way."""
        line = Listening(at_once=False, in_flight=1)
        line.send(message("1"))
        line.wire.producer.pauseProducing()
        line.intake.answer(0)
        self.assertEqual(line.wire.producerState, "paused")
        line.wire.producer.resumeProducing()
        line.send(message("2"))
        line.wire.producer.resumeProducing()
        self.assertEqual(line.wire.producerState, "paused")

    def test_a_sender_that_closes_its_side(self) -> None:
        """It hears its answer before the connection ends; what stood after its last frame is kept."""
        line = Listening(at_once=False)
        line.send(message("1"))
        line.connection.dataReceived(b"junk")
        line.connection.readConnectionLost()
        self.assertFalse(line.wire.disconnecting)
        line.intake.answer(0)
        self.assertEqual((line.codes(), line.wire.disconnecting), (["AA|1"], True))
        self.assertEqual([envelope.body for envelope in line.intake.kept], [message("1"), b"junk"])

    def test_a_connection_that_is_lost_while_it_is_ending(self) -> None:
        """Nothing is left behind that would fire later."""
        line = Listening(at_once=False)
        line.send(message("1"))
        line.connection.stop()
        line.connection.connectionLost(Failure(ConnectionDone()))
        line.intake.answer(0)
        self.assertEqual((line.heard(), line.clock.getDelayedCalls()), ([], []))

    def test_limits_of_connections(self) -> None:
        """In all, and from one address; what is refused is audited."""
        line = Listening(connections=3, connections_per_address=2)
        self.assertFalse(line.connect()[1].aborted)
        self.assertTrue(line.connect()[1].aborted)
        self.assertFalse(line.connect("10.0.0.10")[1].aborted)
        self.assertTrue(line.connect("10.0.0.11")[1].aborted)
        self.assertEqual([event for event, _ in line.audited], ["mllp.refused"] * 2)

    def test_a_sender_that_leaves_before_the_answer(self) -> None:
        """The message is kept; nothing is written to a closed connection."""
        line = Listening(at_once=False)
        line.send(message())
        line.connection.connectionLost(Failure(ConnectionDone()))
        line.intake.answer(0)
        self.assertEqual(line.heard(), [])

    def test_stop_answers_what_was_handed_in(self) -> None:
        """After stop nothing is read, what is under way is answered, then the connection closes."""
        line = Listening(at_once=False)
        line.send(message())
        line.connection.stop()
        self.assertFalse(line.wire.disconnecting)
        line.intake.answer(0)
        self.assertEqual(line.codes(), ["AA|1"])
        self.assertTrue(line.wire.disconnecting)


class BatchTests(SynchronousTestCase):
    def test_a_batch_is_split_and_answered_as_one(self) -> None:
        """Each message is kept by itself; one batch response with an acknowledgment for each."""
        line = Listening()
        line.send(b"BHS|^~\\&|LAB|HOSP|PLAT|CITY|2026|||||B1\r" + message("1") + message("2") + b"BTS|2\r")
        (answer,) = line.heard()
        self.assertEqual([envelope.control_id for envelope in line.intake.kept], ["1", "2"])
        self.assertTrue(answer.startswith(b"BHS|^~\\&|PLAT|CITY|LAB|HOSP|") and answer.endswith(b"BTS|2\r"))
        self.assertEqual(answer.count(b"MSA|AA|"), 2)

    def test_a_bad_message_inside_does_not_spoil_the_others(self) -> None:
        """The middle one has no usable header: quarantined; its neighbours are accepted."""
        line = Listening()
        line.send(b"BHS|^~\\&|LAB\r" + message("1") + b"MSH|bad\r" + message("2") + b"BTS|3\r")
        (answer,) = line.heard()
        self.assertEqual((answer.count(b"MSA|AA|"), answer.count(b"MSA|AR|")), (2, 1))

    def test_a_file_of_batches(self) -> None:
        """Each batch has its answer, in a file of answers."""
        line = Listening()
        line.send(b"FHS|^~\\&|LAB\rBHS|^~\\&|LAB\r" + message("1") + b"BTS|1\rBHS|^~\\&|LAB\r" + message("2") + b"BTS|1\rFTS|2\r")
        (answer,) = line.heard()
        lines = [one[:3] for one in answer.split(b"\r")]
        self.assertEqual(lines, b"FHS BHS MSH MSA BTS BHS MSH MSA BTS FTS ".split(b" "))

    def test_more_messages_than_a_batch_may_have(self) -> None:
        """Refused and kept as one; the connection goes on."""
        line = Listening(batch=2)
        long = b"BHS|^~\\&|LAB\r" + message("1") + message("2") + message("3") + b"BTS|3\r"
        line.send(long, message("1") + message("2") + message("3"), message("4"))
        self.assertEqual(line.codes(), ["AR", "AE|1", "AA|4"])
        self.assertEqual(line.intake.kept[0].body, long)
        self.assertEqual([envelope.idempotency_key for envelope in line.intake.kept[:2]], ["", ""])

    def test_a_sequence_without_headers(self) -> None:
        """Several messages in one frame are answered one by one."""
        line = Listening()
        line.send(message("1") + message("2"))
        self.assertEqual(line.codes(), ["AA|1", "AA|2"])
