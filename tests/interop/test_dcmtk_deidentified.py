"""dcmtk reads what is de-identified, and finds in it what pydicom does: a second reader of every file in pydicom's wheel that passes."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from engine.errors import Quarantined
from tests.support.deidentify import FILES, cleaned_file, policy
from tests.support.peers import PATIENCE, require

DCMDUMP = Path("/usr/bin/dcmdump")
NAMES = sorted(str(file.relative_to(FILES)) for folder in ("test_files", "charset_files") for file in (FILES / folder).rglob("*.dcm"))


def dumped(file: Path) -> str:
    require(DCMDUMP.exists(), "dcmtk is not installed")
    ran = subprocess.run([DCMDUMP, "--print-all", "--quote-nonascii", file], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", NAMES)
def test_dcmdump_reads_it_and_the_pixels_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    """And says that the identity is removed. What is held is a file of no instance, or one that is damaged."""
    content = (FILES / name).read_bytes()
    try:
        made = cleaned_file(content, policy(unknown_annotation="pass", dates="shift"))
    except Quarantined as held:
        assert held.location in ("", "TransferSyntaxUID", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "BurnedInAnnotation"), (
            name
        )
        return
    (tmp_path / "made.dcm").write_bytes(made)
    text = dumped(tmp_path / "made.dcm")
    assert "(0012,0062) CS [YES]" in text
    before, after = pydicom.dcmread(BytesIO(content)), pydicom.dcmread(BytesIO(made))
    assert before.get("PixelData") == after.get("PixelData")
    for keyword in ("Rows", "Columns", "Modality", "SOPClassUID", "BitsAllocated"):
        assert before.get(keyword) == after.get(keyword)
    old = {str(before[keyword].value) for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID") if before.get(keyword)}
    assert not [uid for uid in old if f"[{uid}]" in text]
