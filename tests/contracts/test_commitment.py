"""Storage commitment as SCU against an SCP that does what the test says: reports on either association, wrong, late, not at all."""

import tempfile
from dataclasses import replace
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from adapters.dicom.forward import commitment
from adapters.dicom.forward.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, Notice, decode, encode
from adapters.dicom.forward.options import STORE
from adapters.dicom.forward.store_scu import StoreDestination
from adapters.dicom.upper import dimse
from adapters.dicom.upper.dimse import Field
from adapters.dicom.upper.exchange import Gathered
from adapters.dicom.upper.pdu import Roles
from adapters.dicom.upper.requestor import Proposal, associate
from engine.errors import TransientDelivery, UncertainDelivery
from tests.support.dicom_instances import context, instance, parcel, uid
from tests.support.dicom_node import Listener
from tests.support.dicom_peer import DicomPeer


class Committer:
    """The SCP's service: `how` is "same", "new" (association), "silent" or a status to refuse with; `failed` by SOP Instance UID."""

    def __init__(self):
        self.how, self.failed, self.report_to, self.before = "same", {}, 0, False
        self.asked, self.answers = [], []
        self._waiting, self._unanswered = [], []

    def was_asked(self):
        done = Deferred()
        self._waiting.append(done)
        return done

    def answered(self):
        """Fires when the next report has been answered."""
        done = Deferred()
        self._unanswered.append(done)
        return done

    def begin(self, request):
        return Gathered(request, lambda data: self._requested(request, data))

    def _requested(self, request, data):
        notice = decode(data, request.context.transfer_syntax)
        self.asked.append(notice)
        if isinstance(self.how, int):
            request.respond(self.how)
        elif self.how == "abort":
            request.exchange.abort()
        else:
            if self.before:  # odd, but it happens
                self._report(request.exchange, notice)
            request.respond(0)
            if self.how == "same" and not self.before:
                self._report(request.exchange, notice)
            elif self.how == "new":
                self.report_anew(notice)
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(notice)

    def _report(self, exchange, notice):
        good = [one for one in notice.instances if one[1] not in self.failed]
        bad = [(one, self.failed[one[1]]) for one in notice.instances if one[1] in self.failed]
        context_id = exchange.context_for(PUSH_MODEL)
        data = encode(Notice(notice.transaction_uid, good, bad), exchange.association.agreed[context_id].transfer_syntax)
        command = dimse.request(Field.N_EVENT_REPORT, PUSH_MODEL, PUSH_MODEL_INSTANCE, EventTypeID=2 if bad else 1)
        return exchange.request(command, data, context_id=context_id).addCallbacks(self._heard, lambda failure: None)

    def _heard(self, response):
        self.answers.append(response.status)
        waiting, self._unanswered = self._unanswered, []
        for done in waiting:
            done.callback(None)

    @inlineCallbacks
    def report_anew(self, notice):
        proposal = Proposal("PACS", "MERIDIAN", [(PUSH_MODEL, commitment.SYNTAXES)], {PUSH_MODEL: Roles(scu=False, scp=True)})
        association = yield associate(reactor, HostnameEndpoint(reactor, "127.0.0.1", self.report_to), proposal)
        yield self._report(association, notice)
        yield association.release()


