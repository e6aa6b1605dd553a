"""C-FIND, C-MOVE and C-GET asked by dcmtk: findscu, movescu, getscu; storescp as move destination."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from adapters.dicom import adapter
from engine.bench.loopback import HOST, free_port
from tests.contracts.source_contract import HeldIntake
from tests.support.certs import Trust
from tests.support.dicom_archive import CHARSET_FILES, Archive, context, instance
from tests.support.peers import require

reactor: Any = _reactor
DCMTK = Path("/usr/bin")


def dcmtk(program: str) -> str:
    """By its full path: pynetdicom installs scripts of the same names."""
    path = DCMTK / program
    require(path.is_file() and shutil.which(str(path)) is not None, f"dcmtk's {program} is not installed")
    return str(path)


class StoreScp(ProcessProtocol):
    """storescp: `ready` fires when it listens."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port, self.folder = free_port(), folder
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.said = ""
        folder.mkdir()
        command = [dcmtk("storescp"), "-v", "-aet", "STORE", "-od", str(folder), *arguments, str(self.port)]
        reactor.spawnProcess(self, command[0], command, env={**os.environ, "TCP_NODELAY": "1"})

    def errReceived(self, data: bytes) -> None:
        self.said += data.decode("latin-1")

    def outReceived(self, data: bytes) -> None:
        self.errReceived(data)

    def connectionMade(self) -> None:
        reactor.callLater(0, self._look)

    def _look(self) -> None:
        """dcmtk says nothing when it listens, so its socket is looked for."""
        listening = f":{self.port:04X} 00000000:0000 0A"
        if any(listening in Path(f"/proc/net/{kind}").read_text().replace(":" + "0" * 32, ":") for kind in ("tcp",)):
            self.ready.callback(None)
        else:
            reactor.callLater(0.02, self._look)

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(None)

    def stop(self) -> Deferred[None]:
        self.transport.signalProcess("TERM")
        return self.ended


