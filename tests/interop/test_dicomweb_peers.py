"""Foreign DICOMweb clients: dicomweb-client, Orthanc as sender, curl with client certificates; then a whole node, and a large object."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from pydicom.data import get_testdata_file
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from adapters.dicom.web.part10 import data_set_offset
from engine.bench.loopback import free_port
from engine.message import BodyRef
from tests.support.certs import Trust
from tests.support.dicom_instances import STUDY, instance, uid
from tests.support.dicomweb import BOUNDARY, RELATED, AnsweringIntake, archive, ask, body, context, source
from tests.support.orthanc import Orthanc
from tests.support.peers import PATIENCE, require

FILES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm", "reportsi.dcm", "rtdose.dcm", "waveform_ecg.dcm")

CLIENT = """
import io, sys
import pydicom
from dicomweb_client.api import DICOMwebClient
client = DICOMwebClient(sys.argv[1])
files = [pydicom.dcmread(path) for path in sys.argv[2:]]
stored = client.store_instances(files)
uids = [one.ReferencedSOPInstanceUID for one in stored.ReferencedSOPSequence]
assert uids == [one.SOPInstanceUID for one in files], uids
assert "FailedSOPSequence" not in stored
print("stored")
sys.stdout.flush()
sys.stdin.readline()
studies = client.search_for_studies()
assert {one["0020000D"]["Value"][0] for one in studies} == {one.StudyInstanceUID for one in files}
assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
assert len(client.search_for_series()) == len({one.SeriesInstanceUID for one in files})
assert len(client.search_for_instances(fields=["all"])) == len(files)
for file in files:
    place = dict(study_instance_uid=file.StudyInstanceUID, series_instance_uid=file.SeriesInstanceUID, sop_instance_uid=file.SOPInstanceUID)
    (found,) = client.search_for_instances(search_filters={"SOPInstanceUID": file.SOPInstanceUID})
    assert found["00080016"]["Value"] == [file.SOPClassUID]
    instance = client.retrieve_instance(**place, media_types=(("application/dicom", "*"),))
    assert instance == file, file.filename
    (same,) = client.retrieve_study(file.StudyInstanceUID, media_types=(("application/dicom", "*"),))
    assert same == file
    metadata = client.retrieve_instance_metadata(**place)
    assert metadata["00080018"]["Value"] == [file.SOPInstanceUID]
    if "PixelData" not in file:
        continue
    syntax = file.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        expected = list(pydicom.encaps.generate_frames(file.PixelData, number_of_frames=int(file.get("NumberOfFrames", 1))))
        kinds = {"1.2.840.10008.1.2.5": "image/dicom-rle", "1.2.840.10008.1.2.4.91": "image/jp2"}
        frames = client.retrieve_instance_frames(**place, frame_numbers=[1], media_types=((kinds[syntax], syntax),))
    else:
        size = len(file.PixelData) // int(file.get("NumberOfFrames", 1))
        expected = [file.PixelData[:size]]
        frames = client.retrieve_instance_frames(**place, frame_numbers=[1])
        assert client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"]) == [file.PixelData]
    assert frames == expected[:1], file.filename
    image = client.retrieve_instance_rendered(**place, media_types=("image/png",))
    assert image.startswith(b"\\x89PNG"), image[:20]
