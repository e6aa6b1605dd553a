"""Imaging orders become scheduled procedure steps (IHE RAD TF-2 RAD-2, RAD-4, RAD-13; TF-2x appendix B)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adapters.dicom.worklist import names, orders
from adapters.dicom.worklist.options import DESTINATION, QUERY, SOURCE
from adapters.dicom.worklist.orders import Site
from adapters.dicom.worklist.stations import Stations
from adapters.dicom.worklist.steps import CANCELLED, COMPLETED, ON_HOLD, Code, Name, Patient, Step, from_json, to_json
from engine.errors import ConfigError, Fault, ValidationError
from engine.options import Place, Spec
from tests.support.imaging import AL1, OBR, ORC, PID, PV1, SITE, STUDY, ZDS, hl7, read, segment

CT1 = Site(
    "anping", Stations([{"service": "CT", "code": "", "modality": "", "ae_title": "CT1\\CT2", "station_name": "CT", "location": "B1"}])
)


def obr(number: str, **fields: Any) -> str:
    """An OBR with fields by their number, f4="…"."""
    return segment("OBR", **{"f1": number, "f4": "CTCHEST^CT of the chest^L", "f24": "CT", **fields})


def test_a_scheduled_procedure() -> None:
    """Every fact that RAD-4 conveys."""
    (word,) = read("ORM^O01", PID, PV1, AL1, ORC, OBR, ZDS, "OBX|1|NM|29463-7^Body weight^LN||70.5|kg")
    assert word.status == ""
    assert word.step == Step(
        "O1^HIS|F1^RIS", "R1001", "S1001", "O1^HIS", "F1^RIS", "A1001", "R1001", "S1001", STUDY, Code("CTCHEST", "L", "CT of the chest"), "CT of the chest",
        (Code("CHEST-1", "L", "Chest, routine"),), "Chest, routine", "CT", (), "", "", "20261124", "093000", Name("Tech^Tom"), Name("Lee^Kim"), "", "STAT",
        "WALK", "Cough", "",
        Patient(
            "P1", "HIS", Name("Wang^Xiaoming", "王^小明"), "19800101", "M", "70.5", "", "3", "Walking", ("Pacemaker",), ("Iodine",), "VIP", "V100",
            "3W 301 2 ANPING", Name("Referring^Ruth"),
        ),
    )  # fmt: skip
    assert from_json(to_json(word.step)) == word.step


def test_imaging_procedure_control() -> None:
    """OMI^O23: each IPC is a step of the same procedure (RAD-4 with HL7 2.5.1); TQ1 says when."""
    segments = (
        "ORC|NW|O1", "TQ1|1||||||20261125101500+0800||A^^HL70485", obr("1"),
        f"IPC|A7^RIS|R7|{STUDY}|S7|MR|BRAIN^Brain^L|MRSCAN|^Cellar|MR1",
        f"IPC|A7^RIS|R7|{STUDY}|S8|MR|SPINE^Spine^L~NECK^Neck^L|MRSCAN|^Cellar|MR1~MR2",
    )  # fmt: skip
    first, second = (word.step for word in read("OMI^O23^OMI_O23", PID, *segments))
    assert (first.accession, first.requested_id, first.step_id, first.study_uid, first.modality) == ("A7", "R7", "S7", STUDY, "MR")
    assert (first.date, first.time, first.priority) == ("20261125", "101500", "HIGH")
    assert (first.stations, first.station_name, first.location) == (("MR1",), "MRSCAN", "Cellar")
    assert (second.stations, [code.value for code in second.protocols]) == (("MR1", "MR2"), ["SPINE", "NECK"])
    assert first.procedure == second.procedure
    assert first.key != second.key


def test_one_zds_ends_the_steps_of_a_procedure() -> None:
    """RAD-4: several ORC and OBR, one Study Instance UID."""
    found = read("ORM^O01", PID, ORC, obr("1", f19="R1", f20="S1"), ORC, obr("2", f19="R1", f20="S2"), ZDS)
    assert [(word.step.study_uid, word.step.step_id, word.made) for word in found] == [(STUDY, "S1", False), (STUDY, "S2", False)]


def test_a_step_with_several_protocol_codes() -> None:
    """RAD-4: the same step identifier again, with the next code."""
    codes = [obr(str(n), f4=f"CTCHEST^CT^L^P{n}^Protocol {n}^L", f19="R1", f20="S1") for n in (1, 2)]
    (word,) = read("ORM^O01", PID, ORC, codes[0], ORC, codes[1], ZDS)
    assert [code.value for code in word.step.protocols] == ["P1", "P2"]
    ipcs = [f"IPC|A1|R1|{STUDY}|S1|MR|P{n}^Protocol {n}^L" for n in (1, 2)]
    (word,) = read("OMI^O23", PID, "ORC|NW|O1", obr("1"), *ipcs)
    assert [code.value for code in word.step.protocols] == ["P1", "P2"]


def test_identifiers_that_nothing_says_are_made_and_stay() -> None:
    """From the order's own numbers, the study from a UUID of them (PS3.5 annex B.2); another node makes another."""
    (word,) = read("ORM^O01", PID, "ORC|NW|O1^HIS|F77^RIS", obr("1"))
    (again,) = read("ORM^O01", PID, "ORC|XO|O1^HIS|F77^RIS", obr("1", f13="Claustrophobia"))
    (elsewhere,) = read("ORM^O01", PID, "ORC|NW|O1^HIS|F77^RIS", obr("1"), site=Site("other"))
    step = word.step
    assert (step.accession, step.requested_id, step.step_id, word.made) == ("F77", "F77", "F77-1", True)
    assert re.fullmatch(r"2\.25\.[0-9]{30,39}", step.study_uid)
    assert (step.key, step.study_uid) == (again.step.key, again.step.study_uid)
    assert elsewhere.step.study_uid != step.study_uid


