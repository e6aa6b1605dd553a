"""Orders in over MLLP; dcmtk and pynetdicom ask for the worklist and perform its steps; whoever ordered is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from engine.bench.loopback import HOST, free_port
from engine.formats import hl7v2
from tests.support.department import Department
from tests.support.imaging import AL1, OBR, ORC, PID, PV1, STUDY, ZDS, hl7, keys, segment
from tests.support.mllp_line import Line
from tests.support.peers import PATIENCE, ForeignPeer, python_script, require
from tests.support.waiting import until_listening

HERE = Path(__file__).parent
FINDSCU = Path("/usr/bin/findscu")
QUERIES = Path("/usr/share/doc/dcmtk/examples/wlistqry")
GB18030 = "Wang^Xiaoming=王^小明".encode("gb18030")
NATIVE = {**os.environ, "TCP_NODELAY": "1"}
MR = segment(
    "OBR", f1="1", f2="O2^HIS", f4="MRBRAIN^MR of the brain^L", f18="A1002", f19="R1002", f20="S1002", f24="MR", f36="20261125080000"
)


def find(port: int, folder: Path, query: Path | None = None, *keys: str, called: str = "MERIDIAN", calling: str = "CT1") -> list[Dataset]:
    """dcmtk's answers."""
    require(FINDSCU.exists(), "dcmtk is not installed")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [str(FINDSCU), "-W", "-X", "-od", str(folder), "-aet", calling, "-aec", called]
    command += [part for key in keys for part in ("-k", key)] + [HOST, str(port)] + ([str(query)] if query else [])
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE, env=NATIVE)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "E: " not in done.stderr, done.stderr[-2000:]
    return [dcmread(file, force=True) for file in sorted(folder.glob("rsp*.dcm"))]


def order(line: Line, number: str, *segments: str) -> str | None:
    return hl7v2.decode(line.ask(hl7("ORM^O01", PID, PV1, AL1, *segments, number=number))).get("MSA-1")


def test_dcmtk_asks_for_the_worklist(tmp_path: Path) -> None:
    """Each modality its own; ranges, wildcards and names; a query that is none is refused; a cancelled order is gone."""
    require(FINDSCU.exists(), "dcmtk is not installed")
    department = Department(tmp_path / "site")
    out = tmp_path / "out"
    step, name = "(0040,0100)[0]", "0010,0010"
    with department.open() as line:
        assert order(line, "1", ORC, OBR, ZDS) == "AA"
        assert order(line, "2", "ORC|NW|O2^HIS", MR) == "AA"
        assert order(line, "3", "ORC|NW", "OBR|1") == "AE"
        everything = find(department.port, out, None, "0008,0050", f"{name}", f"{step}.0040,0009", "0008,0005=ISO_IR 192")
        chinese = find(department.port, out, None, name, "0008,0005=GB18030")
        asked = {
            "ct": [f"{step}.Modality=CT"], "mr": [f"{step}.Modality=MR"], "day": [f"{step}.0040,0002=20261125-"], "nobody": [f"{name}=Li*"],
            "wang": [f"{name}=wang*"], "accession": ["0008,0050=A1002"], "station": [f"{step}.0040,0001=CT9"],
        }  # fmt: skip
        found = {
            what: [str(one.AccessionNumber) for one in find(department.port, out, None, "0008,0050", *keys)] for what, keys in asked.items()
        }
        assert order(line, "4", "ORC|CA|O2^HIS", "OBR|1|O2^HIS") == "AA"
        after = find(department.port, out, None, "0008,0050")
    assert [str(one.PatientName) for one in everything] == ["Wang^Xiaoming=王^小明"] * 2
    assert {(one.SpecificCharacterSet, one["PatientName"].value.original_string) for one in chinese} == {("GB18030", GB18030)}
    assert [one.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for one in everything] == ["S1001", "S1002"]
    both = ["A1001", "A1002"]
    assert found == {"ct": both[:1], "mr": both[1:], "day": both[1:], "nobody": [], "wang": both, "accession": both[1:], "station": both}
    assert [str(one.AccessionNumber) for one in after] == ["A1001"]
    asked_for = department.site.audited("worklist.queried")
    assert [one["steps"] for one in asked_for[:3]] == ["2", "2", "1"]
    assert {one["ae_title"] for one in asked_for} == {"CT1"}
    assert "Wang" not in json.dumps(asked_for)