class CommitmentTests(TestCase):
    @inlineCallbacks
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.shared = {}
        self.committer = Committer()
        self.peer = DicomPeer({PUSH_MODEL: self.committer})
        self.listener = Listener(self.data, self.shared, commitment={})
        yield self.listener.start()
        self.committer.report_to = self.listener.port
        self.destination = self.make()
        yield self.destination.open()

    @inlineCallbacks
    def tearDown(self):
        self.destination.wind_up()
        yield self.destination.close()
        yield self.listener.stop()
        yield self.peer.stop()

    def make(self, **options):
        asked = {"commitment": "required", "commitment_quiet": "50ms", "commitment_linger": "50ms", "timeout": "5s", **options}
        settings = STORE.defaults(peer=f"127.0.0.1:{self.peer.port}", called_ae="PACS", **asked)
        return StoreDestination(settings, replace(context(self.data, reactor, name="images/pacs"), shared=self.shared))

    @inlineCallbacks
    def restart(self, **options):
        """As a node does: wind up, close, open again."""
        self.destination.wind_up()
        yield self.destination.close()
        self.destination = self.make(**options)
        yield self.destination.open()

    def all(self, *numbers):
        return gatherResults([self.destination.deliver(parcel(number)).addErrback(lambda f: f.value) for number in numbers])

    @inlineCallbacks
    def test_delivered_means_committed(self):
        """Many instances, one transaction; the proof is in the receipt."""
        answered = self.committer.answered()
        ends = yield self.all(*range(1, 31))
        yield answered
        (notice,) = self.committer.asked
        self.assertEqual(sorted(one[1] for one in notice.instances), sorted(uid(number) for number in range(1, 31)))
        self.assertEqual({end.reference for end in ends}, {f"0000H, committed {notice.transaction_uid} by PACS"})
        self.assertEqual(self.committer.answers, [0])

    @inlineCallbacks
    def test_the_report_may_come_before_the_response(self):
        self.committer.before = True
        ends = yield self.all(1, 2)
        self.assertTrue(all("committed" in end.reference for end in ends))

    @inlineCallbacks
    def test_the_report_may_come_on_an_association_of_the_peers_own(self):
        """To a listener of this node, as SCP by role selection."""
        self.committer.how = "new"
        answered = self.committer.answered()
        ends = yield self.all(1, 2, 3)
        yield answered
        self.assertTrue(all("committed" in end.reference for end in ends))
        self.assertEqual(self.committer.answers, [0])

    @inlineCallbacks
    def test_each_failure_is_its_instances_own(self):
        """No such instance: sent again. Class not supported: never."""
        self.committer.failed = {uid(2): commitment.NO_SUCH_INSTANCE, uid(3): commitment.CLASS_NOT_SUPPORTED}
        ends = yield self.all(1, 2, 3)
        self.assertEqual([type(end).__name__ for end in ends], ["Receipt", "TransientDelivery", "PermanentDelivery"])
        self.committer.failed = {}
        (end,) = yield self.all(2)
        self.assertIn("committed", end.reference)
        self.assertEqual(sorted(self.peer.taken), ["1", "2", "2", "3"])

    @inlineCallbacks
    def test_silence_is_uncertain_after_its_time(self):
        yield self.restart(commitment_within="300ms")
        self.committer.how = "silent"
        (end,) = yield self.all(1)
        self.assertEqual(type(end), UncertainDelivery)
        self.committer.how = "same"
        (end,) = yield self.all(1)
        self.assertIn("committed", end.reference)

    @inlineCallbacks
    def test_a_peer_that_refuses_to_commit_pauses_the_destination(self):
        """And what it has stored already is not sent again for that."""
        for how in (0x0110, 0x0122, "abort"):
            self.committer.how = how
            (end,) = yield self.all(1)
            self.assertIn(type(end), (TransientDelivery, UncertainDelivery))
        self.committer.how = "same"
        (end,) = yield self.all(1)
        self.assertIn("committed", end.reference)
        self.assertIn(self.peer.taken, (["1"], ["1", "1"]))

    @inlineCallbacks
    def test_a_restart_remembers_what_was_asked_for(self):
        """Nothing is sent again; a report that comes while nobody waits is found, and one that comes later is waited for."""
        self.committer.how = "silent"
        results = self.all(1, 2)
        notice = yield self.committer.was_asked()
        yield deferLater(reactor, 0, lambda: None)
        yield self.restart()
        ends = yield results
        self.assertEqual({type(end) for end in ends}, {TransientDelivery})
        again = self.all(1, 2)
        yield self.committer.report_anew(notice)
        ends = yield again
        self.assertTrue(all("committed" in end.reference for end in ends))
        self.assertEqual(sorted(self.peer.taken), ["1", "2"])

    @inlineCallbacks
    def test_a_report_while_the_destination_is_closed_is_not_lost(self):
        self.committer.how = "silent"
        results = self.all(1)
        notice = yield self.committer.was_asked()
        self.destination.wind_up()
        yield self.destination.close()
        yield results
        yield self.committer.report_anew(notice)
        self.destination = self.make()
        yield self.destination.open()
        (end,) = yield self.all(1)
        self.assertIn("committed", end.reference)
        self.assertEqual(self.peer.taken, ["1"])

    @inlineCallbacks
    def test_another_instance_under_the_number_of_a_committed_one_is_sent(self):
        """As after a store that was begun anew beside an old file of commitments: nothing is taken for committed that was never sent."""
        yield self.all(1)
        yield self.restart()
        (end,) = yield gatherResults([self.destination.deliver(replace(parcel(2), seq=1))])
        self.assertIn("committed", end.reference)
        self.assertEqual(self.peer.taken, ["1", "2"])

    @inlineCallbacks
    def test_a_report_on_what_nobody_asked_for_is_refused(self):
        """Whoever reports must know the transaction's UID, which nobody can guess."""
        yield self.committer.report_anew(Notice("1.2.3", [("1.2", uid(1))]))
        self.assertEqual(self.committer.answers, [0x0115])

    @inlineCallbacks
    def test_two_parcels_of_one_instance_are_each_committed(self):
        """One after the other: a report tells instances apart by UID alone."""
        first, second = parcel(1), replace(parcel(1), seq=7, message_id=7)
        ends = yield gatherResults([self.destination.deliver(one) for one in (first, second)])
        self.assertEqual(len({end.reference for end in ends}), 2)