class DcmtkTests(TestCase):
    """A node's listener with an archive of two patients and all character sets."""

    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.archive = Archive(self.folder / "dicom")
        self.archive.keep(*[instance(number, series) for series in ("1", "2") for number in range(1, 4)])
        self.archive.keep(instance(1, study="2", PatientID="P2", PatientName="王^小明", Modality="US", StudyDate="20260101"))
        self.audited: list[Any] = []
        self.store = StoreScp(self.folder / "stored")
        self.source = adapter.source(
            adapter.source_options.defaults(
                listen=f"{HOST}:0", archive={"destinations": {"STORE": f"{HOST}:{self.store.port}", "NOBODY": f"{HOST}:{free_port()}"}}
            ),
            context(reactor, self.folder, audited=self.audited),
        )
        yield self.source.start(HeldIntake())
        yield self.store.ready

    @inlineCallbacks
    def tearDown(self):  # type: ignore[no-untyped-def]
        yield self.source.stop()
        yield self.store.stop()
        self.archive.close()

    @inlineCallbacks
    def run_dcmtk(self, program: str, *arguments: str):  # type: ignore[no-untyped-def]
        """What it said, and its exit code."""
        command = [dcmtk(program), "-v", "-aec", "MERIDIAN", *arguments]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        out, err, code = yield getProcessOutputAndValue(command[0], [*command[1:]], env=environment)
        return (out + err).decode("latin-1"), code

    @inlineCallbacks
    def find(self, *keys: str, model: str = "-S", query: Path | None = None):  # type: ignore[no-untyped-def]
        """The answers of findscu."""
        folder = Path(self.mktemp())
        folder.mkdir()
        arguments = [argument for key in keys for argument in ("-k", key)]
        said, code = yield self.run_dcmtk(
            "findscu", model, "-X", "-od", str(folder), *arguments, HOST, str(self.source.port), *([str(query)] if query else [])
        )
        self.assertEqual(code, 0, said)
        self.said = said
        return [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("*.dcm"))]

    @inlineCallbacks
    def test_a_study_is_found_with_what_was_asked_for(self):  # type: ignore[no-untyped-def]
        """Counts are worked out, and it says where to retrieve it; it was audited before."""
        (found,) = yield self.find(
            "0008,0052=STUDY", "PatientName=doe*", "StudyDate=20261101-20261201", "NumberOfStudyRelatedInstances", "ModalitiesInStudy"
        )
        self.assertEqual((found.PatientName, found.StudyInstanceUID, found.NumberOfStudyRelatedInstances), ("Doe^Jo", "2.25.1", 6))
        self.assertEqual((found.RetrieveAETitle, found.QueryRetrieveLevel, found.ModalitiesInStudy), ("MERIDIAN", "STUDY", "CT"))
        ((event, facts),) = self.audited
        self.assertEqual((event, facts["level"], facts["keys"]), ("archive.query", "STUDY", ["00080020", "00100010"]))

    @inlineCallbacks
    def test_a_request_in_chinese(self):  # type: ignore[no-untyped-def]
        """GB18030 in, GB18030 out."""
        asked = Dataset()
        asked.SpecificCharacterSet, asked.QueryRetrieveLevel, asked.PatientName, asked.PatientID = "GB18030", "STUDY", "王*", ""
        query = self.folder / "query.dcm"
        asked.save_as(query, implicit_vr=False, little_endian=True)
        found = yield self.find(query=query)
        self.assertEqual([(one.SpecificCharacterSet, one.PatientName, one.PatientID) for one in found], [("GB18030", "王^小明", "P2")])

    @inlineCallbacks
    def test_patients(self):  # type: ignore[no-untyped-def]
        """Patient Root; what is asked in ASCII and cannot be answered in it comes in Unicode."""
        found = yield self.find("0008,0052=PATIENT", "PatientName", "PatientID", "NumberOfPatientRelatedInstances", model="-P")
        said = [(one.get("SpecificCharacterSet"), one.PatientName, one.NumberOfPatientRelatedInstances) for one in found]
        self.assertEqual(said, [(None, "Doe^Jo", 6), ("ISO_IR 192", "王^小明", 1)])

    @inlineCallbacks
    def test_levels_and_models(self):  # type: ignore[no-untyped-def]
        """Series of a study, images of a series; a key too few is answered A900H."""
        series = yield self.find("0008,0052=SERIES", "StudyInstanceUID=2.25.1", "SeriesNumber", "NumberOfSeriesRelatedInstances")
        self.assertEqual(
            [(one.SeriesInstanceUID, one.NumberOfSeriesRelatedInstances) for one in series], [("2.25.1.1", 3), ("2.25.1.2", 3)]
        )
        images = yield self.find("0008,0052=IMAGE", "StudyInstanceUID=2.25.1", "SeriesInstanceUID=2.25.1.2", "InstanceNumber")
        self.assertEqual([one.InstanceNumber for one in images], [1, 2, 3])
        yield self.find("0008,0052=SERIES", "SeriesNumber")
        self.assertIn("DataSetDoesNotMatchSOPClass", self.said)

    @inlineCallbacks
    def test_every_character_set(self):  # type: ignore[no-untyped-def]
        """Each file's patient is found, and named as pydicom reads the name from the file."""
        readable = [path for path in CHARSET_FILES if "SQEncoding" not in path.name]
        self.archive.keep(*readable)
        for path in readable:
            original = pydicom.dcmread(path)
            charset = original.SpecificCharacterSet
            named = charset if isinstance(charset, str) else "\\".join(charset)
            found = yield self.find("0008,0052=STUDY", f"0008,0005={named}", f"StudyInstanceUID={original.StudyInstanceUID}", "PatientName")
            self.assertEqual(len(found), 1, path.name)
            self.assertEqual(str(found[0].PatientName).rstrip("="), str(original.PatientName).rstrip("="), path.name)

    @inlineCallbacks
    def test_move(self):  # type: ignore[no-untyped-def]
        """The instances of a series, byte for byte."""
        said, code = yield self.run_dcmtk(
            "movescu",
            "-S",
            "-aem",
            "STORE",
            "-k",
            "0008,0052=SERIES",
            "-k",
            "StudyInstanceUID=2.25.1",
            "-k",
            "SeriesInstanceUID=2.25.1.2",
            HOST,
            str(self.source.port),
        )
        self.assertEqual(code, 0, said)
        stored = sorted(self.store.folder.iterdir())
        self.assertEqual([pydicom.dcmread(path).SOPInstanceUID for path in stored], [f"2.25.1.2.{number}" for number in (1, 2, 3)])
        self.assertEqual([facts["instances"] for event, facts in self.audited if event == "archive.retrieve"], [3])

    @inlineCallbacks
    def test_move_where_nobody_is(self):  # type: ignore[no-untyped-def]
        """A801H for a destination that is not known, A702H for one that does not answer."""
        keys = ("-k", "0008,0052=STUDY", "-k", "StudyInstanceUID=2.25.1", HOST, str(self.source.port))
        said, _ = yield self.run_dcmtk("movescu", "-d", "-S", "-aem", "ELSEWHERE", *keys)
        self.assertIn("0xa801", said)
        said, _ = yield self.run_dcmtk("movescu", "-d", "-S", "-aem", "NOBODY", *keys)
        self.assertIn("0xa702", said)

    @inlineCallbacks
    def test_get(self):  # type: ignore[no-untyped-def]
        """On the same association; the files are the data sets that came."""
        folder = self.folder / "got"
        folder.mkdir()
        said, code = yield self.run_dcmtk(
            "getscu", "-S", "-od", str(folder), "-k", "0008,0052=STUDY", "-k", "StudyInstanceUID=2.25.1", HOST, str(self.source.port)
        )
        self.assertEqual(code, 0, said)
        self.assertEqual(len({pydicom.dcmread(path).SOPInstanceUID for path in folder.iterdir()}), 6)

    @inlineCallbacks
    def test_get_of_what_is_stored_in_implicit_vr(self):  # type: ignore[no-untyped-def]
        """getscu proposes one presentation context for a SOP class, with Explicit VR first: what it gets is the same data set."""
        path = Path(str(get_testdata_file("MR_small_implicit.dcm", download=False)))
        self.archive.keep(path)
        original = pydicom.dcmread(path)
        folder = self.folder / "got"
        folder.mkdir()
        keys = ("-k", "0008,0052=STUDY", "-k", f"StudyInstanceUID={original.StudyInstanceUID}")
        said, code = yield self.run_dcmtk("getscu", "-S", "-od", str(folder), *keys, HOST, str(self.source.port))
        self.assertEqual(code, 0, said)
        (got,) = map(pydicom.dcmread, folder.iterdir())
        self.assertNotEqual(got.file_meta.TransferSyntaxUID, original.file_meta.TransferSyntaxUID)
        self.assertEqual((got.PixelData, got.PatientName, len(got)), (original.PixelData, original.PatientName, len(original)))