@contextmanager
def wlmscpfs(folder: Path, entry: Dataset) -> Iterator[int]:
    """dcmtk's own worklist server, with one entry."""
    files = folder / "OFFIS"
    files.mkdir(parents=True)
    (files / "lockfile").touch()
    entry.save_as(files / "1.wl", implicit_vr=False, little_endian=True, enforce_file_format=False)
    port = free_port()
    server = subprocess.Popen(
        ["/usr/bin/wlmscpfs", "-dfp", str(folder), str(port)], env=NATIVE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until_listening(port)
        yield port
    finally:
        server.terminate()
        server.wait()


def test_a_second_opinion(tmp_path: Path) -> None:
    """Queries of ours and dcmtk's examples, to us and to dcmtk's worklist server with the same step: the same matches, the same values."""
    require(FINDSCU.exists() and Path("/usr/bin/wlmscpfs").exists(), "dcmtk is not installed")
    department = Department(tmp_path / "site")
    queries = [*_own_queries(tmp_path), *_example_queries(tmp_path)]
    _merged(queries, tmp_path / "whole.dcm")
    matched = 0
    with department.open() as line:
        plain = PID.replace("~王^小明^^^^^L^I", "")  # dcmtk's server says no character set in its answers
        line.ask(hl7("ORM^O01", plain, PV1, AL1, ORC, OBR, "IPC|||||CT||||CT1", "OBX|1|NM|29463-7^Body weight^LN||70.5|kg", ZDS))
        (entry,) = find(department.port, tmp_path / "out", tmp_path / "whole.dcm")
        with wlmscpfs(tmp_path / "db", entry) as theirs:
            for query in queries:
                ours = find(department.port, tmp_path / "ours", query, called="OFFIS")
                second = find(theirs, tmp_path / "theirs", query, called="OFFIS")
                assert [_values(one) for one in ours] == [_values(one) for one in second], query.stem
                matched += len(ours)
    assert 0 < matched < len(queries)  # some of them ask for other days and modalities


def _own_queries(folder: Path) -> Iterator[Path]:
    """Return keys alone, a step with and without keys, codes, and what matches or does not."""
    code = keys(CodeValue="", CodingSchemeDesignator="")
    asked = [
        keys({}, PatientName="", AccessionNumber="", StudyInstanceUID="", Allergies="", MedicalAlerts="", RequestedProcedurePriority=""),
        keys(
            {"ScheduledStationAETitle": "CT1", "Modality": "CT", "ScheduledProcedureStepStartDate": "20261101-"},
            PatientID="",
            PatientSex="",
        ),
        keys({"ScheduledProcedureStepID": "", "ScheduledProtocolCodeSequence": []}, RequestedProcedureCodeSequence=[code]),
        keys({"Modality": "MR"}, PatientName=""),
        keys({"ScheduledProcedureStepStartDate": "20261125"}, PatientName=""),
        keys({"Modality": ""}, PatientName="Wang*", RequestingPhysician="", RequestedProcedureID="", ReferencedStudySequence=[]),
        keys({"ScheduledPerformingPhysicianName": ""}, PatientName="Li*"),
    ]
    for number, query in enumerate(asked):
        made = folder / f"own{number}.dcm"
        query.save_as(made, implicit_vr=False, little_endian=True, enforce_file_format=False)
        yield made


def _example_queries(folder: Path) -> Iterator[Path]:
    """Those that dcmtk comes with, where its documentation is installed."""
    for dump in sorted(QUERIES.glob("*.dump")):
        made = folder / f"{dump.stem}.dcm"
        subprocess.run(["/usr/bin/dump2dcm", "-q", str(dump), str(made)], check=True, timeout=PATIENCE)
        yield made


def _merged(queries: list[Path], made: Path) -> None:
    """One query that asks for everything that any of them asks for."""
    merged = Dataset()
    merged.ScheduledProcedureStepSequence = [Dataset()]
    for query in queries:
        for element in dcmread(query, force=True):
            if element.VR != "SQ":
                element.value = None if element.VR in ("US", "DS") else ""
                merged.add(element)
            elif element.keyword == "ScheduledProcedureStepSequence":
                for one in element.value:
                    for inner in one:
                        inner.value = [] if inner.VR == "SQ" else ""
                        merged.ScheduledProcedureStepSequence[0].add(inner)
            else:
                element.value = []
                merged.add(element)
    merged.save_as(made, implicit_vr=False, little_endian=True, enforce_file_format=False)


def _values(found: Dataset) -> dict[str, Any]:
    """By keyword; without the character set, without what is empty here or there, and without the status, which dcmtk does not know."""
    return {
        element.keyword: [_values(one) for one in element.value] if element.VR == "SQ" else str(element.value)
        for element in found
        if element.keyword not in ("SpecificCharacterSet", "ScheduledProcedureStepStatus") and element.value not in (None, "", [])
    }


@pytest.mark.filterwarnings("ignore")
def test_a_modality_performs_a_step(tmp_path: Path) -> None:
    """pynetdicom: the worklist, N-CREATE, N-SET, and every refusal that F.7.2 knows; whoever ordered hears of it, each once."""
    department = Department(tmp_path / "site")
    with department.open() as line:
        assert order(line, "1", ORC, OBR, ZDS) == "AA"
        with ForeignPeer(python_script(HERE / "dicom_peers" / "modality.py"), port=department.port) as modality:
            said = {one["what"] + str(index): one for index, one in enumerate(modality.all_heard())}
    assert {what: one["status"] for what, one in said.items()} == {
        "worklist0": 0, "create1": 0, "again2": 0x0111, "unknown3": 0x0112, "paused4": 0x0106, "incomplete5": 0x0121, "set6": 0, "late7": 0x0110,
        "worklist8": 0,
    }  # fmt: skip
    assert said["worklist0"]["found"] == [{"name": "Wang^Xiaoming=王^小明", "study": STUDY, "accession": "A1001", "step": "S1001"}]
    assert said["worklist8"]["found"] == []
    assert said["late7"]["detail"]["ErrorComment"] == "Performed Procedure Step Object may no longer be updated"
    assert department.told() == [("A1001", "IP"), ("A1001", "CM")]
    heard = [kept for kept in department.site.kept() if b"ORC|SC" in kept.body]
    assert len(heard) == 4  # each once on its way out, once where it arrives
