"""STOW-RS to Orthanc: files arrive as they are, together and alone, large ones in little memory, and are read back."""

import hashlib
import resource
import tempfile
from pathlib import Path

from pydicom.data import get_testdata_file
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.dicom.forward.options import STOW
from adapters.dicom.forward.part10 import read_meta
from adapters.dicom.forward.stow import StowDestination
from engine.errors import DeliveryError
from tests.support.dicom_instances import Folder, context, instance, parcel, uid
from tests.support.orthanc import Orthanc

FILES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "JPEG-LL.dcm", "reportsi.dcm", "test-SR.dcm", "chrH31.dcm")


class OrthancTests(TestCase):
    """One PACS for all."""

    @inlineCallbacks
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.pacs = Orthanc(self.data / "orthanc")
        yield deferToThread(self.pacs.start)

    @inlineCallbacks
    def tearDown(self):
        yield deferToThread(self.pacs.stop)

    def destination(self, **options):
        settings = STOW.defaults(url=f"http://127.0.0.1:{self.pacs.http}/dicom-web", timeout="120s", **options)
        return StowDestination(settings, context(self.data, reactor))

    @inlineCallbacks
    def test_files_arrive_unaltered_and_are_read_back(self):
        """pydicom's, in several transfer syntaxes; those that Orthanc does not take are refused one by one."""
        contents = [Path(get_testdata_file(name, download=False)).read_bytes() for name in FILES if get_testdata_file(name, download=False)]
        contents += [instance(number) for number in range(1, 40)]
        destination = self.destination(verify="retrieve")
        yield destination.open()
        ends = yield gatherResults(
            [destination.deliver(parcel(seq, content)).addErrback(lambda f: f.value) for seq, content in enumerate(contents)]
        )
        yield destination.close()
        refused = [(end.text, seq) for seq, end in enumerate(ends) if isinstance(end, DeliveryError)]
        self.assertEqual(refused, [])
        self.assertTrue(all("read back" in end.reference and "/instances/" in end.reference for end in ends))
        kept = yield deferToThread(self.pacs.sop_instances)
        self.assertEqual(kept, sorted(read_meta(content[:16384]).sop_instance for content in contents))

    @inlineCallbacks
    def test_a_large_one_is_streamed(self):
        """300 MB through a destination whose memory does not grow by a tenth of that; the server has every byte."""
        large = instance(77, pixels=512)
        filler = b"\x09\x00\x10\x00LO\x04\x00TEST" + b"\x09\x00\x01\x10OB\x00\x00" + (300 << 20).to_bytes(4, "little")
        meta = read_meta(large[:16384])
        split = meta.offset + large[meta.offset :].index(b"\x10\x00\x10\x00PN")
        folder = Folder(self.data / "bodies")
        path = self.data / "large.dcm"
        with path.open("wb") as file:
            file.write(large[:split] + filler)
            for _ in range(300):
                file.write(bytes(1 << 20))
            file.write(large[split:])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path.rename(folder.path / digest)
        ref = folder.keep(b"")
        ref = type(ref)(digest, (folder.path / digest).stat().st_size)
        destination = self.destination()
        yield destination.open()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        receipt = yield destination.deliver(parcel(77, ref))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        yield destination.close()
        self.assertIn(uid(77), receipt.reference)
        self.assertLess(grown, 30 << 10)
        (one,) = yield deferToThread(self.pacs.get, "/instances")
        statistics = yield deferToThread(self.pacs.get, f"/instances/{one}/attachments/dicom/size")
        self.assertEqual(statistics, ref.size)
