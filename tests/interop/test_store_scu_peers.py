"""The C-STORE destination with foreign receivers: dcmtk's storescp, Orthanc with storage commitment, pynetdicom's SCP misbehaving."""

import hashlib
import os
import resource
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from pydicom.data import get_testdata_file
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.dicom.forward.options import STORE
from adapters.dicom.forward.part10 import read_meta
from adapters.dicom.forward.store_scu import StoreDestination
from engine.errors import DeliveryError, PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import Receipt
from tests.support.certs import Trust
from tests.support.dicom_instances import Folder, context, instance, parcel, uid
from tests.support.dicom_node import Listener
from tests.support.orthanc import Orthanc, free_port
from tests.support.peers import ROOT, python_script, require
from tests.support.waiting import until_listening

STORESCP = "/usr/bin/storescp"
FILES = (
    "CT_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "JPEG-LL.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm",
    "reportsi.dcm", "test-SR.dcm", "chrH31.dcm", "waveform_ecg.dcm", "rtplan.dcm", "color3d_jpeg_baseline.dcm",
)  # fmt: skip


def bundled():
    """The files inside the pydicom wheel, by name."""
    found = {name: get_testdata_file(name, download=False) for name in FILES}
    return {name: Path(path).read_bytes() for name, path in found.items() if path}


class Spoken(ProcessProtocol):
    """A process; `said(word)` fires when its output has the word."""

    def __init__(self):
        self.output, self._wanted = "", []
        self.ended = Deferred()

    def said(self, word):
        done = Deferred()
        self._wanted.append((word, done))
        self._look()
        return done

    def outReceived(self, data):
        self.output += data.decode(errors="replace")
        self._look()

    errReceived = outReceived  # noqa: N815

    def _look(self):
        for pair in [pair for pair in self._wanted if pair[0] in self.output]:
            self._wanted.remove(pair)
            pair[1].callback(None)

    def processEnded(self, reason):
        self.ended.callback(None)