def test_two_procedures_of_one_order() -> None:
    first, second = (word.step for word in read("ORM^O01", PID, "ORC|NW|O1", obr("1"), obr("2", f4="CTHEAD^Head^L")))
    assert first.order == second.order
    assert first.key != second.key
    assert first.study_uid != second.study_uid
    assert (first.step_id, second.step_id) == ("O1-1", "O1-2-2")


def test_an_order_number_of_another_authority_is_another_order() -> None:
    """Two hospitals may number alike."""
    assert read("ORM^O01", PID, "ORC|NW|1^A", obr("1"))[0].step.key != read("ORM^O01", PID, "ORC|NW|1^B", obr("1"))[0].step.key


def test_readable_identifiers_that_are_too_long_become_a_digest() -> None:
    (word,) = read("ORM^O01", PID, "ORC|NW|ORDER-2026-11-24-000001", obr("1"))
    assert word.step.accession == ""
    assert len(word.step.requested_id) == len(word.step.step_id) == 16


@pytest.mark.parametrize(
    ("control", "status", "becomes"),
    [
        ("CA", "", CANCELLED),
        ("DC", "", CANCELLED),
        ("HD", "", ON_HOLD),
        ("RL", "", "SCHEDULED"),
        ("SC", "CM", COMPLETED),
        ("SC", "CA", CANCELLED),
    ],
)
def test_what_becomes_of_an_order(control: str, status: str, becomes: str) -> None:
    """Of the steps that it names; it need not say anything else."""
    (word,) = read("ORM^O01", PID, f"ORC|{control}|O1^HIS|||{status}", "OBR|1|O1^HIS")
    assert (word.status, word.step.order, word.step.procedure, word.step.position) == (becomes, "O1^HIS|", "", "")


@pytest.mark.parametrize("orc", ["ORC|SC|O1|||A", "ORC|NA|O1|F1", "ORC|UC|O1", "ORC|NW|O1"])
def test_what_changes_nothing(orc: str) -> None:
    assert read("ORM^O01", PID, orc) == []


def test_the_stations_of_a_site(tmp_path: Path) -> None:
    """What the order does not say; the order's own word counts more."""
    table = tmp_path / "stations.csv"
    table.write_text(
        "# ours\nservice,code,modality,ae_title,station_name\nXR,BONE,DX,DX1\nXR,,CR,CR1\\CR2,Bucky\n,CTCHEST,CT,CT9\n", "utf-8"
    )
    site = Site("anping", Stations.read(table))
    bone, chest, plain = (
        read("ORM^O01", PID, "ORC|NW|O1", obr("1", f4=f"{code}^X^L", f24=service), site=site)[0].step
        for code, service in (("BONE", "XR"), ("CHEST", "XR"), ("CTCHEST", ""))
    )
    assert (bone.modality, bone.stations) == ("DX", ("DX1",))
    assert (chest.modality, chest.stations, chest.station_name) == ("CR", ("CR1", "CR2"), "Bucky")
    assert (plain.modality, plain.stations) == ("CT", ("CT9",))
    own = read("OMI^O23", PID, "ORC|NW|O1", obr("1"), "IPC|||||CT||||CT7", site=CT1)[0].step
    assert (own.stations, own.location) == (("CT7",), "B1")


