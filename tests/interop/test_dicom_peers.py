"""Foreign senders against a running node: dcmtk's tools (plain and mutual TLS), pynetdicom, every transfer syntax of pydicom's bundled files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from certs import Authority
from tests.support.dicom_site import DicomSite
from tests.support.peers import ForeignPeer, python_script, require

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
STORESCU, ECHOSCU = Path("/usr/bin/storescu"), Path("/usr/bin/echoscu")
SYNTAXES = {  # dcmtk's option that proposes it -> a bundled file in it
    "-xe": "CT_small.dcm",
    "-xi": "MR_small_implicit.dcm",
    "-xb": "MR_small_bigendian.dcm",
    "-xd": "image_dfl.dcm",
    "-xs": "SC_rgb_jpeg_gdcm.dcm",
    "-xy": "SC_rgb_dcmtk_+eb+cr.dcm",
    "-xx": "JPGExtended.dcm",
    "-xv": "MR_small_jp2klossless.dcm",
    "-xw": "JPEG2000.dcm",
    "-xt": "MR_small_jpeg_ls_lossless.dcm",
    "-xu": "JPEGLSNearLossless_16.dcm",
    "-xr": "MR_small_RLE.dcm",
}


def dcmtk(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    require(program.exists(), f"{program} (Debian package dcmtk)")
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run(
        [str(program), "-v", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, env=environment
    )


@pytest.fixture
def site(tmp_path: Path) -> DicomSite:
    return DicomSite(tmp_path, {"called": ["MERIDIAN"], "calling": {"127.0.0.1": ["ECHOSCU", "STORESCU", "PYNETDICOM"]}})


def pixels(content: Path) -> bytes:
    return dcmread(content).PixelData  # type: ignore[no-any-return]


def test_dcmtk_echoes_and_is_rejected_for_the_right_reason(site: DicomSite) -> None:
    with site.running():
        assert dcmtk(ECHOSCU, "-aec", "MERIDIAN", "localhost", site.dicom).returncode == 0
        other_called = dcmtk(ECHOSCU, "-aec", "ELSE", "localhost", site.dicom)
        other_calling = dcmtk(ECHOSCU, "-aec", "MERIDIAN", "-aet", "STRANGER", "localhost", site.dicom)
        aborting = dcmtk(ECHOSCU, "--abort", "-aec", "MERIDIAN", "localhost", site.dicom)
    assert "Called AE Title Not Recognized" in other_called.stderr + other_called.stdout
    assert "Calling AE Title Not Recognized" in other_calling.stderr + other_calling.stdout
    assert aborting.returncode == 0
    assert [facts["calling"] for facts in site.audited("dicom.refused")] == ["ECHOSCU", "STRANGER"]


def test_dcmtk_stores_in_every_transfer_syntax(site: DicomSite) -> None:
    """One association each; what arrives is in the transfer syntax that was sent, with the same pixels."""
    with site.running():
        for option, name in SYNTAXES.items():
            done = dcmtk(STORESCU, option, "-R", "-aec", "MERIDIAN", "localhost", site.dicom, FILES / name)
            assert done.returncode == 0, (name, done.stdout + done.stderr)
            assert "Received Store Response (Success)" in done.stdout + done.stderr
    kept = site.instances()
    assert [one.verdict for one in kept] == ["accepted"] * len(SYNTAXES)
    for one, name in zip(kept, SYNTAXES.values(), strict=True):
        meta = read_file_meta_info(FILES / name)
        assert (one.facts.transfer_syntax, one.control_id) == (meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID), name
        assert one.facts.source == "STORESCU"
        if meta.TransferSyntaxUID != "1.2.840.10008.1.2.1.99":
            assert pixels(FILES / name)[:100] in one.data_set


def test_dcmtk_sends_again(site: DicomSite) -> None:
    """The same instance is settled quietly; with another data set it is kept, and flagged."""
    with site.running():
        for options in ((), (), ("-xi",)):
            assert dcmtk(STORESCU, *options, "-aec", "MERIDIAN", "localhost", site.dicom, FILES / "CT_small.dcm").returncode == 0
    first, flagged = site.instances()
    assert (first.control_id, first.reason) == (flagged.control_id, "")
    assert "used before" in flagged.reason
    assert [facts["control_id"] for facts in site.audited("message.key_reused")] == [first.control_id]


def test_pynetdicom_sends_files_and_the_bytes_are_the_same(site: DicomSite) -> None:
    """A foreign reading of the standard, in a process of its own; whole data sets, bit by bit. One file's meta information contradicts its
    data set: A900H, and kept as invalid."""
    names = [
        FILES / name for name in sorted({*SYNTAXES.values(), "rtplan.dcm", "JPEG-lossy.dcm", "SC_rgb_rle_16bit_2frame.dcm", "reportsi.dcm"})
    ]
    script = Path(__file__).parent / "dicom_peers" / "pynetdicom_scu.py"
    with site.running(), ForeignPeer(python_script(script), port=site.dicom, files=[str(name) for name in names]) as peer:
        heard = peer.all_heard()
    assert {one["name"]: one["status"] for one in heard if one["status"]} == {"rtplan.dcm": 0xA900}
    assert len(heard) == len(names) + 1
    assert [one.control_id for one in site.instances() if one.verdict == "invalid"] == [dcmread(FILES / "rtplan.dcm").SOPInstanceUID]
    for one, name in zip(site.instances(), names, strict=True):
        assert name.read_bytes().endswith(one.data_set), name
        assert len(one.data_set) > len(name.read_bytes()) - 2000


class TestTls:
    def certified(self, tmp_path: Path) -> tuple[DicomSite, list[list[object]]]:
        site = DicomSite(tmp_path / "site", {"tls": {"allow": ["radiology"]}})
        authority = Authority.create(tmp_path / "authority", "test")
        site.certify(authority)
        clients = []
        for party in ("radiology", "other"):
            issued = authority.issue(party, out=tmp_path / party)
            files = (tmp_path / party / f"{issued.stem}{suffix}" for suffix in (".key", ".pem"))
            clients.append(["+tls", *files, "+cf", tmp_path / "authority" / "ca.pem"])
        return site, clients

    def test_mutual_tls(self, tmp_path: Path) -> None:
        """Port 2762's way: who is on the list is let in and named; another party and plain text are not."""
        site, (radiology, other) = self.certified(tmp_path)
        with site.running():
            stored = dcmtk(STORESCU, *radiology, "localhost", site.dicom, FILES / "CT_small.dcm")
            refused = dcmtk(ECHOSCU, *other, "localhost", site.dicom)
            plain = dcmtk(ECHOSCU, "localhost", site.dicom)
        assert stored.returncode == 0, stored.stdout + stored.stderr
        assert refused.returncode
        assert plain.returncode
        (kept,) = site.instances()
        assert kept.peer.endswith("radiology")
        assert len(site.audited("tls.refused")) == 2
