"""QIDO-RS and WADO-RS over loopback: every file of pydicom, read back byte for byte, frame by frame, and as images."""

import io
import json
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from engine.errors import StoreError
from tests.support.dicom_instances import STUDY, instance, uid
from tests.support.dicomweb import ANY, AnsweringIntake, archive, ask, context, source

OCTETS = 'multipart/related; type="application/octet-stream"'
NAMES = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm", "rtdose.dcm",
    "color3d_jpeg_baseline.dcm", "SC_rgb_jpeg_dcmtk.dcm", "examples_palette.dcm", "examples_ybr_color.dcm", "MR_small_RLE.dcm", "reportsi.dcm",
    "test-SR.dcm", "waveform_ecg.dcm", "image_dfl.dcm", "liver_1frame.dcm", "JPEGLSNearLossless_08.dcm", "rtplan.dcm", "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
)  # fmt: skip

NOT_SHOWN = {"reportsi.dcm", "test-SR.dcm", "waveform_ecg.dcm", "rtplan.dcm", "image_dfl.dcm"}
"""No pixels, or deflated."""


def files():
    """Name -> content. Where several have the same SOP Instance UID, as the MR in its transfer syntaxes, each is given one of its own."""
    found, seen = {}, set()
    for number, name in enumerate(NAMES):
        path = get_testdata_file(name, download=False)
        content = Path(path).read_bytes() if path else b""
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True) if content else {}
        if "StudyInstanceUID" not in header:
            continue
        if (own := str(header.SOPInstanceUID)) in seen:
            content = content.replace(own.encode(), f"{own[:-3]}1{number:02}".encode())
        seen.add(own)
        found[name] = content
    return found


FILES = files()


