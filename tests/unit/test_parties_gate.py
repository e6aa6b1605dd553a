"""A channel that checks parties: what is refused, what is flagged, and what a refusal must not spoil."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from engine.channel import PartyCheck
from engine.identity import party_uri
from engine.message import HL7V2, Envelope, Judgement, Status, Verdict
from engine.parties import Kind, Mark, Party, Rule, Snapshot
from tests.support.pipeline import Flow, again, sample

WARD = Party("ward", Kind.INSTITUTION, marks=((Mark.SENDER, "HIS|WARD"),), may_send=("T",))
LABORATORY = Party("laboratory", Kind.INSTITUTION, marks=((Mark.SENDER, "LIS|LAB"),), may_send=("*",), channels=("elsewhere",))
UNREADABLE = Judgement(Verdict.INVALID, "no MSH", "100")


def flow(check: PartyCheck = PartyCheck.REFUSE, *parties: Party) -> Flow:
    made = Flow(parties=check)
    made.snapshot = Snapshot(parties or (WARD, LABORATORY))
    return made


def message(peer: str = "ward", sender: str = "HIS|WARD", **changes: object) -> Envelope:
    return again(sample(), sender=sender, peer=party_uri(peer) if peer else "", remote="10.0.0.9:4444", **changes)


IMPOSTOR = message("laboratory", body=b"forged")
"""Proven to be the laboratory, claims to be the ward, with the ward's control id."""


class RefuseTests(SynchronousTestCase):
    def test_who_may_is_let_through(self) -> None:
        """Nothing is audited or counted."""
        it = flow()
        (ack,) = it.send(message())
        self.assertEqual((ack.answer, it.audited, it.sample("meridian_parties_mismatch_total")), (b"accepted", [], None))

    def test_an_impostor_is_refused_kept_audited_and_counted(self) -> None:
        """It goes nowhere; the audit says who it was and which rule, and nothing of the content."""
        it = flow()
        (ack,) = it.send(IMPOSTOR)
        self.assertEqual((ack.judgement.verdict, ack.judgement.hl7_code, ack.answer), (Verdict.REFUSED, "207", b"refused"))
        self.assertEqual(it.store.status(it.store.messages[1]), Status.FILTERED)
        self.assertEqual((it.destination.waiting, it.sample("meridian_parties_mismatch_total")), ([], 1))
        facts = {
            "channel": "c", "rule": Rule.MISMATCH, "remote": "10.0.0.9:4444", "proven": party_uri("laboratory"), "party": "laboratory",
            "sender": "HIS|WARD", "control_id": "1",
        }  # fmt: skip
        self.assertEqual(it.audited, [("parties.refused", facts)])

    def test_an_impostor_uses_up_no_control_id(self) -> None:
        """The ward's own message with the same key and other content is taken, and its repetition hears the stored answer."""
        it = flow()
        it.send(IMPOSTOR)
        self.assertEqual([it.send(message())[0].duplicate for _ in range(2)], [False, True])
        self.assertEqual([parcel.body for parcel, _ in it.destination.waiting], [b"hello"])

    def test_an_impostor_does_not_hear_the_stored_answer(self) -> None:
        """The ward's very message, sent by somebody else, is refused and kept beside it."""
        it = flow()
        it.send(message())
        (ack,) = it.send(message("laboratory"))
        self.assertEqual((ack.answer, ack.duplicate, len(it.store.messages)), (b"refused", False, 2))

    def test_each_rule_says_itself(self) -> None:
        """Words for the sender, with a location only in HL7 v2, and nothing of who is registered."""
        for envelope, said, code, location in (
            (message("stranger"), "not a registered party", "207", "MSH-3"),
            (message("", "XX|YY"), "not a registered party", "207", "MSH-3"),
            (message("laboratory", "LIS|LAB"), "on this channel", "207", "MSH-3"),
            (message(message_type="ADT^A01"), "this message type", "200", "MSH-9"),
        ):
            for content_type, where in (("text/plain", ""), (HL7V2, location)):
                (ack,) = flow().send(again(envelope, content_type=content_type))
                self.assertIn(said, ack.judgement.reason)
                self.assertEqual((ack.judgement.hl7_code, ack.judgement.location), (code, where))

    def test_what_cannot_be_read(self) -> None:
        """From who may send here, and from nobody: quarantined as its source says. From somebody else: refused. Refused: stays so."""
        refused = Judgement(Verdict.REFUSED, "by the source", "207")
        for envelope, found, answer in (
            (message(message_type=""), UNREADABLE, b"invalid"),
            (message("", ""), UNREADABLE, b"invalid"),
            (message("stranger", ""), UNREADABLE, b"refused"),
            (message("stranger", ""), refused, b"refused"),
        ):
            it = flow()
            (ack,) = it.send(envelope, found)
            self.assertEqual(ack.answer, answer)
            self.assertEqual(bool(it.audited), answer == b"refused" and found is UNREADABLE)

    def test_a_long_sender_is_cut_in_the_audit(self) -> None:
        """Who floods with long claims fills the log no faster."""
        it = flow()
        it.send(message("ward", "X" * 100_000))
        self.assertEqual(len(str(it.audited[0][1]["sender"])), 200)


class FlagTests(SynchronousTestCase):
    def test_a_mismatch_is_taken_audited_and_counted(self) -> None:
        """With its key: sent again it is the same message."""
        it = flow(PartyCheck.FLAG)
        answers = [it.send(IMPOSTOR)[0] for _ in range(2)]
        self.assertEqual([(ack.answer, ack.duplicate) for ack in answers], [(b"accepted", False), (b"accepted", True)])
        self.assertEqual([event for event, _ in it.audited], ["parties.flagged"] * 2)
        self.assertEqual(it.sample("meridian_parties_mismatch_total"), 2)

    def test_the_channel_still_judges(self) -> None:
        """What is flagged can be refused for its content."""
        (ack,) = flow(PartyCheck.FLAG).send(message("stranger", body=b"refuse"))
        self.assertEqual(ack.judgement.reason, "not for this channel")


class DisabledTests(SynchronousTestCase):
    def test_a_disabled_party_is_refused_both_ways(self) -> None:
        """At the next message after the snapshot has changed, and taken again once it is enabled."""
        for check in (PartyCheck.REFUSE, PartyCheck.FLAG):
            it = flow(check)
            heard = []
            for number, disabled_at in enumerate((0, 1, 0)):
                it.snapshot = Snapshot([replace(WARD, disabled_at=disabled_at), LABORATORY])
                heard.append(it.send(message(control_id=str(number), idempotency_key=str(number)))[0].answer)
            self.assertEqual(heard, [b"accepted", b"refused", b"accepted"])
            self.assertEqual([(event, facts["rule"]) for event, facts in it.audited], [("parties.refused", Rule.DISABLED)])

    def test_a_repetition_from_a_disabled_party(self) -> None:
        """It is refused, whatever the first one has heard."""
        it = flow()
        it.send(message())
        it.snapshot = Snapshot([replace(WARD, disabled_at=1)])
        self.assertEqual(it.send(message())[0].answer, b"refused")

    def test_off_looks_at_nobody(self) -> None:
        """The default."""
        self.assertEqual(Flow().send(message("stranger"))[0].answer, b"accepted")
