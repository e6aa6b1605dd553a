"""DICOM JSON as dcmtk writes it (dcm2json): the same study as of the file itself, and as of our own JSON."""

from __future__ import annotations

import re
import subprocess
import warnings
from base64 import b64decode
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest

from engine import registry
from engine.errors import MessageError
from engine.formats.dicom import header
from engine.formats.dicom.json_model import model
from tests.support.dicom_studies import FOLDER, bundled
from tests.support.peers import require

DCM2JSON = Path("/usr/bin/dcm2json")
"""By its full path: pynetdicom installs scripts of dcmtk's names."""
MAPPER = registry.mapping("dicom-to-fhir").compile(None)
ODD = ("SC_rgb_jpeg.dcm", "rtdose_rle.dcm", "rtdose_rle_1frame.dcm")
"""Not written as they say: dcm2json gives up on the VRs, or leaves every attribute as bytes of an unknown one."""
FILES = [name for name in bundled() if name.read_bytes()[128:132] == b"DICM" and "dicomdirtests" not in name.parts and name.name not in ODD]


def resources(body: bytes) -> list[dict[str, Any]]:
    """What the platform gets, but the provenance, which has the digest of the bytes, and what a sender's AE title alone says."""
    found = [entry["resource"] for entry in orjson.loads(MAPPER.map(body).body)["entry"]]
    return [one for one in found if one["resourceType"] not in ("Provenance", "Device")]


def leveled(found: list[dict[str, Any]]) -> list[str]:
    """As text, without the zeros behind a decimal point: dcm2json writes decimal strings as numbers."""
    texts = []
    for one in found:
        if "presentedForm" in one:
            one["presentedForm"][0]["data"] = b64decode(one["presentedForm"][0]["data"]).decode()
        texts.append(re.sub(r"(\d)\.0+(?!\d)|(\.\d*[1-9])0+(?!\d)", r"\1\2", orjson.dumps(one, option=orjson.OPT_SORT_KEYS).decode()))
    return texts


def theirs(name: Path, folder: Path) -> bytes:
    """What dcm2json writes of a file; of one whose pixels it does not take, of the same without them."""
    done = subprocess.run([DCM2JSON, name], capture_output=True, timeout=60, check=False)
    if done.returncode == 0:
        return done.stdout
    bare = folder / "bare.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmread(name, stop_before_pixels=True).save_as(bare)
    done = subprocess.run([DCM2JSON, bare], capture_output=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else b""


@pytest.mark.parametrize("name", FILES, ids=lambda name: name.name)
def test_what_dcmtk_writes_gives_what_the_file_gives(name: Path, tmp_path: Path) -> None:
    require(DCM2JSON.exists(), "dcmtk is not installed")
    try:
        ours = resources(orjson.dumps([model(header(name.read_bytes()))]))
    except MessageError:
        return  # no instance of a study
    foreign = theirs(name, tmp_path)
    if not foreign:
        pytest.skip("dcm2json does not take this file")
    assert leveled(resources(b"[" + foreign + b"]")) == leveled(ours)


def test_a_whole_study_from_dcmtk(tmp_path: Path) -> None:
    require(DCM2JSON.exists(), "dcmtk is not installed")
    files = sorted((FOLDER / "test_files/dicomdirtests/98892003").rglob("*"))
    documents = [theirs(name, tmp_path) for name in files if name.is_file()]
    by_study: dict[str, list[Any]] = {}
    for document in documents:
        one = orjson.loads(document)
        by_study.setdefault(one["0020000D"]["Value"][0], []).append(one)
    counts = []
    for instances in by_study.values():
        (made,) = (one for one in resources(orjson.dumps(instances)) if one["resourceType"] == "ImagingStudy")
        assert made["numberOfInstances"] == len(instances)
        counts.append((made["numberOfSeries"], len(instances)))
    assert sum(count for _, count in counts) == len(documents) == 17
