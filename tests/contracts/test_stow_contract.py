"""The STOW-RS destination against a server that does what the test says."""

import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.dicom.forward.options import STOW
from adapters.dicom.forward.stow import StowDestination
from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import BodyRef
from tests.contracts.destination_contract import DestinationContract
from tests.support.dicom_instances import Folder, context, instance, parcel, uid
from tests.support.stow_peer import StowPeer


class StowContract(DestinationContract, TestCase):
    def start_peer(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        return StowPeer()

    def make(self, **options):
        return self.to(self.peer.port, **options)

    def make_nowhere(self):
        return self.to(1)

    def to(self, port, **options):
        settings = STOW.defaults(url=f"http://127.0.0.1:{port}/dicom-web", **{"connections": 2, "together": 4, **options})
        return StowDestination(settings, context(self.data, reactor))

    def parcel(self, number, body=None):
        return parcel(number, body)

    @inlineCallbacks
    def again(self, **options):
        """Another destination, with other options."""
        yield self.destination.close()
        self.destination = self.make(**options)
        yield self.destination.open()

    def all(self, *numbers):
        """What becomes of each."""
        return gatherResults([self.destination.deliver(parcel(number)).addErrback(lambda f: f.value) for number in numbers])

    @inlineCallbacks
    def test_several_go_together_and_each_hears_its_own(self):
        """One too big for its neighbours' request goes alone; a failure is that instance's alone."""
        self.peer.fails = {uid(2): 0xA900, uid(3): 0xA700, uid(4): 0xC122}
        ends = yield self.all(1, 2, 3, 4)
        self.assertEqual(self.peer.groups, [[uid(1), uid(2), uid(3), uid(4)]])
        self.assertEqual([type(end) for end in ends[1:]], [PermanentDelivery, TransientDelivery, PermanentDelivery])
        self.assertIn(f"/instances/{uid(1)}", ends[0].reference)
        self.assertEqual(
            [end.text[-30:] for end in ends[1:3]],
            ["ata set does not match SOP class"[-30:], "he server answered A700H out of resources"[-30:]],
        )
        self.peer.groups.clear()
        big = [parcel(5), parcel(6, instance(6, pixels=1 << 20)), parcel(7)]
        yield self.again(together_size="1MB")
        yield gatherResults([self.destination.deliver(one) for one in big])
        self.assertEqual(sorted(map(len, self.peer.groups)), [1, 1, 1])

    @inlineCallbacks
    def test_what_the_answer_does_not_name_is_uncertain(self):
        """A 200 alone proves nothing."""
        self.peer.silent_about = {uid(2)}
        ends = yield self.all(1, 2)
        self.assertEqual(type(ends[1]), UncertainDelivery)
        self.peer.status, self.peer.answer = 200, b""
        ends = yield self.all(3)
        self.assertEqual(type(ends[0]), UncertainDelivery)

    @inlineCallbacks
    def test_a_refusal_of_several_together_sends_each_alone(self):
        """One of them may be at fault, and then the others must not suffer."""
        self.peer.status = 400
        ends = yield self.all(1, 2, 3)
        self.assertEqual([type(end) for end in ends], [PermanentDelivery] * 3)
        self.assertEqual(len(self.peer.requests), 4)

    @inlineCallbacks
    def test_a_body_that_was_altered_on_disk_is_not_sent_as_if_it_were_the_image(self):
        """The server never sees the end of that request, and the neighbours of the damaged one arrive."""
        folder = Folder(self.data / "bodies")
        good, bad = folder.keep(instance(1, pixels=1 << 20)), folder.keep(instance(2, pixels=1 << 20))
        path = folder.file(bad)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        yield self.again(together_size="16MB")
        ends = yield gatherResults(
            [self.destination.deliver(parcel(n, ref)).addErrback(lambda f: f.value) for n, ref in ((1, good), (2, bad))]
        )
        self.assertEqual(type(ends[1]), PermanentDelivery)
        self.assertEqual(self.peer.taken, ["1"])
        missing = yield self.assertFailure(self.destination.deliver(parcel(3, BodyRef("0" * 64, 5))), PermanentDelivery)
        self.assertIn("gone", missing.text)

    @inlineCallbacks
    def test_reading_back_compares_the_data_sets(self):
        """From the server that we know, whatever host the Retrieve URL names."""
        yield self.again(verify="retrieve")
        ends = yield self.all(1, 2)
        self.assertTrue(all("read back" in end.reference for end in ends))
        self.peer.altered = True
        ends = yield self.all(3)
        self.assertEqual(type(ends[0]), PermanentDelivery)
        self.peer.altered = False
        self.peer.stored = {}
        self.peer._give = lambda uid: b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"
        ends = yield self.all(4)
        self.assertEqual(type(ends[0]), TransientDelivery)

    @inlineCallbacks
    def test_what_is_no_instance_is_permanent(self):
        for body in (b"", b"garbage" * 100):
            yield self.assertFailure(self.destination.deliver(parcel(1, body)), PermanentDelivery)

    @inlineCallbacks
    def test_close_waits_for_what_is_under_way(self):
        """And for what waits behind it."""
        results = [self.destination.deliver(parcel(number)) for number in range(1, 20)]
        yield self.destination.close()
        self.closed = True
        yield gatherResults(results)
        self.assertEqual(len(self.peer.taken), 19)