class PeerCase(TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.destinations = []

    @inlineCallbacks
    def tearDown(self):
        for one in self.destinations:
            one.wind_up()
            yield one.close()

    def spawn(self, *command):
        process = Spoken()
        environment = {**os.environ, "TCP_NODELAY": "1", "PYTHONPATH": str(ROOT)}
        transport = reactor.spawnProcess(process, command[0], command, env=environment)

        def end():
            if not process.ended.called:
                transport.signalProcess("KILL")
            return process.ended

        self.addCleanup(end)
        return process

    @inlineCallbacks
    def to(self, port, called="PACS", shared=None, **options):
        settings = STORE.defaults(peer=f"127.0.0.1:{port}", called_ae=called, **options)
        made = StoreDestination(settings, replace(context(self.data, reactor, name="images/pacs"), shared={} if shared is None else shared))
        yield made.open()
        self.destinations.append(made)
        return made

    def send(self, destination, contents):
        return gatherResults(
            [
                destination.deliver(parcel(seq, content)).addErrback(lambda f: f.trap(DeliveryError) and f.value)
                for seq, content in enumerate(contents, 1)
            ]
        )


class DcmtkTests(PeerCase):
    @inlineCallbacks
    def storescp(self, *arguments):
        require(Path(STORESCP).exists(), "Debian package dcmtk is not installed")
        port, out = free_port(), self.data / "out"
        out.mkdir(exist_ok=True)
        self.spawn(STORESCP, "--verbose", "--output-directory", str(out), "+uf", *arguments, str(port))
        yield deferToThread(until_listening, port)
        return port, out

    @inlineCallbacks
    def test_data_sets_arrive_byte_for_byte(self):
        """In whatever transfer syntax they have; bit preserving on the other side."""
        port, out = yield self.storescp("--bit-preserving", "+xa", "--promiscuous")
        destination = yield self.to(port, associations=2)
        contents = [*bundled().values(), *(instance(number) for number in range(1, 20))]
        ends = yield self.send(destination, contents)
        refused = [(end.text, seq) for seq, end in enumerate(ends) if isinstance(end, DeliveryError)]
        self.assertEqual(refused, [])
        came = {}
        for path in out.iterdir():
            content = path.read_bytes()
            meta = read_meta(content[:16384])
            came[meta.sop_instance] = (meta.transfer_syntax, content[meta.offset :])
        for content in contents:
            meta = read_meta(content[:16384])
            self.assertEqual(came[meta.sop_instance][0], meta.transfer_syntax)
            pad = b"\0" * (len(content[meta.offset :]) % 2)  # a deflated one goes out with an even number of bytes
            self.assertTrue(came[meta.sop_instance][1] == content[meta.offset :] + pad)

    @inlineCallbacks
    def test_mutual_tls(self):
        """storescp that wants our certificate, and is the party that the channel names; another party gets nothing."""
        trust = Trust(self.data / "trust", reactor)
        trust.issue("pacs-party")
        ca = trust.folder / "pacs-party" / "ca.pem"
        keys = [str(trust.folder / "pacs-party" / name) for name in ("node.key", "node.pem")]
        port, out = yield self.storescp("+tls", *keys, "+cf", str(ca), "--require-peer-cert", "+py")
        provider = trust.provider("hospital")
        for peer, taken in (("pacs-party", True), ("another-party", False)):
            settings = STORE.defaults(peer=f"localhost:{port}", called_ae="PACS", tls={"peer": peer})
            destination = StoreDestination(settings, context(self.data, reactor, tls=provider))
            yield destination.open()
            self.destinations.append(destination)
            (end,) = yield self.send(destination, [instance(1 + taken)])
            self.assertEqual((peer, type(end)), (peer, Receipt if taken else TransientDelivery))
        self.assertTrue(end.whole_destination)
        self.assertEqual(len(list(out.iterdir())), 1)

    @inlineCallbacks
    def test_what_it_does_not_take_is_named(self):
        """storescp that prefers uncompressed: JPEG is refused, the rest goes."""
        port, _out = yield self.storescp("--prefer-uncompr")
        destination = yield self.to(port)
        files = bundled()
        ends = yield self.send(destination, [files["CT_small.dcm"], files["JPEG2000.dcm"]])
        self.assertEqual([type(end).__name__ for end in ends], ["Receipt", "PermanentDelivery"])
        self.assertIn("does not take its transfer syntax", ends[1].text)

    @inlineCallbacks
    def test_it_is_changed_to_what_the_channel_says(self):
        """Explicit to Implicit Little Endian; the pixels are the same."""
        from pydicom import dcmread

        port, out = yield self.storescp("--implicit")
        destination = yield self.to(port, transcode="implicit-le")
        content = bundled()["CT_small.dcm"]
        (end,) = yield self.send(destination, [content])
        self.assertTrue(end.reference.startswith("0000H"))
        (path,) = out.iterdir()
        self.assertEqual(dcmread(path).file_meta.TransferSyntaxUID, "1.2.840.10008.1.2")
        original = dcmread(get_testdata_file("CT_small.dcm", download=False))
        self.assertEqual(dcmread(path).PixelData, original.PixelData)

    @inlineCallbacks
    def test_a_large_one_is_streamed(self):
        """400 MB, through a destination whose memory does not grow by a tenth of that."""
        port, _out = yield self.storescp("--bit-preserving", "--ignore")
        content = instance(1)
        split = content.index(b"\xe0\x7f\x10\x00")
        path = self.data / "large"
        with path.open("wb") as file:
            file.write(content[:split] + b"\xe0\x7f\x10\x00OW\x00\x00" + (400 << 20).to_bytes(4, "little"))
            for number in range(400):
                file.write(bytes([number % 256]) * (1 << 20))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        folder = Folder(self.data / "bodies")
        shutil.move(path, folder.path / digest)
        ref = replace(folder.keep(b""), digest=digest, size=(folder.path / digest).stat().st_size)
        destination = yield self.to(port)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        receipt = yield destination.deliver(parcel(1, ref))
        self.assertTrue(receipt.reference.startswith("0000H"))
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 40 << 10)


