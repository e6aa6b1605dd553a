"""The C-STORE destination against a Storage SCP that does what the test says."""

import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.dicom.forward.options import STORE
from adapters.dicom.forward.part10 import read_meta
from adapters.dicom.forward.store_scu import StoreDestination
from adapters.dicom.upper.pdu import AssociateReject
from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import BodyRef
from tests.contracts.destination_contract import DestinationContract
from tests.support.dicom_instances import CT, Folder, context, instance, parcel, uid
from tests.support.dicom_peer import DicomPeer

MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


class StoreContract(DestinationContract, TestCase):
    def start_peer(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        return DicomPeer()

    def make(self, **options):
        return self.to(self.peer.port, **options)

    def make_nowhere(self):
        return self.to(1)

    def to(self, port, **options):
        settings = STORE.defaults(peer=f"127.0.0.1:{port}", called_ae="PACS", **{"associations": 3, **options})
        return StoreDestination(settings, context(self.data, reactor))

    def parcel(self, number, body=None):
        return parcel(number, body)

    @inlineCallbacks
    def again(self, **options):
        yield self.destination.close()
        self.destination = self.make(**options)
        yield self.destination.open()

    def all(self, *parcels):
        """What becomes of each."""
        return gatherResults([self.destination.deliver(one).addErrback(lambda f: f.value) for one in parcels])

    @inlineCallbacks
    def test_the_data_set_is_what_it_was(self):
        """Byte for byte, from memory and from a file, whatever its size."""
        folder = Folder(self.data / "bodies")
        contents = [instance(1), instance(2, pixels=1 << 20), instance(3, syntax=IMPLICIT)]
        yield self.all(*(parcel(number, content) for number, content in enumerate(contents, 1)))
        refs = [folder.keep(content) for content in (instance(4), instance(5, pixels=1 << 20))]
        yield self.all(parcel(4, refs[0]), parcel(5, refs[1]))
        for number, content in enumerate([*contents, instance(4), instance(5, pixels=1 << 20)], 1):
            self.assertEqual(self.peer.stored[uid(number)], content[read_meta(content[:16384]).offset :])
        self.assertEqual(self.peer.syntaxes[uid(3)], IMPLICIT)

    @inlineCallbacks
    def test_an_association_is_used_again_and_released_when_idle(self):
        """One for as many as come one after the other; a new SOP class needs a new one, which then takes both."""
        yield self.again(associations=1, idle="100ms")
        for number in (1, 2, 3):
            yield self.destination.deliver(parcel(number))
        self.assertEqual(len(self.peer.associations), 1)
        yield self.destination.deliver(parcel(4, instance(4, sop_class=MR)))
        for number in (5, 6):
            yield self.destination.deliver(parcel(number, instance(number, sop_class=CT if number == 5 else MR)))
        self.assertEqual(len(self.peer.associations), 2)
        self.assertEqual([one.abstract_syntax for one in self.peer.associations[1].contexts], [CT, MR])
        yield self.peer.ended_one()
        self.assertEqual((len(self.peer.open), self.peer.released), (0, 2))
        yield self.destination.deliver(parcel(7))
        self.assertEqual(len(self.peer.associations), 3)

    @inlineCallbacks
    def test_each_status_means_what_the_standard_says(self):
        """PS3.4 table B.2-1."""
        taken = {1: 0x0000, 2: 0xB000, 3: 0xB006, 4: 0xB007}
        transient = {5: 0xA700, 6: 0xA7FF, 7: 0x0110}
        permanent = {8: 0xA900, 9: 0xA9EE, 10: 0xC000, 11: 0xC1FF, 12: 0x0122, 13: 0x0124}
        self.peer.statuses = {uid(number): status for number, status in {**taken, **transient, **permanent}.items()}
        ends = yield self.all(*(parcel(number) for number in range(1, 14)))
        self.assertEqual([end.reference[:5] for end in ends[:4]], ["0000H", "B000H", "B006H", "B007H"])
        self.assertEqual({type(end) for end in ends[4:7]}, {TransientDelivery})
        self.assertEqual([end.whole_destination for end in ends[4:7]], [True, True, False])
        self.assertEqual({type(end) for end in ends[7:]}, {PermanentDelivery})
        self.assertIn(b"as the test says", ends[7].answer)

    @inlineCallbacks
    def test_a_rejection_pauses_the_destination(self):
        """For now or permanently: the agreement is at fault, not the images."""
        for result, after in ((1, 60.0), (2, None)):
            self.peer.reject = AssociateReject(result, 1, 7)
            error = yield self.assertFailure(self.destination.deliver(parcel(1)), TransientDelivery)
            self.assertEqual((error.whole_destination, error.retry_after), (True, after))
        self.peer.reject = None
        yield self.destination.deliver(parcel(1))

    @inlineCallbacks
    def test_an_abort_is_uncertain(self):
        """For the instance that was under way."""
        self.peer.mode = "abort"
        yield self.assertFailure(self.destination.deliver(parcel(1)), UncertainDelivery)

    @inlineCallbacks
    def test_no_response_in_time_is_uncertain_and_pauses(self):
        yield self.again(timeout="200ms")
        self.peer.mode = "hold"
        error = yield self.assertFailure(self.destination.deliver(parcel(1)), UncertainDelivery)
        self.assertTrue(error.whole_destination)

    @inlineCallbacks
    def test_what_the_peer_does_not_take_is_refused_rather_than_changed(self):
        """And changed only to what the channel says."""
        self.peer.takes = (IMPLICIT,)
        error = yield self.assertFailure(self.destination.deliver(parcel(1)), PermanentDelivery)
        self.assertIn("does not take its transfer syntax", error.text)
        self.assertEqual(self.peer.taken, [])
        yield self.again(transcode="implicit-le")
        folder = Folder(self.data / "bodies")
        ends = yield self.all(parcel(1), parcel(2, folder.keep(instance(2))), parcel(3, instance(3, syntax=IMPLICIT)))
        self.assertEqual([end.reference[:5] for end in ends], ["0000H"] * 3)
        wanted = instance(1, syntax=IMPLICIT)
        self.assertEqual(self.peer.stored[uid(1)], wanted[read_meta(wanted[:16384]).offset :])
        self.assertEqual(list((self.data / "transcoding").iterdir()), [])

    @inlineCallbacks
    def test_a_body_that_was_altered_on_disk_is_not_sent_to_its_end(self):
        """The peer has no whole image of it; the others go on."""
        folder = Folder(self.data / "bodies")
        bad = folder.keep(instance(1, pixels=1 << 20))
        path = folder.file(bad)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        ends = yield self.all(parcel(1, bad), parcel(2), parcel(3, BodyRef("0" * 64, 5)))
        self.assertEqual([type(end).__name__ for end in ends], ["PermanentDelivery", "Receipt", "PermanentDelivery"])
        self.assertEqual(self.peer.taken, ["2"])

    @inlineCallbacks
    def test_a_peer_that_takes_fewer_associations_gets_them_all_the_same(self):
        """Over those that it gave us."""
        self.peer.refusal = lambda acceptor, request: AssociateReject(2, 3, 2) if self.peer.open else None
        ends = yield self.all(*(parcel(number) for number in range(1, 10)))
        self.assertEqual({type(end).__name__ for end in ends}, {"Receipt"})

    @inlineCallbacks
    def test_close_waits_for_what_is_under_way(self):
        """And releases its associations."""
        results = [self.destination.deliver(parcel(number)) for number in range(1, 20)]
        yield self.destination.close()
        self.closed = True
        yield DeferredList(results)
        self.assertEqual(len(self.peer.taken), 19)
