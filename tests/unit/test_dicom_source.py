"""The `dicom` source without a network: what is kept, what each verdict is answered with, who may associate, what is limited."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from adapters.dicom.instances import read_file_facts
from adapters.dicom.options import SOURCE
from adapters.dicom.policies import Policies
from adapters.dicom.services import is_storage
from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.exchange import Parties
from adapters.dicom.upper.failures import PeerAborted, Rejected
from adapters.dicom.upper.negotiation import EXPLICIT_LE, IMPLICIT_LE
from engine.errors import StoreFull
from engine.identity import party_uri
from engine.message import DICOM, BodyRef, Judgement, Verdict
from tests.support.dicom import CT, MPPS, VERIFICATION, Receiving, data_set

BIG = bytes(200_000)
PRIVATE = "1.2.826.0.1.3680043.99.1"


class StorageTests(SynchronousTestCase):
    def test_an_instance_is_kept_as_received(self) -> None:
        """The data set's bytes unaltered, in a file whose meta information says what it is and who sent it."""
        receiving = Receiving()
        pair = receiving.associate()
        (response,) = receiving.store(pair, "1.2.3")
        self.assertEqual(response.status, Status.SUCCESS)
        (envelope,) = receiving.intake.kept
        assert isinstance(envelope.body, bytes)
        facts = read_file_facts(envelope.body)
        self.assertEqual(envelope.body[facts.meta_length :], data_set("1.2.3"))
        self.assertEqual((facts.transfer_syntax, facts.source), (EXPLICIT_LE, "MODALITY"))

    def test_the_envelope(self) -> None:
        """What the channel, the search and the ledger see."""
        receiving = Receiving()
        receiving.store(receiving.associate(), "1.2.3")
        (envelope,) = receiving.intake.kept
        self.assertEqual((envelope.content_type, envelope.message_type, envelope.control_id), (DICOM, "CTImageStorage", "1.2.3"))
        self.assertEqual((envelope.sender, envelope.remote, envelope.patient_ids), ("MODALITY", "10.0.0.9:4444", ("4711",)))
        self.assertEqual((envelope.idempotency_key, envelope.content_digest), ("1.2.3", sha256(data_set("1.2.3")).digest()))
        self.assertEqual(
            envelope.facts,
            {
                "ae_title": "MODALITY",
                "called_ae": "MERIDIAN",
                "sop_class": CT,
                "transfer_syntax": EXPLICIT_LE,
                "modality": "CT",
                "study_uid": "1.2.3.4",
                "series_uid": "1.2.3.4.5",
                "accession_number": "A1",
            },
        )

    def test_a_large_one_goes_to_a_spool_in_pieces(self) -> None:
        """And the body is a reference to it."""
        receiving = Receiving()
        content = data_set("1.2.3", pixels=BIG)
        receiving.store(receiving.associate(), "1.2.3", content)
        (envelope,), (spool,) = receiving.intake.kept, receiving.spools
        assert isinstance(envelope.body, BodyRef)
        self.assertEqual(bytes(spool.content[-len(content) :]), content)
        self.assertEqual((spool.finished, envelope.body.digest), (True, sha256(spool.content).hexdigest()))
        self.assertEqual(envelope.content_digest, sha256(content).digest())

    def test_nothing_is_answered_before_the_commit(self) -> None:
        """Rule 1 of the house."""
        receiving = Receiving(at_once=False)
        pair = receiving.associate()
        self.assertEqual(receiving.store(pair), [])
        self.assertEqual(pair.far.sent, [])
        receiving.intake.answer(0)
        pair.flow()
        self.assertEqual(len(receiving.intake.kept), 1)
        self.assertTrue(pair.requestor.quiet)

    def test_each_verdict_has_its_status(self) -> None:
        """With an error comment that says why (0000,0902)."""
        cases = [
            (Judgement(Verdict.REFUSED, "not for this channel", "200"), 0x0124, "not for this channel"),
            (Judgement(Verdict.INVALID, "content at fault", "207"), 0xC000, "content at fault"),
            (Judgement(Verdict.INVALID, "used before", "205"), 0x0111, "used before"),
            (Judgement(Verdict.UNAVAILABLE, "send again later", "207"), 0xA700, "send again later"),
        ]
        receiving = Receiving()
        pair = receiving.associate()
        for judgement, status, comment in cases:
            receiving.intake.judgement = judgement
            (response,) = receiving.store(pair)
            self.assertEqual((response.status, response.command["ErrorComment"]), (status, comment))

    def test_a_data_set_that_is_not_what_the_command_says(self) -> None:
        """A900H for another class or instance, C000H for what cannot be read: kept, as invalid."""
        cases = [
            (data_set("9.9.9"), 0xA900),
            (data_set("1.2.3", sop_class="1.2.840.10008.5.1.4.1.1.4"), 0xA900),
            (b"no data set at all", 0xC000),
            (b"", 0xC000),
            (data_set("1.2.3")[:20], 0xC000),
        ]
        receiving = Receiving()
        pair = receiving.associate()
        for content, status in cases:
            (response,) = receiving.store(pair, "1.2.3", content)
            self.assertEqual(response.status, status, content[:30])
            self.assertTrue(response.command["ErrorComment"])
        self.assertEqual([one.verdict for one in receiving.intake.invalid if one is not None], [Verdict.INVALID] * 5)
        self.assertEqual(receiving.faults(), {"unusable": 5.0})

    def test_no_instance_uid_or_no_data_set(self) -> None:
        """There is nothing to be kept."""
        receiving = Receiving()
        pair = receiving.associate()
        (response,) = receiving.store(pair, AffectedSOPInstanceUID=None)
        self.assertEqual(response.status, 0xC000)
        (response,) = pair.result(pair.requestor.request(dimse.request(Field.C_STORE, CT, "1.2.3")))
        self.assertEqual((response.status, receiving.intake.kept), (0xC000, []))

    def test_a_full_disk(self) -> None:
        """A700H, whether it is full at the beginning or in the middle; and all is well again afterwards."""
        receiving = Receiving()
        pair = receiving.associate()
        content = data_set(pixels=bytes(3 << 20))
        receiving.refuse_spool = StoreFull("no room")
        self.assertEqual([one.status for one in receiving.store(pair, data=content)], [0xA700])
        receiving.refuse_spool, receiving.room = None, 1_500_000
        self.assertEqual([one.status for one in receiving.store(pair, data=content)], [0xA700])
        receiving.room = None
        self.assertEqual([one.status for one in receiving.store(pair, data=content)], [0])
        self.assertEqual(len(receiving.intake.kept), 1)

    def test_one_larger_than_the_channel_takes(self) -> None:
        """It is read to its end, since the peer hears nothing before; nothing of it stays."""
        receiving = Receiving(max_size="100KB")
        pair = receiving.associate()
        (response,) = receiving.store(pair, data=data_set(pixels=BIG))
        self.assertEqual((response.status, receiving.intake.kept), (0xC000, []))
        self.assertTrue(all(spool.aborted for spool in receiving.spools))

    def test_an_association_that_ends_inside_a_data_set(self) -> None:
        """Nothing of it was acknowledged, nothing is kept."""
        receiving = Receiving()
        pair = receiving.associate()
        pair.requestor.request(dimse.request(Field.C_STORE, CT, "1.2.3"), data_set(pixels=bytes(3 << 20)))
        sent = pair.near.taken()
        pair.acceptor.dataReceived(sent[: len(sent) // 2])
        pair.acceptor.connectionLost()
        self.assertEqual((receiving.intake.kept, [spool.aborted for spool in receiving.spools]), ([], [True]))
        self.assertEqual(receiving.faults(), {"cut_off": 1.0, "lost": 1.0})

    def test_it_is_not_read_while_the_disk_is_behind(self) -> None:
        """At most `in_flight_size` waits in memory."""
        jobs: list[tuple[Deferred[Any], Any, Any]] = []

        def held(function: Any, *arguments: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            jobs.append((done, function, arguments))
            return done

        receiving = Receiving(run=held, in_flight_size="2MB")
        pair = receiving.associate()
        pair.chunk = 1 << 18
        done = pair.requestor.request(dimse.request(Field.C_STORE, CT, "1.2.3"), data_set(pixels=bytes(20 << 20)))
        sent, fed = pair.near.taken(), 0
        for _ in range(200):
            while not pair.far.paused and fed < len(sent):
                pair.acceptor.dataReceived(sent[fed : fed + (1 << 18)])
                fed += 1 << 18
            self.assertLessEqual(fed - sum(len(spool.content) for spool in receiving.spools), 4 << 20)
            if not jobs:
                break
            future, function, arguments = jobs.pop(0)
            future.callback(function(*arguments))
        self.assertEqual([one.status for one in pair.result(done)], [0])

    def test_several_operations_at_once(self) -> None:
        """Where the peer negotiated it, one that waits for its commit does not hold up the next."""
        receiving = Receiving(at_once=False)
        pair = receiving.associate(window=4)
        for number in range(3):
            receiving.store(pair, f"1.2.{number}")
        self.assertEqual(len(receiving.intake.kept), 3)
        for index in (2, 0, 1):
            receiving.intake.answer(index)
        pair.flow()
        self.assertTrue(pair.requestor.quiet)


class ServicesTests(SynchronousTestCase):
    def test_echo_and_other_operations(self) -> None:
        """What a SOP class does not have is an unrecognized operation."""
        receiving = Receiving()
        pair = receiving.associate((VERIFICATION, [IMPLICIT_LE]), (CT, [EXPLICIT_LE]))
        for field, uid, status in ((Field.C_ECHO, VERIFICATION, 0), (Field.C_FIND, VERIFICATION, 0x0211), (Field.C_ECHO, CT, 0x0211)):
            (response,) = pair.result(pair.requestor.request(dimse.request(field, uid)))
            self.assertEqual(response.status, status)

    def test_every_storage_class_in_any_transfer_syntax(self) -> None:
        """Also those pynetdicom knows, and private syntaxes; other SOP classes are not taken."""
        from pynetdicom.sop_class import _STORAGE_CLASSES

        self.assertEqual([name for name, uid in _STORAGE_CLASSES.items() if not is_storage(uid)], [])
        self.assertEqual([uid for uid in ("1.2.840.10008.1.20.1", MPPS, "1.2.840.10008.1.3.10", PRIVATE) if is_storage(uid)], [])
        receiving = Receiving()
        pair = receiving.associate((CT, [PRIVATE + ".9"]), ("1.2.840.10008.5.1.4.31", [IMPLICIT_LE]), (PRIVATE, [IMPLICIT_LE]))
        self.assertEqual([one.abstract_syntax for one in pair.requestor.association.agreed.values()], [CT])

    def test_private_classes_where_the_channel_says_so(self) -> None:
        """`unknown_sop_classes: accept`; never one that DICOM has given another meaning."""
        receiving = Receiving(unknown_sop_classes="accept")
        pair = receiving.associate((PRIVATE, [IMPLICIT_LE]), ("1.2.840.10008.5.1.4.31", [IMPLICIT_LE]))
        self.assertEqual([one.abstract_syntax for one in pair.requestor.association.agreed.values()], [PRIVATE])

    def test_only_some_transfer_syntaxes(self) -> None:
        receiving = Receiving(transfer_syntaxes=[IMPLICIT_LE])
        pair = receiving.associate((CT, [EXPLICIT_LE]), (CT, [EXPLICIT_LE, IMPLICIT_LE]))
        self.assertEqual([one.transfer_syntax for one in pair.requestor.association.agreed.values()], [IMPLICIT_LE])

    def test_procedure_steps_are_messages(self) -> None:
        """N-CREATE and N-SET, with the status that the channel's destination gives."""
        receiving = Receiving(procedure_steps=True, at_once=False)
        pair = receiving.associate((MPPS, [EXPLICIT_LE]))
        done = pair.requestor.request(dimse.request(Field.N_CREATE, MPPS, "1.2.9"), b"")
        pair.flow()
        (envelope,) = receiving.intake.kept
        self.assertEqual((envelope.message_type, envelope.control_id, envelope.idempotency_key), ("MPPS^CREATE", "1.2.9", ""))
        deferred, _, judgement = receiving.intake.waiting[0]
        from engine.message import Ack

        deferred.callback(Ack(judgement, dimse.answer(0x0110, "already completed", b"\1\2"), 1))
        (response,) = pair.result(done)
        self.assertEqual((response.status, response.command["ErrorComment"], response.data), (0x0110, "already completed", b"\1\2"))

    def test_a_procedure_step_without_a_uid_is_given_one(self) -> None:
        """PS3.7 clause 10.1.5.1.4; an N-SET must name its own."""
        receiving = Receiving(procedure_steps=True)
        pair = receiving.associate((MPPS, [EXPLICIT_LE]))
        (response,) = pair.result(pair.requestor.request(dimse.request(Field.N_CREATE, MPPS), b""))
        uid = response.command["AffectedSOPInstanceUID"]
        self.assertRegex(uid, r"^2\.25\.[1-9][0-9]{20,38}$")
        self.assertEqual([one.control_id for one in receiving.intake.kept], [uid])
        (response,) = pair.result(pair.requestor.request(dimse.request(Field.N_SET, MPPS), b""))
        self.assertEqual(response.status, Status.INVALID_OBJECT_INSTANCE)

    def test_procedure_steps_only_where_the_channel_says_so(self) -> None:
        pair = Receiving().associate((MPPS, [EXPLICIT_LE]), (CT, [EXPLICIT_LE]))
        self.assertEqual([one.abstract_syntax for one in pair.requestor.association.agreed.values()], [CT])


class PolicyTests(SynchronousTestCase):
    def rejected(self, receiving: Receiving, **proposal: Any) -> Any:
        pair = receiving.associate(**proposal)
        return self.failureResultOf(pair.requestor.established, Rejected).value.reject

    def test_another_called_title(self) -> None:
        """Rejected by the user, permanently: called AE title not recognized; audited."""
        receiving = Receiving(called=["MERIDIAN"])
        receiving.associate()
        self.assertEqual(self.rejected(receiving, called="ELSE"), (1, 1, 7))
        self.assertEqual([event for event, _ in receiving.audited], ["dicom.refused"])

    def test_another_calling_title(self) -> None:
        receiving = Receiving(calling={"10.0.0.0/8": ["CT1"]})
        receiving.associate(calling="CT1")
        self.assertEqual(self.rejected(receiving, calling="CT2"), (1, 1, 3))

    def test_who_may_use_which_title(self) -> None:
        """The party that a certificate proves comes first, then the smallest network, then all others."""
        policies = Policies([], {"radiology": ["CT1"], "10.1.0.0/16": ["US1"], "10.1.2.3": ["*"], "*": ["PUBLIC"]})

        def may(calling: str, remote: str, peer: str = "") -> bool:
            return policies.refusal(Parties(calling, "M", party_uri(peer) if peer else "", f"{remote}:104")) is None

        self.assertTrue(may("CT1", "192.0.2.1", "radiology"))
        self.assertFalse(may("US1", "10.1.0.1", "radiology"))
        self.assertTrue(may("US1", "10.1.0.1"))
        self.assertFalse(may("CT1", "10.1.0.1"))
        self.assertTrue(may("ANYTHING", "10.1.2.3"))
        self.assertTrue(may("PUBLIC", "192.0.2.1"))
        self.assertFalse(may("CT1", "192.0.2.1"))
        self.assertTrue(may("PUBLIC", "2001:db8::1"))

    def test_names_that_look_like_addresses_must_be_some(self) -> None:
        for name in ("10.1.2", "10.1.2.3/8/9", "10.0.0.1/8"):
            with self.assertRaises(ValueError):
                SOURCE.defaults(listen=104, calling={name: ["A"]})

    def test_too_many_associations(self) -> None:
        """Rejected for now (local limit exceeded); room again when one has ended."""
        receiving = Receiving(associations=1)
        first = receiving.associate()
        self.assertEqual(self.rejected(receiving), (2, 3, 2))
        first.result(first.requestor.release())
        self.assertIsNone(receiving.associate().requestor.ended)

    def test_a_crowd_of_connections(self) -> None:
        """What never proposes anything is not let in without end."""
        receiving = Receiving(associations=1)
        wires = [receiving.connect()[1] for _ in range(20)]
        self.assertEqual([wire.aborted for wire in wires], [False] * 17 + [True] * 3)
        self.assertEqual(receiving.faults(), {"crowded": 3.0})

    def test_one_address_leaves_room_for_others(self) -> None:
        receiving = Receiving(associations=10, associations_per_address=1)
        receiving.associate()
        self.assertEqual(self.rejected(receiving), (2, 3, 2))
        receiving.host = "10.0.0.10"
        self.assertIsNone(receiving.associate().requestor.ended)

    def test_one_that_breaks_the_protocol_harms_no_other(self) -> None:
        receiving = Receiving()
        good, (bad, wire) = receiving.associate(), receiving.connect()
        bad.dataReceived(b"\xff" * 100)
        receiving.clock.advance(31)
        self.assertTrue(wire.aborted)
        self.assertEqual([one.status for one in receiving.store(good)], [0])


class StopTests(SynchronousTestCase):
    def test_what_was_handed_in_is_answered(self) -> None:
        receiving = Receiving(at_once=False)
        pair = receiving.associate()
        heard = receiving.store(pair)
        stopped = receiving.source.stop()
        self.assertNoResult(stopped)
        receiving.intake.answer(0)
        pair.flow()
        self.assertEqual([one.status for one in heard], [0])
        self.assertIsInstance(pair.requestor.ended, PeerAborted)
        receiving.clock.advance(31)
        pair.acceptor.connectionLost()
        self.successResultOf(stopped)