class OrthancTests(PeerCase):
    """Its reports come on an association of its own, to a listener of this node."""

    @inlineCallbacks
    def setUp(self):
        super().setUp()
        self.shared = {}
        self.listener = Listener(self.data, self.shared, commitment={})
        yield self.listener.start()
        known = {"meridian": {"AET": "MERIDIAN", "Host": "127.0.0.1", "Port": self.listener.port, "AllowStorageCommitment": True}}
        self.pacs = Orthanc(self.data / "orthanc", known)
        yield deferToThread(self.pacs.start)

    @inlineCallbacks
    def tearDown(self):
        yield super().tearDown()
        yield self.listener.stop()
        yield deferToThread(self.pacs.stop)

    @inlineCallbacks
    def test_it_commits_what_it_has(self):
        destination = yield self.to(self.pacs.dicom, "ORTHANC", self.shared, commitment="required", commitment_quiet="200ms")
        contents = [*list(bundled().values())[:2], *(instance(number) for number in range(1, 60))]
        ends = yield self.send(destination, contents)
        self.assertEqual([end for end in ends if isinstance(end, DeliveryError)], [])
        self.assertTrue(all(", committed 2.25." in end.reference for end in ends))
        kept = yield deferToThread(self.pacs.sop_instances)
        self.assertEqual(kept, sorted(read_meta(content[:16384]).sop_instance for content in contents))

    @inlineCallbacks
    def test_it_gives_back_what_it_was_given(self):
        """By C-GET; and one that it has already, with other content, is found out."""
        destination = yield self.to(self.pacs.dicom, "ORTHANC", verify="retrieve")
        files = bundled()
        contents = [files["CT_small.dcm"], files["JPEG2000.dcm"], *(instance(number) for number in range(1, 6))]
        ends = yield self.send(destination, contents)
        self.assertEqual([end for end in ends if isinstance(end, DeliveryError)], [])
        self.assertEqual({end.reference for end in ends}, {"0000H, read back by ORTHANC"})
        (end,) = yield self.send(destination, [instance(1, StationName="OTHER")])
        self.assertEqual(type(end), PermanentDelivery)

    @inlineCallbacks
    def test_down_for_a_while(self):
        """Transient while it is down, then everything once."""
        destination = yield self.to(self.pacs.dicom, "ORTHANC", self.shared, commitment="required", commitment_quiet="100ms")
        yield self.send(destination, [instance(1)])
        yield deferToThread(self.pacs.stop)
        ends = yield self.send(destination, [instance(number) for number in (2, 3)])
        self.assertTrue(all(isinstance(end, TransientDelivery | UncertainDelivery) for end in ends))
        yield deferToThread(self.pacs.start)
        ends = yield self.send(destination, [instance(number) for number in (2, 3)])
        self.assertTrue(all("committed" in end.reference for end in ends))
        kept = yield deferToThread(self.pacs.sop_instances)
        self.assertEqual(kept, [uid(1), uid(2), uid(3)])


class PynetdicomTests(PeerCase):
    """A process of its own that does what its argument says: reject, abort, refuse, slow, commit on either association …"""

    @inlineCallbacks
    def scp(self, mode, report_to=0):
        process = self.spawn(*python_script(Path(__file__).parent / "dicom_peers" / "odd_scp.py"), mode, str(report_to))
        yield process.said("listening on ")
        yield process.said("\n")
        return int(process.output.partition("listening on ")[2].split()[0]), process

    @inlineCallbacks
    def test_each_odd_behaviour(self):
        for mode, kind, words in (
            ("reject-transient", TransientDelivery, "rejected for now"),
            ("reject-permanent", TransientDelivery, "rejected permanently"),
            ("abort", UncertainDelivery, "before the response"),
            ("A700", TransientDelivery, "out of resources"),
            ("C000", PermanentDelivery, "cannot understand"),
            ("slow", UncertainDelivery, "no response within"),
        ):
            port, _ = yield self.scp(mode)
            destination = yield self.to(port, timeout="1s")
            (end,) = yield self.send(destination, [instance(1)])
            self.assertEqual((mode, type(end)), (mode, kind))
            self.assertIn(words, end.text)

    @inlineCallbacks
    def test_it_takes_and_commits_on_the_same_association(self):
        port, _ = yield self.scp("commit-same")
        destination = yield self.to(port, commitment="required", commitment_quiet="100ms")
        ends = yield self.send(destination, [instance(number) for number in range(1, 10)])
        self.assertTrue(all("committed" in end.reference for end in ends))

    @inlineCallbacks
    def test_it_commits_some_on_a_new_association(self):
        """The one whose number is 3 it has not."""
        shared = {}
        listener = Listener(self.data, shared, commitment={})
        yield listener.start()
        port, _ = yield self.scp("commit-new", listener.port)
        destination = yield self.to(port, shared=shared, commitment="required", commitment_quiet="100ms")
        ends = yield self.send(destination, [instance(number) for number in range(1, 6)])
        yield listener.stop()
        self.assertEqual([type(end).__name__ for end in ends], ["Receipt", "Receipt", "TransientDelivery", "Receipt", "Receipt"])
