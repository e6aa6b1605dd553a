"""What `meridian check`, `meridian doctor` and `meridian test` say about files, and which files count as whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.file import adapter
from adapters.file.envelopes import private
from adapters.file.options import DESTINATION, SOURCE
from adapters.file.places import Entry, first_free
from adapters.file.reports import Report
from adapters.file.settling import Rule, Settling
from channels import harness, load
from engine.contracts import GivingByOptions, LookingInto, RehearsingFiles
from engine.errors import ConfigError
from engine.examination import Examining, Level, View
from engine.message import CDA, FHIR_JSON, FILE, HL7V2, ROWS


def test_the_contracts_that_it_keeps() -> None:
    assert isinstance(adapter, Examining)
    assert isinstance(adapter, RehearsingFiles)
    assert isinstance(adapter, GivingByOptions)
    assert isinstance(adapter, LookingInto)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "csv"}, "needs exactly one of folder"),
        ({"folder": "in"}, "needs 'format'"),
        ({"folder": "in", "format": "cvs"}, "did you mean 'csv'"),
        ({"folder": "in", "format": "fixed-width"}, "needs fixed_width"),
        ({"folder": "in", "format": "csv", "csv": {"encoding": "utf-16"}}, "are not taken"),
        ({"folder": "in", "format": "csv", "csv": {"encoding": "utf8x"}}, "there is no encoding"),
        ({"folder": "in", "format": "csv", "csv": {"delimiter": ";;"}}, "not one character"),
        ({"folder": "in", "format": "csv", "csv": {"delimiter": ";", "quote": ";"}}, "delimiter and quote are the same"),
        ({"folder": "in", "format": "hl7-batch", "charset": "gbkk"}, "gbkk"),
        ({"folder": "in", "format": "csv", "done": "../done"}, "not a folder below"),
        ({"folder": "in", "format": "csv", "done": "/done"}, "not a folder below"),
        ({"folder": "in", "format": "csv", "done": "x", "faulty": "x"}, "the same folder"),
        ({"folder": "in", "format": "csv", "rows": {"details": {"items": ["a"]}}}, "details needs key"),
        ({"folder": "in", "format": "pdf", "name_pattern": "(?P<who>.*)"}, "'who' means nothing"),
        ({"folder": "in", "format": "pdf", "name_pattern": "(.*"}, "not a regular expression"),
        ({"folder": "in", "format": "pdf", "name_pattern": ".*"}, "names no group"),
        ({"folder": "in", "format": "xml", "path": "a//b"}, "is not a path"),
    ],
)
def test_faults_of_a_source(options: dict[str, Any], said: str) -> None:
    """In words that say what would be right."""
    with pytest.raises(ValueError, match=said):
        SOURCE.defaults(**options)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../${message.id}", "no name of a file"),
        (".x", "no name of a file"),
        ("a/b", "no name of a file"),
        ("${content.text}", "is made of"),
        ("${message.x}", "there is no"),
    ],
)
def test_faults_of_a_destination(name: str, said: str) -> None:
    """A template cannot name a path either."""
    with pytest.raises(ValueError, match=said):
        DESTINATION.defaults(folder="out", name=name)


@pytest.mark.parametrize(
    ("options", "gives"),
    [
        ({"format": "csv"}, (ROWS,)),
        ({"format": "hl7-batch"}, (HL7V2,)),
        ({"format": "ndjson"}, (FHIR_JSON,)),
        ({"format": "cda"}, (CDA,)),
        ({"format": "pdf"}, (FILE,)),
        ({"format": "pdf", "label": False}, ("application/pdf",)),
        ({"format": "whole"}, ()),
        ({"format": "whole", "content_type": "image/jpeg"}, ("image/jpeg",)),
    ],
)
def test_what_a_source_gives(options: dict[str, Any], gives: tuple[str, ...]) -> None:
    """So that a mapping or a path that can never fit is told by `meridian check`."""
    assert tuple(adapter.gives(SOURCE.defaults(folder="in", **options))) == gives


# --- half-written files ----------------------------------------------------------------------------


def entry(name: str, size: int = 1, modified: int = 1) -> Entry:
    return Entry(name, size, modified)


def settling(**rule: Any) -> Settling:
    return Settling(Rule(("*.csv",), ("*.part",), 10.0, **rule))


def test_a_file_is_whole_when_it_has_not_changed_for_so_long() -> None:
    """Seen first, then again; growth and a new time begin it anew, and so does a name that was away."""
    one = settling()
    assert one.whole([entry("a.csv")], 0.0) == []
    assert one.whole([entry("a.csv")], 9.9) == []
    assert one.waiting == 1
    assert one.whole([entry("a.csv", 2)], 10.0) == []
    assert one.whole([entry("a.csv", 2, 7)], 19.0) == []
    assert one.whole([entry("a.csv", 2, 7)], 28.9) == []
    assert one.whole([entry("a.csv", 2, 7)], 29.0) == [entry("a.csv", 2, 7)]
    assert one.whole([], 30.0) == []
    assert one.whole([entry("a.csv", 2, 7)], 40.0) == []


def test_a_marker_says_it_at_once() -> None:
    """And nothing else does."""
    one = settling(marker=".ok")
    assert one.whole([entry("a.csv"), entry("b.csv"), entry("a.csv.ok")], 0.0) == [entry("a.csv")]
    assert one.whole([entry("b.csv")], 1000.0) == []


def test_what_is_not_wanted_and_in_which_order() -> None:
    """By name, or by time."""
    files = [entry("b.csv", 1, 1), entry("a.csv", 1, 2), entry("x.csv.part"), entry("y.txt"), entry(".z.csv")]
    for by_time, names in ((False, ["a.csv", "b.csv"]), (True, ["b.csv", "a.csv"])):
        one = settling(by_time=by_time)
        one.whole(files, 0.0)
        assert [found.name for found in one.whole(files, 10.0)] == names


# --- what is said ------------------------------------------------------------------------------------


def test_a_report_is_bounded_and_safe_to_open() -> None:
    """A name that a spreadsheet would take for a formula is none."""
    report = Report()
    for number in range(10_500):
        report.add("=cmd.csv", number, number, "bad")
    lines = b"".join(report.chunks()).decode("utf-8-sig").splitlines()
    assert lines[1] == "'=cmd.csv,,0,bad"
    assert lines[-1] == ",,,and 500 more"
    assert (len(lines), report.faults) == (10_002, 10_500)


def test_names_that_hold_a_patients_number_are_not_logged() -> None:
    """Those of PDFs, and where a pattern reads something out of them."""
    csv, pdf = SOURCE.defaults(folder="in", format="csv"), SOURCE.defaults(folder="in", format="pdf")
    patterned = SOURCE.defaults(folder="in", format="csv", name_pattern="(?P<patient>.*)")
    assert private("P1001.csv", csv) == "P1001.csv"
    assert private("P1001.pdf", pdf) == "*.pdf"
    assert private("P1001.csv", patterned) == "*.csv"


def test_doctor(tmp_path: Path) -> None:
    """A folder that is missing, and one that is fine."""
    view = View("c", "source", tmp_path)
    options = SOURCE.defaults(folder="in", format="csv")
    (found,) = adapter.examine_site(options, view)
    assert (found.level, found.option) == (Level.WARN, "folder")
    (tmp_path / "in" / "done").mkdir(parents=True)
    (found,) = adapter.examine_site(options, view)
    assert found.level is Level.OK


# --- channel tests -----------------------------------------------------------------------------------


def site(folder: Path, **source: Any) -> Path:
    (folder / "channels").mkdir(parents=True)
    (folder / "tests" / "rows").mkdir(parents=True)
    (folder / "meridian.yaml").write_text(json.dumps({"name": "n", "party": "n"}))
    channel = {
        "name": "rows",
        "source": {"file": {"folder": "in", **source}},
        "destinations": [{"name": "out", "file": {"folder": "out", "name": "${row.a}.json"}}],
    }
    (folder / "channels" / "rows.yaml").write_text(json.dumps(channel))
    return folder


def test_a_channels_test_is_a_file_with_one_piece(tmp_path: Path) -> None:
    """What the source finds at fault shows as the sender would hear it."""
    made = site(tmp_path, format="csv")
    for name, content in (("good.csv", b"a\n1\n"), ("bad.csv", b"a\n1,2\n"), ("two.csv", b"a\n1\n2\n")):
        (made / "tests/rows" / name).write_bytes(content)
        (made / "tests/rows" / name).with_suffix(".expected.json").write_text("{}")
    got = {outcome.name: outcome.differences for outcome in harness.run(load(made))}
    assert any("QUEUED" in line for line in got["rows/good.csv"])
    results = {
        name: harness.result_of(load(made).channels[0], (made / "tests/rows" / name).read_bytes(), name=name)
        for name in ("bad.csv", "two.csv")
    }
    assert results["bad.csv"]["reason"] == "bad.csv:2: has 2 cells; the heading names 1"
    assert "this one has 2" in results["two.csv"]["reason"]


def test_check_knows_what_a_file_can_be_asked(tmp_path: Path) -> None:
    """A path that rows do not have, in a destination's name; a mapping for something else."""
    made = site(tmp_path, format="ndjson")
    file = made / "channels" / "rows.yaml"
    file.write_text(file.read_text().replace("${row.a}", "${PID-3}"))
    with pytest.raises(ConfigError, match="PID-3"):
        load(made)
    file.write_text(file.read_text().replace('"name": "rows"', '"name": "rows", "map": "hl7v2-to-fhir"'))
    with pytest.raises(ConfigError, match="the source file gives application/fhir"):
        load(made)


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 1000, 99_999])
def test_a_free_number_is_found_in_few_looks(taken: int) -> None:
    """Each look at a server costs its time."""
    looks: list[int] = []
    assert first_free(lambda number: bool(looks.append(number)) or number <= taken) == taken + 1
    assert len(looks) <= 1 + 2 * taken.bit_length()


def test_a_free_number_between_gaps_is_free() -> None:
    """Whichever it is."""
    taken = {1, 2, 3, 4, 9, 10}
    assert first_free(taken.__contains__) not in taken