print("done")
"""


class PeerTests(TestCase):
    """A server with an archive, which the test fills with what the intake got."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.intake = AnsweringIntake()
        self.source = None

    def tearDown(self):
        return self.source.stop() if self.source is not None else None

    def listen(self, tls=None, **options):
        made = context(self.folder, reactor, tls=tls)
        self.source = source(self.folder, reactor, made, archive="dicom", **options)
        return self.source.start(self.intake)

    def bodies(self):
        """What has been kept."""
        spool = self.folder / "spool"
        return [(spool / one.body.digest).read_bytes() if isinstance(one.body, BodyRef) else one.body for one in self.intake.kept]

    @inlineCallbacks
    def test_dicomweb_client_stores_searches_and_retrieves(self):
        """Every transaction that it has, over files of several kinds."""
        require(importlib.util.find_spec("dicomweb_client") is not None, "dicomweb-client is not installed")
        port = free_port()  # its Host header has no port: the server is told its address
        yield self.listen(listen=f"127.0.0.1:{port}", public_url=f"http://127.0.0.1:{port}/dicom-web")
        paths = [str(path) for name in FILES if (path := get_testdata_file(name, download=False))]
        base = f"http://127.0.0.1:{self.source.port}/dicom-web"
        said = yield deferToThread(self.run_client, base, paths)
        self.assertEqual(said[1][-1500:], "done")

    def run_client(self, base, paths):
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, base, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        ) as process:
            watchdog = threading.Timer(PATIENCE, process.kill)
            watchdog.start()
            first = process.stdout.readline()
            archive(self.folder, self.bodies())
            rest, _ = process.communicate("go on\n")
            watchdog.cancel()
        said = (first + rest).strip().splitlines()
        return process.returncode, said[-1] if process.returncode == 0 else first + rest

    @inlineCallbacks
    def test_orthanc_sends_what_it_has(self):
        """Its DICOMweb plug-in stores a study here; the data sets are those that it was given, and it hears of no failure."""
        yield self.listen()
        server = {
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "Servers": {"here": [f"http://127.0.0.1:{self.source.port}/dicom-web"]}}
        }
        pacs = Orthanc(self.folder / "orthanc", **server)
        yield deferToThread(pacs.start)
        try:
            contents = [instance(number) for number in range(1, 30)] + [
                Path(get_testdata_file(name, download=False)).read_bytes() for name in FILES
            ]
            given = {one[data_set_offset(one) :] for one in contents}
            ids = yield deferToThread(lambda: [post(pacs, "/instances", one)["ID"] for one in contents])
            answer = yield deferToThread(
                post, pacs, "/dicom-web/servers/here/stow", json.dumps({"Resources": ids, "Synchronous": True}).encode()
            )
        finally:
            yield deferToThread(pacs.stop)
        self.assertEqual(int(answer["InstancesCount"]), len(contents))
        kept = self.bodies()
        self.assertEqual({one[data_set_offset(one) :] for one in kept}, given)
        self.assertEqual(len(kept), len(contents))
        self.assertEqual([one for one in self.intake.invalid if one is not None], [])

    @inlineCallbacks
    def test_curl_with_a_client_certificate(self):
        """Stores and reads as the party that its certificate proves; without one it does not come in; who is no reader may only store."""
        curl = shutil.which("curl")
        require(curl is not None, "curl is not installed")
        trust = Trust(self.folder / "trust", reactor)
        yield self.listen_mutual(trust)
        (self.folder / "body").write_bytes(body(instance(1), instance(2, pixels=262144)))
        address = f"https://localhost:{self.source.port}/dicom-web"

        def call(party, *arguments):
            shown = ["--cert", f"{trust.issue(party)}/node.pem", "--key", f"{self.folder}/trust/{party}/node.key"] if party else []
            return getProcessOutputAndValue(
                curl, ["-s", "-w", "\n%{http_code}", "--cacert", f"{self.folder}/trust/here/ca.pem", *shown, *arguments], env=os.environ
            )

        store = ("-H", f"Content-Type: {RELATED}", "--data-binary", f"@{self.folder}/body", f"{address}/studies")
        out, _, _ = yield call("modality", *store)
        text, status = out.rsplit(b"\n", 1)
        self.assertEqual(status, b"200")
        self.assertEqual(len(json.loads(text)["00081199"]["Value"]), 2)
        self.assertIn("modality", self.intake.kept[0].peer)
        archive(self.folder, self.bodies())
        out, _, _ = yield call(
            "viewer", "-H", 'Accept: multipart/related; type="application/dicom"; transfer-syntax=*', f"{address}/studies/{STUDY}"
        )
        self.assertIn(instance(2, pixels=262144), out)
        out, _, _ = yield call("modality", f"{address}/studies")
        self.assertEqual(out.rsplit(b"\n", 1)[1], b"403")
        for party in ("", "stranger"):
            out, _, code = yield call(party, *store)
            self.assertNotEqual((party, code), (party, 0))
        self.assertEqual(len(self.intake.kept), 2)

    def listen_mutual(self, trust):
        made = context(self.folder, reactor, tls=trust.provider("here"))
        tls = {"client_auth": "required", "allow": ["modality", "viewer"]}
        self.source = source(self.folder, reactor, made, tls=tls, archive={"folder": "dicom", "readers": ["viewer"]})
        return self.source.start(self.intake)

    @inlineCallbacks
    def test_a_large_object_in_and_out_in_little_memory(self):
        """300 MB by STOW-RS and back by WADO-RS: neither way is it in memory."""
        yield self.listen()
        size = 300 << 20
        head = instance(1).split(bytes([1] * 512))[0]
        head = head[:-4] + size.to_bytes(4, "little")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def chunks():
            yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + head
            for _ in range(size >> 20):
                yield bytes(1 << 20)
            yield f"\r\n--{BOUNDARY}--\r\n".encode()

        stored = yield ask(self.source.port, "/dicom-web/studies", "POST", chunks(), content_type=RELATED)
        self.assertEqual(stored.status, 200)
        (kept,) = self.intake.kept
        self.assertEqual((kept.control_id, kept.body.size), (uid(1), len(head) + size))
        path = self.folder / "spool" / kept.body.digest
        faults = yield deferToThread(self.keep_file, path, kept.body.digest)
        self.assertEqual(faults, [])
        got = yield deferToThread(self.fetch, f"/dicom-web/studies/{STUDY}")
        self.assertEqual(got, len(head) + size)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        self.assertLess(grown, size // 3)

    def keep_file(self, path, digest):
        from adapters.dicom.archive.book import Arrival, Book

        book = Book(self.folder / "dicom", lambda: 1)
        book.open()
        try:
            return [one.fault for one in book.keep([Arrival(path, digest)]) if one.fault]
        finally:
            book.close()

    def fetch(self, path):
        """How long the only part is, read in pieces."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.source.port}{path}", headers={"Accept": "*/*"})
        with urllib.request.urlopen(request) as answer:
            size = sum(len(block) for block in iter(lambda: answer.read(1 << 20), b""))
            around = len("--\r\nContent-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1\r\n\r\n\r\n----\r\n") + 2 * 40
            return size - around


def post(pacs, path, content):
    request = urllib.request.Request(f"http://127.0.0.1:{pacs.http}{path}", content)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())