@pytest.mark.parametrize("text", [None, "aet,modality\nCT1,CT\n", b"\xff\xfe"])
def test_a_table_that_cannot_be_used(tmp_path: Path, text: str | bytes | None) -> None:
    if text is not None:
        (tmp_path / "stations.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError):
        Stations.read(tmp_path / "stations.csv")


def test_fields_that_a_site_has_elsewhere() -> None:
    """Many RIS put AE title and accession number into places of their own."""
    site = Site("anping", fields={"ae_title": "OBR-21", "accession": "ORC-3", "start": "OBR-7", "study_uid": "OBR-47"})
    (word,) = read("ORM^O01", PID, "ORC|NW|O1|F5", obr("1", f7="202611240800", f18="X", f21="CT3", f47="1.2.3"), site=site)
    step = word.step
    assert (step.stations, step.accession, step.date, step.time, step.study_uid) == (("CT3",), "F5", "20261124", "080000", "1.2.3")


def test_whose_patient_number() -> None:
    pid = PID.replace("P1^^^HIS^MR", "P1^^^HIS^MR~110101198001010011^^^CITIZEN^NI")
    assert read("ORM^O01", pid, ORC, OBR, site=Site(authority="CITIZEN"))[0].step.patient.number == "110101198001010011"
    assert read("ORM^O01", pid, ORC, OBR, site=Site(authority="nobody"))[0].step.patient.number == "P1"


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("王^小明", Name("", "王^小明")),
        ("Wang^Xiaoming~王^小明", Name("Wang^Xiaoming", "王^小明")),
        ("Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P", Name("Yamada^Tarou", "山田^太郎", "やまだ^たろう")),
        ("ヤマダ^タロウ~山田^太郎", Name("", "山田^太郎", "ヤマダ^タロウ")),
        ("Adams^John^Robert^B.A.^Rev.", Name("Adams^John^Robert^Rev.^B.A.")),
        ("O=Neil^A\\S\\B", Name("O Neil^A B")),
        ("van Dyck&van&Dyck^Ann", Name("van Dyck^Ann")),
    ],
)
def test_names(field: str, name: Name) -> None:
    """XPN to the component groups of a PN (PS3.5 clause 6.2.1.2)."""
    assert read("ORM^O01", PID.replace("Wang^Xiaoming^^^^^L^A~王^小明^^^^^L^I", field), ORC, OBR)[0].step.patient.name == name


def test_hangul_is_ideographic() -> None:
    """As in the example of PS3.5 annex I."""
    assert names.script("김") == "ideographic"


@pytest.mark.parametrize(
    ("segments", "location"),
    [
        ((PID, "ORC|NW", obr("1")), "ORC-2"),
        (("PID|1||||Wang^X", "ORC|NW|O1", obr("1")), "PID-3"),
        (("PID|1||P1", "ORC|NW|O1", obr("1")), "PID-5"),
        ((PID, "ORC|NW|O1", obr("1", f24="")), "OBR-24"),
        ((PID, "ORC|NW|O1", obr("1", f18="A" * 17)), "OBR-18"),
        ((PID, "ORC|NW|O1", obr("1", f36="20261324")), "OBR-36"),
        ((PID, "ORC|NW|O1", obr("1"), "ZDS|1.02.3"), "ZDS-1"),
        ((PID, "ORC|NW|O1", obr("1"), "IPC|||||CT||||A_TITLE_THAT_IS_TOO_LONG"), "IPC-9"),
        ((PID, "ORC|NW|O1", obr("1"), "IPC|||||CT||||机房一"), "IPC-9"),
    ],
)
def test_what_a_modality_could_not_use_is_refused_by_name(segments: tuple[str, ...], location: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read("ORM^O01", *segments)
    assert caught.value.location == location
    assert "Wang" not in str(caught.value)


def test_when_nothing_says_when() -> None:
    """It is for now."""
    step = read("ORM^O01", PID, "ORC|NW|O1", obr("1"))[0].step
    assert (step.date, step.time) == ("20261124", "081500")


@pytest.mark.parametrize(
    ("text", "moment"),
    [("20261124", ("20261124", "000000")), ("2026112409", ("20261124", "090000")), ("20261124093015.1234+0800", ("20261124", "093015"))],
)
def test_moments(text: str, moment: tuple[str, str]) -> None:
    assert orders.moment(text, "TQ1-7") == moment


def test_text_that_dicom_cannot_hold_is_made_fit() -> None:
    """A backslash would make two values; an LO has 64 characters. Codes that are too long are left out, their meaning is not."""
    step = read("ORM^O01", PID, "ORC|NW|O1", obr("1", f4=f"A-CODE-OF-20-CHARS-X^{'a' * 70}\\E\\b^L", f13="x\\E\\y"))[0].step
    assert (step.requested, step.description, step.patient.alerts) == (Code(), "a" * 64, ("x/y",))


def test_orders_in_gb18030() -> None:
    body = hl7("ORM^O01", PID, ORC, OBR).replace(b"UNICODE UTF-8", b"GB 18030-2000").decode().encode("gb18030")
    assert orders.read(body, "utf-8", SITE, "20261124")[0].step.patient.name.ideographic == "王^小明"


@pytest.mark.parametrize(
    ("spec", "node", "says"),
    [
        (DESTINATION, {"fields": {"acession": "OBR-18"}}, "'acession'"),
        (DESTINATION, {"fields": {"accession": "OBR18"}}, "OBR18"),
        (QUERY, {"charset": "GB2312"}, "GB2312"),
        (QUERY, {"charsets": {"CT1": "ISO 2022 IR 999"}}, "999"),
        (SOURCE, {"format": "ORU^R01"}, "ORU^R01"),
    ],
)
def test_options_that_are_none(spec: Spec, node: dict[str, Any], says: str) -> None:
    faults: list[Fault] = []
    spec.parse(node, Place("channels/x.yaml", 3), faults)
    assert len(faults) == 1
    assert says in str(faults[0])


def test_several_character_sets_are_written_as_dicom_writes_them() -> None:
    assert QUERY.defaults(charset="\\ISO 2022 IR 58").charset == ("", "ISO 2022 IR 58")
