"""``meridian convert --mapping cda-to-fhir`` over files, small and big."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from engine.formats.cda import LIMITS
from engine.message import WHOLE
from tests.support import cda
from tests.support.cli import Said, meridian

Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    command = meridian(monkeypatch, capfd)
    return lambda *arguments: command("convert", "--mapping", "cda-to-fhir", *arguments)


def test_a_folder_of_documents(tmp_path: Path, run: Run) -> None:
    """Each gives a Bundle; one that is at fault is named, and the others go on."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "ccd.xml").write_bytes(cda.continuity_of_care())
    (documents / "lab.xml").write_bytes(cda.laboratory_report())
    (documents / "torn.xml").write_bytes(cda.laboratory_report()[:900])
    said = run(documents, "--out", tmp_path / "made")
    assert said.code == 1
    assert "message.parse" in said.err
    assert "2 converted, 1 failed" in said.err
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == ["ccd.json", "lab.json"]
    assert orjson.loads((tmp_path / "made/ccd.json").read_bytes())["type"] == "transaction"


def test_where_each_element_came_from(tmp_path: Path, run: Run) -> None:
    (tmp_path / "lab.xml").write_bytes(cda.laboratory_report())
    said = run(tmp_path / "lab.xml", "--explain", "--json")
    assert said.code == 0
    told = said.out
    lineage = {line["target"]: line["source"] for line in orjson.loads(told)["lineage"] if line["target"]}
    number = next(
        index
        for index, entry in enumerate(orjson.loads(told)["bundle"]["entry"])
        if entry["resource"].get("code", {}).get("text") == "血清葡萄糖"
    )
    place = "ClinicalDocument/component/structuredBody/component[1]/section/entry/organizer/component"
    assert lineage[f"entry[{number}].Observation.valueQuantity.value"] == f"{place}[3]/observation/value"
    assert lineage[f"entry[{number}].Observation.code.text"] == f"{place}[1]/observation/value"


def test_a_document_too_big_for_memory_goes_by_its_digest(tmp_path: Path, run: Run) -> None:
    """A scan of 18 megabytes is mapped from its file; one beyond the limit is refused before it is read."""
    scan = cda.scanned(data=b64encode(bytes(14 << 20)).decode())
    assert len(scan) > WHOLE
    (tmp_path / "scan.xml").write_bytes(scan)
    said = run(tmp_path / "scan.xml")
    assert said.code == 0
    entries = orjson.loads(said.out)["entry"]
    reference = next(entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "DocumentReference")
    assert [one["attachment"]["size"] for one in reference["content"]] == [len(scan), 14 << 20]
    assert all(one["attachment"]["url"].startswith("urn:sha256:") for one in reference["content"])
    with (tmp_path / "huge.xml").open("wb") as file:
        file.write(b"<ClinicalDocument>")
        file.truncate(LIMITS.size + 1)
    said = run(tmp_path / "huge.xml")
    assert said.code == 1
    assert "has more than" in said.err