class ReadingTests(TestCase):
    """One archive for all."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.ct = [instance(number, PatientName="Wang^Xiao=王^小", SpecificCharacterSet="ISO_IR 192") for number in range(1, 6)]
        self.faults = archive(self.data, [*FILES.values(), *self.ct])
        self.audited = []
        made = context(self.data, reactor, audit=lambda event, **facts: self.audited.append((event, facts)))
        self.source = source(self.data, reactor, made, archive={"folder": "dicom", "most_results": 20})
        self.addCleanup(self.source.stop)
        return self.source.start(AnsweringIntake())

    def ask(self, path, **headers):
        return ask(self.source.port, f"/dicom-web{path}", **headers)

    def place(self, name):
        """The address of an instance."""
        found = pydicom.dcmread(io.BytesIO(FILES[name]), stop_before_pixels=True)
        return f"/studies/{found.StudyInstanceUID}/series/{found.SeriesInstanceUID}/instances/{found.SOPInstanceUID}"

    # --- search ------------------------------------------------------------------------------------

    @inlineCallbacks
    def test_studies_are_found_by_what_they_are(self):
        """By keyword, by tag, by name in another script, by several keys, by UID; none is 204."""
        for query in (
            "PatientID=P1",
            "00100020=P1",
            "PatientName=%E7%8E%8B*",
            "AccessionNumber=A1&StudyDate=20251231-20260102",
            f"StudyInstanceUID={STUDY},1.2",
        ):
            heard = yield self.ask(f"/studies?{query}", accept="application/dicom+json")
            self.assertEqual((heard.status, heard.content_type), (200, "application/dicom+json"))
            (study,) = heard.json()
            self.assertEqual(study["0020000D"]["Value"], [STUDY])
            self.assertEqual(study["00201208"]["Value"], [5])
            self.assertEqual(study["00080061"]["Value"], ["CT"])
            self.assertEqual(study["00100010"]["Value"], [{"Alphabetic": "Wang^Xiao", "Ideographic": "王^小"}])
            self.assertEqual(study["00081190"]["Value"], [f"http://127.0.0.1:{self.source.port}/dicom-web/studies/{STUDY}"])
        heard = yield self.ask("/studies?PatientID=nobody")
        self.assertEqual((heard.status, heard.body), (204, b""))

    @inlineCallbacks
    def test_series_and_instances_at_every_place(self):
        """Below a study, below a series, and everywhere (PS3.18 table 10.6.1-1)."""
        counts = {
            f"/studies/{STUDY}/series": 1,
            f"/studies/{STUDY}/instances": 5,
            f"/studies/{STUDY}/series/{STUDY}.1/instances": 5,
            "/series?PatientID=P1": 1,
            "/instances?PatientID=P1": 5,
            f"/instances?SOPInstanceUID={uid(1)}%5C{uid(2)}": 2,
            f"/studies/{STUDY}/instances?limit=2&offset=4": 1,
            f"/studies/{STUDY}/instances?InstanceNumber=3&includefield=all": 1,
        }
        for path, count in counts.items():
            heard = yield self.ask(path)
            self.assertEqual((path, len(heard.json())), (path, count))
        self.assertIn("00280102", heard.json()[0])  # HighBit: only with includefield=all

    @inlineCallbacks
    def test_results_as_xml(self):
        """In parts, each a document; JSON apart is not XML."""
        heard = yield self.ask(f"/studies/{STUDY}/instances", accept='multipart/related; type="application/dicom+xml"')
        parts = heard.parts()
        self.assertEqual([kind for kind, _ in parts], ["application/dicom+xml"] * 5)
        self.assertIn(uid(5).encode(), parts[4][1])
        ElementTree.fromstring(parts[0][1])
        heard = yield self.ask(f"/studies/{STUDY}/instances", accept="application/dicom+xml")
        self.assertEqual(heard.status, 406)

    @inlineCallbacks
    def test_more_than_the_server_gives_at_once(self):
        """Warning 299, and the rest by offset; what was asked for needs none."""
        seen, offset = [], 0
        while True:
            heard = yield self.ask(f"/instances?offset={offset}")
            found = heard.json() if heard.status == 200 else []
            seen += [one["00080018"]["Value"][0] for one in found]
            if "maximum supported by the server" not in heard.headers.get("Warning", ""):
                break
            offset += len(found)
        self.assertEqual(len(seen), len(set(seen)))
        self.assertEqual(
            len(seen),
            len({pydicom.dcmread(io.BytesIO(one), stop_before_pixels=True).SOPInstanceUID for one in [*FILES.values(), *self.ct]})
            - len(self.faults),
        )
        heard = yield self.ask("/instances?limit=3")
        self.assertNotIn("Warning", heard.headers)
        heard = yield self.ask("/studies?fuzzymatching=true&PatientID=P1")
        self.assertIn("299", heard.headers["Warning"])

    # --- retrieve ----------------------------------------------------------------------------------

    @inlineCallbacks
    def test_a_study_comes_back_byte_for_byte(self):
        """In parts that say their transfer syntax; the length is known, and the client that has it hears 304."""
        heard = yield self.ask(f"/studies/{STUDY}", accept=ANY)
        self.assertEqual([content for _, content in heard.parts()], self.ct)
        self.assertTrue(all(kind == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1" for kind, _ in heard.parts()))
        again = yield self.ask(f"/studies/{STUDY}", accept=ANY, if_none_match=heard.headers["ETag"])
        self.assertEqual((again.status, again.body), (304, b""))
        alone = yield self.ask(f"/studies/{STUDY}/series/{STUDY}.1/instances/{uid(3)}", accept="application/dicom; transfer-syntax=*")
        self.assertEqual((alone.content_type, alone.body), ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", self.ct[2]))
        head = yield ask(self.source.port, f"/dicom-web/studies/{STUDY}", "HEAD", accept=ANY)
        self.assertEqual((head.status, head.headers["Content-Length"], head.body), (200, heard.headers["Content-Length"], b""))

    @inlineCallbacks
    def test_every_file_comes_back_byte_for_byte(self):
        """Whatever its transfer syntax, where the client takes any."""
        for name, content in FILES.items():
            heard = yield self.ask(self.place(name), accept=ANY)
            self.assertEqual([(name, found == content) for _, found in heard.parts()], [(name, True)])

    @inlineCallbacks
    def test_nothing_is_transcoded(self):
        """Another transfer syntax than the one that is there is 406; the one that is there is named."""
        place = self.place("JPEG2000.dcm")
        for accept, status in {
            'multipart/related; type="application/dicom"': 406,
            'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.91': 200,
            'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90': 406,
            "application/dicom; transfer-syntax=*": 200,
            "*/*": 200,
            "image/jpeg": 406,
        }.items():
            heard = yield self.ask(place, accept=accept)
            self.assertEqual((accept, heard.status), (accept, status))
            if status == 406:
                self.assertIn(b"1.2.840.10008.1.2.4.91", heard.body)

    @inlineCallbacks
    def test_metadata_of_every_file_is_what_pydicom_reads(self):
        """What is long is at an address, which gives its bytes."""
        for name, content in FILES.items():
            heard = yield self.ask(f"{self.place(name)}/metadata", accept="application/dicom+json")
            (found,) = heard.json()
            expected = pydicom.dcmread(io.BytesIO(content))
            self.assertEqual(found["00080018"]["Value"], [expected.SOPInstanceUID])
            for keyword in ("PatientID", "StudyInstanceUID", "Modality", "Rows"):
                value = found.get(f"{pydicom.datadict.tag_for_keyword(keyword):08X}", {}).get("Value", [""])[0]
                self.assertEqual((name, keyword, str(value)), (name, keyword, str(expected.get(keyword, "") or "")))
            if "PixelData" in expected and "7FE00010" in found and name != "image_dfl.dcm":
                address = found["7FE00010"]["BulkDataURI"].partition("/dicom-web")[2]
                bulk = yield self.ask(address, accept="application/octet-stream")
                if expected.file_meta.TransferSyntaxUID.is_encapsulated:
                    self.assertEqual(bulk.status, 406)
                else:
                    self.assertEqual((name, bulk.body), (name, expected.PixelData))

    @inlineCallbacks
    def test_bulk_data_within_sequences(self):
        """A waveform's samples, by the address in its item."""
        heard = yield self.ask(f"{self.place('waveform_ecg.dcm')}/metadata")
        item = heard.json()[0]["54000100"]["Value"][1]
        expected = pydicom.dcmread(io.BytesIO(FILES["waveform_ecg.dcm"]))
        address = item["54001010"]["BulkDataURI"].partition("/dicom-web")[2]
        bulk = yield self.ask(address, accept=OCTETS)
        self.assertEqual(bulk.parts(), [("application/octet-stream", expected.WaveformSequence[1].WaveformData)])
        for wrong in ("54000100", "54000100/9/54001010", "54000100/2", "00100010", "54000100/x/54001010"):
            heard = yield self.ask(f"{self.place('waveform_ecg.dcm')}/bulkdata/{wrong}", accept=OCTETS)
            self.assertEqual((wrong, heard.status), (wrong, 404))

    @inlineCallbacks
    def test_metadata_of_a_study_as_xml(self):
        """One document an instance."""
        heard = yield self.ask(f"/studies/{STUDY}/metadata", accept='multipart/related; type="application/dicom+xml"')
        self.assertEqual(len(heard.parts()), 5)
        self.assertIn("小".encode(), heard.parts()[0][1])

    @inlineCallbacks
    def test_frames_are_handed_out_as_they_lie_in_the_file(self):
        """Uncompressed ones as octets, compressed ones as what they are; none is decoded."""
        heard = yield self.ask(f"{self.place('rtdose.dcm')}/frames/2,15", accept=OCTETS)
        pixels = pydicom.dcmread(io.BytesIO(FILES["rtdose.dcm"])).PixelData
        size = len(pixels) // 15
        self.assertEqual([content for _, content in heard.parts()], [pixels[size : 2 * size], pixels[14 * size :]])
        place = self.place("SC_rgb_rle_2frame.dcm")
        heard = yield self.ask(f"{place}/frames/1,2", accept=f"{OCTETS}; transfer-syntax=*")
        expected = list(
            pydicom.encaps.generate_frames(pydicom.dcmread(io.BytesIO(FILES["SC_rgb_rle_2frame.dcm"])).PixelData, number_of_frames=2)
        )
        self.assertEqual([content for _, content in heard.parts()], expected)
        heard = yield self.ask(f"{place}/frames/1", accept='multipart/related; type="image/dicom-rle"')
        self.assertEqual(heard.parts(), [("image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5", expected[0])])
        for path, accept, status in (
            (f"{place}/frames/1", OCTETS, 406),  # that would be decoding
            (f"{place}/frames/3", "*/*", 404),
            (f"{self.place('reportsi.dcm')}/frames/1", "*/*", 404),
            (f"{self.place('MR_small_bigendian.dcm')}/frames/1", OCTETS, 406),
        ):
            heard = yield self.ask(path, accept=accept)
            self.assertEqual((path, heard.status), (path, status))

    # --- rendered ----------------------------------------------------------------------------------

    @inlineCallbacks
    def test_frames_as_images(self):
        """Grey, colour, palette, compressed; what has no decoder here is 406, and nothing else fails."""
        shown = set()
        for name in FILES:
            heard = yield self.ask(f"{self.place(name)}/rendered", accept="image/png")
            has_pixels = "PixelData" in pydicom.dcmread(io.BytesIO(FILES[name]))
            self.assertIn((name, heard.status), [(name, status) for status in ((200, 406) if has_pixels else (404,))])
            if heard.status == 200:
                self.assertEqual(Image.open(io.BytesIO(heard.body)).format, "PNG")
                shown.add(name)
        self.assertEqual(set(FILES) - shown, NOT_SHOWN)

    @inlineCallbacks
    def test_the_window_is_the_one_of_the_standard(self):
        """PS3.3 C.11.2.1.2: as pydicom makes it."""
        heard = yield self.ask(f"{self.place('CT_small.dcm')}/rendered?window=40,400,linear", accept="image/png")
        found = np.asarray(Image.open(io.BytesIO(heard.body))).astype(int)
        described = pydicom.dcmread(io.BytesIO(FILES["CT_small.dcm"]))
        units = pydicom.pixels.apply_modality_lut(described.pixel_array, described)
        expected = np.clip((units - 39.5) / 399 + 0.5, 0, 1) * 255
        self.assertLessEqual(np.abs(found - expected).max(), 1)

    @inlineCallbacks
    def test_viewports_quality_and_thumbnails(self):
        """PS3.18 8.3.5.1; proportions are kept."""
        place = self.place("CT_small.dcm")
        for query, size in {"viewport=64,200": (64, 64), "viewport=300,300,32,32,64,32": (300, 150), "quality=5": (128, 128)}.items():
            heard = yield self.ask(f"{place}/frames/1/rendered?{query}", accept="image/jpeg")
            image = Image.open(io.BytesIO(heard.body))
            self.assertEqual((heard.content_type, image.size), ("image/jpeg", size))
        heard = yield self.ask(f"/studies/{STUDY}/thumbnail")
        self.assertEqual(Image.open(io.BytesIO(heard.body)).format, "JPEG")
        for wrong in (
            "window=1",
            "window=1,0",
            "window=a,b",
            "viewport=0,1",
            "viewport=99999,1",
            "viewport=1,2,3",
            "quality=0",
            "quality=x",
            "viewport=9,9,500,500,1,1",
        ):
            heard = yield self.ask(f"{place}/rendered?{wrong}")
            self.assertEqual((wrong, heard.status), (wrong, 400))
        heard = yield self.ask(f"{place}/rendered?accept=image/png", accept="image/jpeg")
        self.assertEqual(heard.content_type, "image/png")

    # --- who reads ---------------------------------------------------------------------------------

    @inlineCallbacks
    def test_every_read_is_audited_before_it_is_answered(self):
        """Which resource, by whom; names of parameters, never their values."""
        yield self.ask("/studies?PatientID=P1&PatientName=Wang*")
        yield self.ask(f"/studies/{STUDY}", accept=ANY)
        (search, retrieve) = [facts for event, facts in self.audited if event == "dicomweb.read"]
        self.assertEqual((search["interaction"], search["parameters"]), ("query", "PatientID,PatientName"))
        self.assertEqual((retrieve["interaction"], retrieve["resource"]), ("retrieve", STUDY))
        self.assertNotIn("P1", json.dumps(self.audited))
        self.assertNotIn("Wang", json.dumps(self.audited))

    @inlineCallbacks
    def test_what_cannot_be_audited_is_not_handed_out(self):
        """503 while the audit log cannot be written."""

        def refuse(event, **facts):
            raise StoreError("the audit log cannot be written")

        object.__setattr__(self.source._reads, "_context", context(self.data, reactor, audit=refuse))
        heard = yield self.ask(f"/studies/{STUDY}", accept=ANY)
        self.assertEqual((heard.status, heard.headers["Retry-After"]), (503, "5"))

    @inlineCallbacks
    def test_what_is_not_there(self):
        """404; a file that retention has removed since, too."""
        for path in ("/studies/9.9", f"/studies/{STUDY}/series/9", f"/studies/{STUDY}/series/{STUDY}.1/instances/9/metadata"):
            heard = yield self.ask(path)
            self.assertEqual((path, heard.status), (path, 404))
        for held in self.source._reads._index.instances(STUDY):
            held.path.unlink()
        for path in (f"/studies/{STUDY}", f"/studies/{STUDY}/metadata"):
            heard = yield self.ask(path)
            self.assertEqual((path, heard.status), (path, 404))

    @inlineCallbacks
    def test_capabilities_and_options(self):
        """What there is, as WADL; which methods a resource takes."""
        heard = yield self.ask("/", accept="application/vnd.sun.wadl+xml")
        root = ElementTree.fromstring(heard.body)
        paths = {one.get("path") for one in root.iter("{http://wadl.dev.java.net/2009/02}resource")}
        self.assertLessEqual({"studies", "studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered"}, paths)
        heard = yield ask(self.source.port, "/dicom-web/studies", "OPTIONS")
        self.assertEqual((heard.status, heard.headers["Allow"]), (204, "GET, HEAD, OPTIONS, POST"))

    @inlineCallbacks
    def test_many_readers_at_once(self):
        """Each hears its own."""
        heard = yield gatherResults(
            [self.ask(f"/studies/{STUDY}/series/{STUDY}.1/instances/{uid(1 + number % 5)}", accept=ANY) for number in range(40)]
        )
        self.assertEqual([one.parts()[0][1] for one in heard], [self.ct[number % 5] for number in range(40)])
