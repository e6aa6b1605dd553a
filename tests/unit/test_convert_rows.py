"""`meridian convert --mapping RULES.yaml data.csv`: a Bundle for each row, or for each file; a bad row is named and the others go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.errors import ParseError
from engine.formats.files.delimited import lines
from engine.formats.rows import Record
from tests.support.cli import Said, meridian

ROOT = Path(__file__).parents[2] / "examples" / "old-laboratory"
Meridian = Callable[..., Said]
RULES = str(ROOT / "mappings" / "rows-to-fhir" / "results.yaml")


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Meridian:
    return meridian(monkeypatch, capfd)


def test_a_bundle_for_each_row(invoke: Meridian) -> None:
    result = invoke("convert", "--mapping", RULES, str(ROOT / "orders.csv"))
    assert result.code == 1
    bundles = [json.loads(line) for line in result.out.splitlines()]
    patients = [
        entry["resource"]["identifier"][0]["value"]
        for one in bundles
        for entry in one["entry"]
        if entry["resource"]["resourceType"] == "Patient"
    ]
    assert patients == ["P1", "P2", "P4"]
    assert "orders.csv:4: message.parse: has 6 cells; the heading names 14" in result.err


def test_a_bundle_for_the_whole_file(invoke: Meridian, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("order_no;patient_no;name;state\nA1;P1;张三;N\nA2;P1;;N\n", encoding="gb18030")
    result = invoke("convert", "--mapping", RULES, "--per", "file", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "two.csv"))
    assert (result.code, json.loads(result.out)) == (0, {"converted": 1, "failed": []})
    entries = json.loads((tmp_path / "out" / "two.json").read_bytes())["entry"]
    kinds = [entry["resource"]["resourceType"] for entry in entries]
    assert (kinds.count("Patient"), kinds.count("ServiceRequest")) == (1, 2)
    assert entries[kinds.index("Patient")]["resource"]["name"] == [{"text": "张三"}]


def test_each_row_is_a_file_of_its_own(invoke: Meridian, tmp_path: Path) -> None:
    result = invoke("convert", "--mapping", RULES, "--out", str(tmp_path), str(ROOT / "orders.csv"))
    assert result.code == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["orders-2.json", "orders-3.json", "orders-5.json"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("book.csv", b"PK\x03\x04\x14\x00\x06\x00", "this is no table: it is a zip archive, as .xlsx and .ods are"),
        ("empty.csv", b"", "the file has no heading"),
        ("heading.csv", b"order_no;patient_no\n", "there is a heading, and no row below it"),
    ],
)
@pytest.mark.parametrize("per", ["row", "file"])
def test_a_file_without_rows_is_no_success(invoke: Meridian, tmp_path: Path, per: str, name: str, content: bytes, said: str) -> None:
    """Nothing is converted, and that is said, with exit code 1."""
    (tmp_path / name).write_bytes(content)
    result = invoke("convert", "--mapping", RULES, "--per", per, "--out", str(tmp_path / "out"), str(tmp_path / name))
    assert result.code == 1
    assert said in result.err
    assert "0 converted, 1 failed" in result.err


def test_faults_of_the_rules_are_said(invoke: Meridian) -> None:
    result = invoke("convert", "--mapping", "missing.yaml", str(ROOT / "orders.csv"))
    assert result.code != 0
    assert "missing.yaml" in result.err


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"", "no heading"), (b"a,a\n1,2\n", "twice"), (b"a,\n1,2\n", "without a name"), (b"\xff\xfe\n1\n", "encoding")],
)
def test_files_without_a_usable_heading(body: bytes, said: str) -> None:
    with pytest.raises(ParseError, match=said):
        list(lines(body, "t"))


def test_bad_rows_are_named_and_others_go_on() -> None:
    body = 'a,b\n1,2\n"x\ny",3\n4\n5,\xff\n6,7\n'.encode("latin-1")
    found = [
        (line.number, line.content.row if isinstance(line.content, Record) else str(line.content))
        for line in lines(body, "t", encoding="utf-8")
    ]
    assert found == [
        (2, {"a": "1", "b": "2"}),
        (3, {"a": "x\ny", "b": "3"}),
        (5, "has 1 cells; the heading names 2"),
        (6, "b: is not in the file's encoding"),
        (7, {"a": "6", "b": "7"}),
    ]


WEBHOOK = Path(__file__).parents[2] / "examples" / "webhook-to-fhir"
SAMPLES = str(WEBHOOK / "mappings" / "rows-to-fhir" / "samples.yaml")


def patients(said: Said) -> list[str]:
    """The numbers of the patients in the Bundles that were printed."""
    entries = [entry["resource"] for line in said.out.splitlines() for entry in json.loads(line)["entry"]]
    return [one["identifier"][0]["value"] for one in entries if one["resourceType"] == "Patient"]


def test_json_goes_by_its_own_rule(invoke: Meridian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object in a file, one on each line, one on standard input, one Bundle of them all: as it would have come over HTTP."""
    taken = (WEBHOOK / "tests" / "orders" / "taken.json").read_bytes()
    one = json.loads(taken)
    (tmp_path / "one.JSON").write_bytes(taken)
    second = {**one, "id": "msg_2", "data": {**one["data"], "patient": {**one["data"]["patient"], "no": "P-2"}}}
    (tmp_path / "two.ndjson").write_text(json.dumps(one) + "\r\n\n{broken\n" + json.dumps(second))
    number = one["data"]["patient"]["no"]
    assert patients(invoke("convert", "--mapping", SAMPLES, tmp_path / "one.JSON")) == [number]
    said = invoke("convert", "--mapping", SAMPLES, tmp_path / "two.ndjson")
    assert (said.code, patients(said)) == (1, [number, "P-2"])
    assert "two.ndjson:3: message.parse: " in said.err
    said = invoke("convert", "--mapping", SAMPLES, "--per", "file", tmp_path / "two.ndjson")
    assert (said.code, sorted(patients(said))) == (1, sorted([number, "P-2"]))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(taken)))
    assert patients(invoke("convert", "--mapping", SAMPLES)) == [number]


def test_json_that_no_rule_is_for(invoke: Meridian, tmp_path: Path) -> None:
    """Rules for rows alone say what they lack, and not that a record lacks a member that nobody has heard of."""
    (tmp_path / "one.json").write_text('{"patient": "P1"}')
    said = invoke("convert", "--mapping", RULES, tmp_path / "one.json")
    assert said.code == 1
    assert "no rules say `json`" in said.err
