"""Orthanc queries an archive and has what it finds sent to itself (C-FIND, C-MOVE)."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pydicom
from pydicom.data import get_testdata_file
from twisted.internet import reactor as _reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from adapters.dicom import adapter
from engine.bench.loopback import HOST, free_port
from tests.contracts.source_contract import HeldIntake
from tests.support.dicom_archive import Archive, context, instance
from tests.support.orthanc import Orthanc

reactor: Any = _reactor


class OrthancTests(TestCase):
    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.folder = Path(self.mktemp())
        self.archive = Archive(self.folder / "dicom")
        port = free_port()
        self.orthanc = Orthanc(self.folder / "orthanc", {"MERIDIAN": ["MERIDIAN", HOST, port]}, DefaultEncoding="Utf8")
        self.source = adapter.source(
            adapter.source_options.defaults(listen=f"{HOST}:{port}", archive={"destinations": {"ORTHANC": f"{HOST}:{self.orthanc.dicom}"}}),
            context(reactor, self.folder),
        )
        yield self.source.start(HeldIntake())
        yield deferToThread(self.orthanc.start)

    @inlineCallbacks
    def tearDown(self):  # type: ignore[no-untyped-def]
        yield deferToThread(self.orthanc.stop)
        yield self.source.stop()
        self.archive.close()

    def post(self, path: str, content: Any) -> Any:
        return deferToThread(self._post, path, json.dumps(content).encode())

    def _post(self, path: str, content: bytes) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.orthanc.http}{path}", content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    @inlineCallbacks
    def test_it_finds_and_retrieves(self):  # type: ignore[no-untyped-def]
        """A study by the patient's Chinese name, all of its instances, as they are: compressed ones too."""
        compressed = Path(str(get_testdata_file("examples_jpeg2k.dcm", download=False)))
        self.archive.keep(
            *[instance(number, PatientName="王^小明") for number in (1, 2, 3)],
            instance(study="2", PatientID="P2", PatientName="Doe"),
            compressed,
        )
        asked = yield self.post(
            "/modalities/MERIDIAN/query", {"Level": "Study", "Query": {"PatientName": "王*", "NumberOfStudyRelatedInstances": ""}}
        )
        (found,) = yield deferToThread(self.orthanc.get, f"/queries/{asked['ID']}/answers")
        said = yield deferToThread(self.orthanc.get, f"/queries/{asked['ID']}/answers/{found}/content?simplify")
        self.assertEqual((said["PatientName"], said["NumberOfStudyRelatedInstances"], said["StudyInstanceUID"]), ("王^小明", "3", "2.25.1"))
        yield self.post(f"/queries/{asked['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
        have = yield deferToThread(self.orthanc.sop_instances)
        self.assertEqual(have, [f"2.25.1.1.{number}" for number in (1, 2, 3)])

        original = pydicom.dcmread(compressed)
        asked = yield self.post("/modalities/MERIDIAN/query", {"Level": "Study", "Query": {"StudyInstanceUID": original.StudyInstanceUID}})
        yield self.post(f"/queries/{asked['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
        everything = yield deferToThread(self.orthanc.get, "/instances?expand")
        (got,) = [one["ID"] for one in everything if one["MainDicomTags"]["SOPInstanceUID"] == original.SOPInstanceUID]
        (self.folder / "got.dcm").write_bytes((yield deferToThread(self.orthanc.file, f"/instances/{got}/file")))
        again = pydicom.dcmread(self.folder / "got.dcm")
        self.assertEqual(again.file_meta.TransferSyntaxUID, original.file_meta.TransferSyntaxUID)
        self.assertEqual(again.PixelData, original.PixelData)

    @inlineCallbacks
    def test_series_and_instances(self):  # type: ignore[no-untyped-def]
        """As its own explorer asks, level by level."""
        self.archive.keep(*[instance(number, series) for series in "12" for number in (1, 2)])
        for level, query, expected in (
            ("Series", {"StudyInstanceUID": "2.25.1"}, 2),
            ("Instance", {"StudyInstanceUID": "2.25.1", "SeriesInstanceUID": "2.25.1.2"}, 2),
            ("Patient", {"PatientID": "P*"}, 1),
        ):
            asked = yield self.post("/modalities/MERIDIAN/query", {"Level": level, "Query": query})
            found = yield deferToThread(self.orthanc.get, f"/queries/{asked['ID']}/answers")
            self.assertEqual(len(found), expected, level)