class RequestedOfUsTests(TestCase):
    """As SCP: requests are answered, and reported on when the archive has the instances."""

    @inlineCallbacks
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.reports, self._waiting = [], []
        self.peer = DicomPeer({PUSH_MODEL: self})
        yield self.start()

    @inlineCallbacks
    def start(self, **options):
        self.listener = Listener(
            self.data,
            commitment={"archive": "dicom", "within": "300ms", "known": {"MODALITY": f"127.0.0.1:{self.peer.port}"}, **options},
        )
        yield self.listener.start()

    @inlineCallbacks
    def tearDown(self):
        yield self.listener.stop()
        yield self.peer.stop()

    def begin(self, request):
        return Gathered(request, lambda data: self._heard(request, data))

    def _heard(self, request, data):
        request.respond(0)
        self.reports.append((request.command["EventTypeID"], decode(data, request.context.transfer_syntax)))
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    def reported(self):
        done = Deferred()
        self._waiting.append(done)
        return done

    def archive(self, *numbers):
        from adapters.dicom.archive.book import Arrival, Book

        book = Book(self.data / "dicom", lambda: 1)
        book.open()
        book.keep([Arrival(instance(number), f"d{number}") for number in numbers])
        book.close()

    @inlineCallbacks
    def ask(self, transaction, *numbers, calling="MODALITY", stay=True, action=1):
        services = {PUSH_MODEL: self}
        proposal = Proposal(calling, "MERIDIAN", [(PUSH_MODEL, commitment.SYNTAXES)])
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.listener.port)
        association = yield associate(reactor, endpoint, proposal, services=services)
        instances = [("1.2.840.10008.5.1.4.1.1.2", uid(number)) for number in numbers]
        command = dimse.request(Field.N_ACTION, PUSH_MODEL, PUSH_MODEL_INSTANCE, ActionTypeID=action)
        data = encode(Notice(transaction, instances), association.association.agreed[1].transfer_syntax)
        heard = self.reported()
        response = yield association.request(command, data, context_id=1)
        if stay and not response.status:
            yield heard
        yield association.release()
        return response.status, heard

    @inlineCallbacks
    def test_what_is_archived_is_committed_on_the_same_association(self):
        self.archive(1, 2)
        yield self.ask("1.2.3", 1, 2)
        ((event, notice),) = self.reports
        self.assertEqual((event, notice.transaction_uid, sorted(one[1] for one in notice.instances)), (1, "1.2.3", [uid(1), uid(2)]))
        self.assertEqual(self.peer.associations, [])

    @inlineCallbacks
    def test_what_is_not_there_in_time_has_failed(self):
        """Event type 2, with 0112H; and over a new association, where the requestor has released."""
        self.archive(1)
        _, heard = yield self.ask("1.2.4", 1, 9, stay=False)
        yield heard
        ((event, notice),) = self.reports
        self.assertEqual((event, [one[1] for one in notice.instances]), (2, [uid(1)]))
        self.assertEqual([(one[1], reason) for one, reason in notice.failed], [(uid(9), 0x0112)])
        self.assertEqual(len(self.peer.associations), 1)
        self.assertEqual(dict(self.peer.associations[0].roles), {PUSH_MODEL: Roles(scu=False, scp=True)})

    @inlineCallbacks
    def test_a_restart_still_owes_the_report(self):
        """The request is on disk before it is answered."""
        status, heard = yield self.ask("1.2.5", 1, stay=False)
        self.assertEqual(status, 0)
        yield self.listener.stop()
        self.archive(1)
        yield self.start()
        yield heard
        ((event, notice),) = self.reports
        self.assertEqual((event, notice.transaction_uid), (1, "1.2.5"))

    @inlineCallbacks
    def test_what_cannot_be_asked(self):
        status, _ = yield self.ask("1.2.6", 1, action=2)
        self.assertEqual(status, 0x0123)
        status, _ = yield self.ask("1.2.6")
        self.assertEqual(status, 0x0115)