class DcmtkTlsTests(TestCase):
    """A move destination over mutual TLS."""

    @inlineCallbacks
    def test_move_over_tls(self):  # type: ignore[no-untyped-def]
        """storescp wants our certificate, and we want that of the party which the channel names; another is not sent to."""
        folder = Path(self.mktemp())
        folder.mkdir()
        trust = Trust(folder / "trust", reactor)
        theirs, authority = trust.issue("pacs"), trust.folder / "authority" / "ca.pem"
        tls = ("+tls", str(theirs / "node.key"), str(theirs / "node.pem"), "+cf", str(authority), "+px")
        store = StoreScp(folder / "stored", *tls)
        archive = Archive(folder / "dicom")
        archive.keep(instance(1), instance(2))
        where = {"connect": f"localhost:{store.port}"}
        destinations = {"STORE": {**where, "tls": {"peer": "pacs"}}, "OTHER": {**where, "tls": {"peer": "somebody-else"}}}
        ambient = replace(context(reactor, folder), tls=trust.provider("meridian"))
        source = adapter.source(adapter.source_options.defaults(listen=f"{HOST}:0", archive={"destinations": destinations}), ambient)
        yield source.start(HeldIntake())
        yield store.ready
        said = {}
        for title in ("OTHER", "STORE"):
            keys = ("-k", "0008,0052=STUDY", "-k", "StudyInstanceUID=2.25.1", HOST, str(source.port))
            command = [dcmtk("movescu"), "-d", "-S", "-aec", "MERIDIAN", "-aem", title, *keys]
            out, err, _ = yield getProcessOutputAndValue(command[0], command[1:], env={**os.environ, "TCP_NODELAY": "1"})
            said[title] = (out + err).decode("latin-1")
        self.assertIn("0xa702", said["OTHER"])
        self.assertIn("0x0000: Success", said["STORE"])
        self.assertEqual(len(list(store.folder.iterdir())), 2)
        yield source.stop()
        yield store.stop()
        archive.close()
