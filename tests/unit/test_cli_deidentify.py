"""`meridian deidentify`: folders and files, a line each, exit code 1 where something was held."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from tests.support.cli import meridian
from tests.support.deidentify import KEY, cleaned_file, file_of, image, policy
from tests.unit.test_deidentify_hl7v2 import body


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in/Quixote").mkdir(parents=True)
    (tmp_path / "in/Quixote/1.dcm").write_bytes(file_of(image()))
    (tmp_path / "in/Quixote/result.hl7").write_bytes(body().replace(b"\r", b"\n"))
    (tmp_path / "in/patient.json").write_text('{"resourceType": "Patient", "identifier": [{"value": "MRN4711"}]}')
    (tmp_path / "key").write_text(KEY + "\n")
    return tmp_path


def test_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The files' names say nothing of whom they were of; the key makes the same as a channel."""
    said = meridian(monkeypatch, capfd)(
        "deidentify", folder / "in", "--out", folder / "out", "--key", folder / "key", "--dates", "shift", "--json"
    )
    told = json.loads(said.out)
    assert (said.code, told["deidentified"], told["quarantined"]) == (0, 3, 0)
    made = sorted((folder / "out").iterdir())
    assert sorted(file.suffix for file in made) == [".dcm", ".hl7", ".json"]
    assert not [file for file in made if "Quixote" in file.name or b"MRN4711" in file.read_bytes()]
    image_made = next(file for file in made if file.suffix == ".dcm")
    assert image_made.read_bytes() == cleaned_file(file_of(image()), policy(dates="shift"))
    assert image_made.stem == pydicom.dcmread(BytesIO(image_made.read_bytes())).SOPInstanceUID


def test_what_is_held_is_told_and_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The others are; the value is not repeated."""
    (folder / "in/2.dcm").write_bytes(file_of(image(BurnedInAnnotation="YES")))
    (folder / "in/3.dcm").write_bytes(file_of(image(Manufacturer="Made for Alonso", SOPInstanceUID="1.2.3")))
    (folder / "in/notes.txt").write_text("no image")
    run = meridian(monkeypatch, capfd)
    said = run("deidentify", folder / "in", "--out", folder / "in/out")
    assert said.code == 1
    assert "3 de-identified, 3 quarantined" in said.err
    assert "BurnedInAnnotation" in said.out
    assert "Alonso" not in said.out
    assert len(list((folder / "in/out").iterdir())) == 3
    again = run("deidentify", folder / "in", "--out", folder / "in/out", "--unknown-annotation", "pass", "--json")
    assert len(json.loads(again.out)["files"]) == 6


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--options", "clean-everything"], "is not one of the choices"),
        (["--dates", "never"], "is not one of the choices"),
        (["--private", "0019"], "names no private attribute"),
        (["--key", "nowhere"], "cannot read the secret's file"),
    ],
)
def test_what_is_asked_wrongly(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    """A sentence, exit code 2, nothing written."""
    said = meridian(monkeypatch, capfd)("deidentify", folder / "in", "--out", folder / "out", *arguments)
    assert said.code == 2
    assert told in said.err
    assert not (folder / "out").exists()
