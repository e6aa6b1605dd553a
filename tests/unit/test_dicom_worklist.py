"""The modality worklist: keys, matches and answers (PS3.4 annex K, C.2.2.2), in every character set (PS3.5 clause 6.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from adapters.dicom.worklist import elements, matching, query, repertoire
from adapters.dicom.worklist.steps import IN_PROGRESS, SCHEDULED, Name, Patient, Step
from engine.errors import ParseError, ValidationError
from tests.support.imaging import AL1, IMPLICIT, OBR, ORC, PID, PV1, STUDY, ZDS, decoded, encoded, keys, read

STEP = replace(read("ORM^O01", PID, PV1, AL1, ORC, OBR, ZDS)[0].step, stations=("CT1", "CT2"), station_name="Scanner", location="B1")
EVERYTHING: dict[str, Any] = {
    "RequestedProcedureID": "", "RequestedProcedureDescription": "", "RequestedProcedureCodeSequence": [], "StudyInstanceUID": "",
    "ReferencedStudySequence": [], "RequestedProcedurePriority": "", "PatientTransportArrangements": "", "AccessionNumber": "",
    "RequestingPhysician": "", "ReferringPhysicianName": "", "PlacerOrderNumberImagingServiceRequest": "", "AdmissionID": "",
    "FillerOrderNumberImagingServiceRequest": "", "CurrentPatientLocation": "", "ReferencedPatientSequence": [], "PatientName": "", "PatientID": "",
    "IssuerOfPatientID": "", "PatientBirthDate": "", "PatientSex": "", "PatientWeight": None, "PatientState": "", "PregnancyStatus": None,
    "ConfidentialityConstraintOnPatientDataDescription": "", "MedicalAlerts": "", "Allergies": "", "SpecialNeeds": "",
}  # fmt: skip
OF_A_STEP: dict[str, Any] = {
    "ScheduledStationAETitle": "", "ScheduledProcedureStepStartDate": "", "ScheduledProcedureStepStartTime": "", "Modality": "",
    "ScheduledPerformingPhysicianName": "", "ScheduledProcedureStepDescription": "", "ScheduledProtocolCodeSequence": [],
    "ScheduledProcedureStepID": "", "ScheduledStationName": "", "ScheduledProcedureStepLocation": "", "PreMedication": "",
    "RequestedContrastAgent": "", "ScheduledProcedureStepStatus": "",
}  # fmt: skip


def ask(identifier: Dataset, *steps: Step, charset: tuple[str, ...] = (), status: str = SCHEDULED) -> list[Dataset]:
    asked = query.read(encoded(identifier), IMPLICIT, "CT9", charset)
    return [decoded(one) for one in asked.answers([(step, status) for step in steps or (STEP,)])]


def found(identifier: Dataset, *steps: Step) -> bool:
    return bool(ask(identifier, *steps))


# --- answers -----------------------------------------------------------------------------------------


def test_every_attribute_that_is_asked_for_is_answered() -> None:
    """Types 1 and 2 of table K.6-1: with a value where there is one, empty where not."""
    (one,) = ask(keys(OF_A_STEP, **EVERYTHING), charset=("ISO_IR 192",))
    (inner,) = one.ScheduledProcedureStepSequence
    assert {element.keyword for element in one} == {*EVERYTHING, "ScheduledProcedureStepSequence", "SpecificCharacterSet"}
    assert {element.keyword for element in inner} == set(OF_A_STEP)
    assert (one.PatientName, one.PatientID, one.IssuerOfPatientID) == ("Wang^Xiaoming=王^小明", "P1", "HIS")
    assert (one.AccessionNumber, one.RequestedProcedureID, one.StudyInstanceUID) == ("A1001", "R1001", STUDY)
    assert (one.PlacerOrderNumberImagingServiceRequest, one.FillerOrderNumberImagingServiceRequest) == ("O1", "F1")
    assert one.PregnancyStatus == 3
    assert (one.RequestedProcedureCodeSequence[0].CodeValue, one.RequestedProcedureCodeSequence[0].CodeMeaning) == (
        "CTCHEST",
        "CT of the chest",
    )
    assert (inner.ScheduledStationAETitle, inner.Modality, inner.ScheduledProcedureStepID) == (["CT1", "CT2"], "CT", "S1001")
    assert (inner.ScheduledProcedureStepStartDate, inner.ScheduledProcedureStepStartTime) == ("20261124", "093000")
    assert inner.ScheduledProtocolCodeSequence[0].CodeValue == "CHEST-1"
    assert (one.SpecialNeeds, inner.PreMedication) == ("", "")


def test_what_is_not_asked_for_is_not_told() -> None:
    (one,) = ask(keys(PatientID="P1"))
    assert [element.keyword for element in one] == ["PatientID"]


def test_only_the_codes_that_are_asked_for() -> None:
    code = Dataset()
    code.CodeValue = ""
    (one,) = ask(keys(RequestedProcedureCodeSequence=[code]))
    assert [element.keyword for element in one.RequestedProcedureCodeSequence[0]] == ["CodeValue"]


def test_keys_that_are_not_known() -> None:
    """FF01H, and they are not in the answer; known ones, FF00H (K.4.1.1.4)."""
    strange = keys({"Modality": ""}, PatientName="", EthnicGroup="")
    asked = query.read(encoded(strange), IMPLICIT, "CT1")
    assert asked.status == 0xFF01
    assert "EthnicGroup" not in ask(strange)[0]
    assert query.read(encoded(keys(OF_A_STEP, **EVERYTHING)), IMPLICIT, "CT1").status == 0xFF00
    assert query.read(encoded(keys({"CommentsOnTheScheduledProcedureStep": "", "SeriesNumber": None})), IMPLICIT, "CT1").status == 0xFF01


def test_a_step_without_a_station_is_for_every_one() -> None:
    """And bears the title of whoever asks: (0040,0001) is of type 1."""
    anywhere = replace(STEP, stations=())
    (named,) = ask(keys({"ScheduledStationAETitle": "CT7"}), anywhere)
    (other,) = ask(keys({"ScheduledStationAETitle": ""}), anywhere)
    assert named.ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "CT7"
    assert other.ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "CT9"


def test_a_station_that_is_no_text_is_answered_all_the_same() -> None:
    raw = encoded(keys({"ScheduledStationAETitle": "XX"})).replace(b"XX", b"\xff\xfe")
    asked = query.read(raw, IMPLICIT, "CT9")
    (one,) = asked.answers([(replace(STEP, stations=()), SCHEDULED)])
    assert decoded(one).ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "??"


def test_what_is_under_way_says_so() -> None:
    (one,) = ask(keys({"ScheduledProcedureStepStatus": ""}), status=IN_PROGRESS)
    assert one.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus == "STARTED"


# --- matching ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "matches"),
    [
        ("", True), ("*", True), ("Wang^Xiaoming", True), ("wang^xiaoming", True), ("Wang*", True), ("W?ng*", True), ("*ming", True), ("王^小明", True),
        ("王*", True), ("=王*", True), ("Wang*=王*", True), ("Wang^Xiaoming^^", True), ("Wang", False), ("Wang*=李*", False), ("李*", False), ("W?g*", False),
        ("ＷＡＮＧ*", True),
    ],
)  # fmt: skip
def test_names_match_in_any_of_their_groups(key: str, matches: bool) -> None:
    """Neither case nor width counts."""
    assert found(keys(PatientName=key, SpecificCharacterSet="ISO_IR 192")) is matches


@pytest.mark.parametrize(
    ("step", "matches"),
    [
        ({"ScheduledStationAETitle": "CT1"}, True), ({"ScheduledStationAETitle": "CT2"}, True), ({"ScheduledStationAETitle": "MR1"}, False),
        ({"ScheduledStationAETitle": "CT*"}, True), ({"Modality": "CT"}, True), ({"Modality": "MR"}, False), ({"Modality": ""}, True),
        ({"ScheduledProcedureStepStartDate": "20261124"}, True), ({"ScheduledProcedureStepStartDate": "20261125"}, False),
        ({"ScheduledProcedureStepStartDate": "20261124-"}, True), ({"ScheduledProcedureStepStartDate": "-20261123"}, False),
        ({"ScheduledProcedureStepStartDate": "20261101-20261130"}, True), ({"ScheduledProcedureStepStartTime": "0930"}, True),
        ({"ScheduledProcedureStepStartTime": "09"}, True), ({"ScheduledProcedureStepStartTime": "0900-0930"}, True),
        ({"ScheduledProcedureStepStartTime": "0931-"}, False), ({"ScheduledProcedureStepStartTime": "-093000"}, True),
        ({"ScheduledProcedureStepStartDate": "20261123-20261125", "ScheduledProcedureStepStartTime": "1000-0800"}, True),
        ({"ScheduledProcedureStepStartDate": "20261124-20261125", "ScheduledProcedureStepStartTime": "1000-0800"}, False),
        ({"ScheduledProcedureStepStartDate": "20261123-20261124", "ScheduledProcedureStepStartTime": "1000-0900"}, False),
        ({"ScheduledPerformingPhysicianName": "tech*"}, True), ({"ScheduledProcedureStepID": "S1001"}, True),
        ({"ScheduledProcedureStepLocation": "C?"}, False),
    ],
)  # fmt: skip
def test_the_keys_of_a_step(step: dict[str, str], matches: bool) -> None:
    """Ranges of date and time together are one period (table K.6-1)."""
    assert found(keys(step)) is matches


@pytest.mark.parametrize(
    ("top", "matches"),
    [
        ({"PatientID": "P1"}, True), ({"PatientID": "P"}, False), ({"PatientID": "P?"}, True), ({"AccessionNumber": "A1001"}, True),
        ({"AccessionNumber": "a1001"}, False), ({"StudyInstanceUID": STUDY}, True), ({"StudyInstanceUID": [STUDY, "1.2"]}, True),
        ({"StudyInstanceUID": "1.2"}, False), ({"RequestedProcedureID": "R*1"}, True), ({"PatientSex": "F"}, False), ({"PregnancyStatus": 3}, True),
        ({"PregnancyStatus": 1}, False), ({"SpecialNeeds": "X"}, False), ({"Allergies": "Iod*"}, True),
    ],
)  # fmt: skip
def test_keys_beside_the_step(top: dict[str, Any], matches: bool) -> None:
    assert found(keys(**top)) is matches


def test_a_code_matches_inside_its_sequence() -> None:
    code = Dataset()
    code.CodeValue = "CTCHEST"
    assert found(keys(RequestedProcedureCodeSequence=[code]))
    code.CodeValue = "MRBRAIN"
    assert not found(keys(RequestedProcedureCodeSequence=[code]))


def test_wild_cards_take_no_time() -> None:
    """A pattern that would be exponential with backtracking."""
    assert not found(keys(PatientID="*a" * 30 + "b"), replace(STEP, patient=replace(STEP.patient, number="a" * 64)))


def test_a_key_that_is_longer_than_any_value() -> None:
    """A900H: what a hostile peer may make us compare is bounded."""
    with pytest.raises(ValidationError) as caught:
        matching.check({0x00100010: ("*a" * 200,)})
    assert caught.value.location == "00100010"


def test_dates_and_times_as_they_once_were_written() -> None:
    """PS3.5 clause 6.2: 1993.08.22 and 10:45:00 of ACR-NEMA are still taken."""
    raw = encoded(keys({"ScheduledProcedureStepID": ""}))
    item, _ = elements.parse(raw, IMPLICIT)
    inner = matching.inner(item)
    inner[0x00400002], inner[0x00400003] = ("2026.11.24",), ("09:30:00",)
    matching.check(item)
    step = {0x00400002: ("20261124",), 0x00400003: ("093000",)}
    assert matching.matches(inner, step, 0x00400100)


@pytest.mark.parametrize(
    ("identifier", "tag"),
    [
        (keys({"ScheduledProcedureStepStartDate": "20261124"}), ""),
        (keys(ScheduledProcedureStepSequence=[Dataset(), Dataset()]), "00400100"),
    ],
)
def test_a_sequence_of_a_query_has_one_item(identifier: Dataset, tag: str) -> None:
    """A900H, with the offending element."""
    if not tag:
        query.read(encoded(identifier), IMPLICIT, "CT1")
        return
    with pytest.raises(ValidationError) as caught:
        query.read(encoded(identifier), IMPLICIT, "CT1")
    assert caught.value.location == tag


@pytest.mark.parametrize(("tag", "value"), [(0x00400002, "today"), (0x00400003, "2500"), (0x00400002, "20261124-2026")])
def test_a_date_that_is_none_is_no_empty_worklist(tag: int, value: str) -> None:
    """The technologist is told, rather than shown nothing."""
    item = {0x00400100: [{tag: (value,)}]}
    with pytest.raises(ValidationError) as caught:
        matching.check(item)  # type: ignore[arg-type]
    assert caught.value.location == f"{tag:08X}"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x08\x00\x05",
        b"\x08\x00\x05\x00\xff\xff\xff\x7fISO",
        b"\xff" * 40,
        b"\x40\x00\x00\x01\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20,
    ],
)
def test_bytes_that_are_no_data_set(raw: bytes) -> None:
    """C000H."""
    with pytest.raises(ParseError):
        query.read(raw, IMPLICIT, "CT1")


# --- character sets ------------------------------------------------------------------------------------

ZHANG = Name("Zhang^XiaoDong", "张^小东")
YAMADA = Name("Yamada^Tarou", "山田^太郎", "やまだ^たろう")


def named(name: Name) -> Step:
    return replace(STEP, patient=replace(Patient("P1"), name=name))


@pytest.mark.parametrize(
    ("charset", "text", "raw"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう",
         b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
         b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동",
         b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"),
        (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东=", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="),
        (["GB18030"], "Wang^XiaoDong=王^小东=", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab="),
        (["ISO_IR 100"], "Buc^Jérôme", b"Buc^J\xe9r\xf4me"),
        (["", "ISO 2022 IR 100"], "Buc^Jérôme", b"Buc^J\x1b-A\xe9r\xf4me"),
        (["", "ISO 2022 IR 159"], "=丂^X", b"=\x1b$(D0\x21\x1b(B^X"),
        ([], "Smith^Joe", b"Smith^Joe"),
    ],
)  # fmt: skip
def test_the_examples_of_the_standard(charset: list[str], text: str, raw: bytes) -> None:
    """PS3.5 annexes H, I, J and K, byte for byte."""
    assert repertoire.encode(text, charset, name=True) == raw
    assert repertoire.decode(raw, charset) == text


@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        (("GB18030",), ZHANG, "Zhang^XiaoDong=张^小东"), (("GBK",), ZHANG, "Zhang^XiaoDong=张^小东"), (("ISO_IR 192",), YAMADA, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (("GB18030",), Name("", "张^小东"), "张^小东"), (("ISO_IR 192",), Name("", "张^小东"), "张^小东"), (("", "ISO 2022 IR 58"), Name("", "张^小东"), "=张^小东"),
        (("", "ISO 2022 IR 87"), YAMADA, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)  # fmt: skip
def test_names_in_the_character_set_of_a_modality(charset: tuple[str, ...], name: Name, expected: str) -> None:
    """A name of one spelling stands where modalities look for it; with code extensions the first group cannot hold it."""
    asked = query.read(encoded(keys(PatientName="")), IMPLICIT, "CT1", charset)
    (raw,) = asked.answers([(named(name), SCHEDULED)])
    item, told = elements.parse(raw, IMPLICIT)
    assert (tuple(told), item[0x00100010]) == (tuple(one for one in charset), (expected,))


def test_the_answer_is_in_the_character_set_of_the_query() -> None:
    (one,) = ask(keys(SpecificCharacterSet="GB18030", PatientName="张*"), named(ZHANG))
    assert (one.SpecificCharacterSet, one.PatientName) == ("GB18030", "Zhang^XiaoDong=张^小东")
    assert b"\xd5\xc5" in query.read(encoded(keys(SpecificCharacterSet="GB18030", PatientName="张*")), IMPLICIT, "X").answers(
        [(named(ZHANG), SCHEDULED)]
    ).__next__()  # fmt: skip


def test_a_query_that_says_no_character_set_is_read_in_the_modalitys() -> None:
    raw = encoded(keys(PatientName="XX*")).replace(b"XX", "张".encode("gb18030"))
    assert len(list(query.read(raw, IMPLICIT, "CT1", ("GB18030",)).answers([(named(ZHANG), SCHEDULED)]))) == 1


@pytest.mark.parametrize("charset", [(), ("ISO_IR 100",), ("", "ISO 2022 IR 149"), ("ISO_IR 9999",)])
def test_what_a_character_set_has_not_is_told_in_utf_8(charset: tuple[str, ...]) -> None:
    """Rather than garbled; ASCII names stay as they were asked for."""
    (one,) = ask(keys(PatientName=""), named(YAMADA if charset != ("", "ISO 2022 IR 149") else ZHANG), charset=charset)
    assert one.SpecificCharacterSet == "ISO_IR 192"
    (plain,) = ask(keys(PatientName=""), named(Name("Smith^Joe")))
    assert "SpecificCharacterSet" not in plain


def test_bytes_of_another_character_set_match_nothing() -> None:
    wrong = encoded(keys(PatientName="XX*")).replace(b"XX", b"\xff\xfe")
    assert list(query.read(wrong, IMPLICIT, "CT1").answers([(STEP, SCHEDULED)])) == []


def test_explicit_vr_is_answered_in_kind() -> None:
    asked = query.read(encoded(keys({"Modality": ""}, PatientName=""), implicit=False), "1.2.840.10008.1.2.1", "CT1", ("ISO_IR 192",))
    (raw,) = asked.answers([(STEP, SCHEDULED)])
    one = decoded(raw, implicit=False)
    assert one.ScheduledProcedureStepSequence[0].Modality == "CT"
    assert raw.startswith(b"\x08\x00\x05\x00CS")
