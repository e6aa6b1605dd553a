"""Performed procedure steps: their state rules (PS3.4 F.7.2), what follows for orders, and what is told of it (IHE RAD-3, RAD-6, RAD-7)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from adapters.dicom.worklist import elements, mpps, orders, patients, reports
from adapters.dicom.worklist.book import Book, Change
from adapters.dicom.worklist.mpps import Outcome
from adapters.dicom.worklist.orders import Site
from engine.errors import ParseError
from engine.formats import hl7v2
from tests.support.imaging import ORC, PID, SITE, STUDY, ZDS, as_file, begun, ended, hl7, order, read, segment

UID = "1.2.826.0.1.3680043.8.498.7"


def content(data_set: Dataset) -> mpps.Content:
    return elements.parse_file(as_file(UID, data_set))[1]


def without(data_set: Dataset, keyword: str) -> Dataset:
    delattr(data_set, keyword)
    return data_set


BEGUN = content(begun())


# --- the rules ---------------------------------------------------------------------------------------


def test_a_step_is_created_in_progress_and_ends_once() -> None:
    created = mpps.create(BEGUN, None)
    assert (created.status, created.content) == (0, BEGUN)
    completed = mpps.change(content(ended()), BEGUN)
    assert completed.status == 0
    assert completed.content is not None
    assert mpps.status_of(completed.content) == "COMPLETED"
    assert mpps.moments(completed.content) == ("20261124093100", "20261124094500")
    again = mpps.change(content(ended("DISCONTINUED")), completed.content)
    assert (again.status, again.comment, again.error_id, again.content) == (0x0110, mpps.NO_LONGER, 0xA710, None)


@pytest.mark.parametrize(
    ("given", "existing", "status", "attributes"),
    [
        (begun(), BEGUN, 0x0111, ()),
        (without(begun(), "Modality"), None, 0x0120, ("00080060",)),
        (begun(PerformedStationAETitle=""), None, 0x0121, ("00400241",)),
        (begun(study=""), None, 0x0121, ("00400270",)),
        (begun(PerformedProcedureStepStatus="COMPLETED"), None, 0x0106, ("00400252",)),
    ],
)
def test_what_may_not_be_created(given: Dataset, existing: Any, status: int, attributes: tuple[str, ...]) -> None:
    outcome = mpps.create(content(given), existing)
    assert (outcome.status, outcome.attributes, outcome.content) == (status, attributes, None)


@pytest.mark.parametrize(
    ("given", "existing", "status", "attributes"),
    [
        (ended(), None, 0x0112, ()),
        (ended(PatientID="P2"), BEGUN, 0x0105, ("00100020",)),
        (ended("PAUSED"), BEGUN, 0x0106, ("00400252",)),
        (without(ended(), "PerformedProcedureStepEndTime"), BEGUN, 0x0121, ("00400251",)),
        (ended(series=""), BEGUN, 0x0121, ("00400340",)),
    ],
)
def test_what_may_not_be_set(given: Dataset, existing: Any, status: int, attributes: tuple[str, ...]) -> None:
    outcome = mpps.change(content(given), existing)
    assert (outcome.status, outcome.attributes, outcome.content) == (status, attributes, None)


def test_what_may_be_set() -> None:
    """Everything again, as many modalities do; and an end before anything was made."""
    assert mpps.change(content(ended(PatientID="P1", PerformedProcedureStepID="PPS1")), BEGUN).status == 0
    assert mpps.change(content(ended("DISCONTINUED", series="")), BEGUN).status == 0
    between = Dataset()
    between.PerformedProcedureStepDescription = "second phase"
    outcome = mpps.change(content(between), BEGUN)
    assert outcome.content is not None
    assert (mpps.status_of(outcome.content), mpps.text(outcome.content, "00400254")) == ("IN PROGRESS", "second phase")


@pytest.mark.parametrize("raw", [b"", b"DICM" * 64, as_file(UID, begun())[:400]])
def test_a_file_that_is_none(raw: bytes) -> None:
    with pytest.raises(ParseError):
        elements.parse_file(raw)


# --- what follows ------------------------------------------------------------------------------------


class Desk:
    """A book, what it is told, and what would be reported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.book = Book(path)
        self.book.open()
        self._message = 0

    def order(self, body: bytes, now: int = 10, site: Site = SITE) -> int:
        return self.book.keep(orders.read(body, "utf-8", site, "20261124081500"), now, 0)

    def create(self, uid: str = UID, **more: Any) -> int:
        return self._perform(uid, begun(**more), mpps.create)

    def set(self, status: str = "COMPLETED", uid: str = UID, **more: Any) -> int:
        return self._perform(uid, ended(status, **more), mpps.change)

    def _perform(self, uid: str, data_set: Dataset, rule: Any) -> int:
        self._message += 1
        told: list[Outcome] = []
        self.book.perform(uid, content(data_set), rule, self._report, 20, self._message, lambda outcome: told.append(outcome) or b"told")
        return told[0].status

    @staticmethod
    def _report(changes: Sequence[Change], step: mpps.Content) -> list[dict[str, Any]]:
        return [
            reports.change(one.step, one.order_status, step, "20261124094600", f"M{one.step.step_id}{one.order_status}") for one in changes
        ]

    def listed(self) -> list[tuple[str, str]]:
        """What is on the worklist: step identifiers and statuses."""
        return [(kept.step.step_id, kept.status) for kept in self.book.find()]

    def told(self) -> list[tuple[str, str]]:
        """Step and ORC-5 of every report."""
        messages = [hl7v2.decode(reports.message(kept, "ORM^O01", "anping", "HIS|H")) for _, kept in self.book.changes(100)]
        return [(str(one.get("OBR-20")), str(one.get("ORC-5"))) for one in messages]

    def rows(self, sql: str) -> list[Any]:
        with sqlite3.connect(self.path) as database:
            return database.execute(sql).fetchall()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "worklist.db")
    yield made
    made.book.close()


def test_from_scheduled_to_completed(desk: Desk) -> None:
    """On the worklist until it ends; told once at the beginning and once at the end."""
    desk.order(order())
    assert desk.listed() == [("S1001", "SCHEDULED")]
    assert desk.create() == 0
    assert desk.listed() == [("S1001", "IN PROGRESS")]
    assert desk.set() == 0
    assert desk.listed() == []
    assert desk.told() == [("S1001", "IP"), ("S1001", "CM")]
    assert desk.set() == 0x0110
    assert desk.create() == 0x0111
    assert len(desk.told()) == 2


def test_what_was_performed_can_be_read(desk: Desk) -> None:
    """Study, series and instances, for whoever wants to know whether a study is complete."""
    desk.create()
    assert desk.rows("select * from performed") == []
    assert desk.rows("select uid, study, status from mpps") == [(UID, STUDY, "IN PROGRESS")]
    desk.set()
    ct = "1.2.840.10008.5.1.4.1.1.2"
    assert desk.rows("select mpps, study, series, sop, sop_class, status from performed order by sop") == [
        (UID, STUDY, "1.2.3.4", "", "", "COMPLETED"),
        (UID, STUDY, "1.2.3.4", "1.2.3.4.1", ct, "COMPLETED"),
        (UID, STUDY, "1.2.3.4", "1.2.3.4.2", ct, "COMPLETED"),
    ]


def test_an_unscheduled_step_is_kept(desk: Desk) -> None:
    """Nobody ordered it, so there is nobody to tell."""
    desk.order(order())
    assert desk.create(study="1.2.99", step="S9") == 0
    assert desk.listed() == [("S1001", "SCHEDULED")]
    assert desk.told() == []
    assert desk.rows("select status from mpps") == [("IN PROGRESS",)]


def test_an_order_of_two_steps_is_completed_with_the_last(desk: Desk) -> None:
    two = [segment("OBR", f1=n, f4="CT^CT^L", f18="A1001", f19="R1001", f20=f"S{n}", f24="CT") for n in ("1", "2")]
    desk.book.keep(read("ORM^O01", PID, ORC, two[0], ORC, two[1], ZDS), 10, 0)
    desk.create(step="S1", uid="1.1")
    desk.set(uid="1.1")
    desk.create(step="S2", uid="1.2")
    assert desk.listed() == [("S2", "IN PROGRESS")]
    desk.set(uid="1.2")
    assert desk.told() == [("S1", "IP"), ("S1", "IP"), ("S2", "IP"), ("S2", "CM")]


def test_a_step_that_is_broken_off_and_done_after_all(desk: Desk) -> None:
    """Two performed steps for one scheduled step: discontinued, then completed."""
    desk.order(order())
    desk.create(uid="1.1")
    desk.set("DISCONTINUED", uid="1.1")
    assert desk.listed() == []
    desk.create(uid="1.2")
    desk.set(uid="1.2")
    assert desk.told() == [("S1001", "IP"), ("S1001", "DC"), ("S1001", "IP"), ("S1001", "CM")]


def test_the_wrong_entry_of_the_worklist(desk: Desk) -> None:
    """RAD-7: discontinued with 110514, so what was scheduled is still to be done."""
    desk.order(order())
    desk.create()
    reason = Dataset()
    reason.CodeValue, reason.CodingSchemeDesignator, reason.CodeMeaning = "110514", "DCM", "Incorrect worklist entry selected"
    desk.set("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason])
    assert desk.listed() == [("S1001", "SCHEDULED")]
    assert desk.told() == [("S1001", "IP"), ("S1001", "SC")]


def test_cancelled_and_ordered_again(desk: Desk) -> None:
    desk.order(order())
    assert desk.order(order("CA")) == 1
    assert desk.listed() == []
    desk.order(order("NW"))
    assert desk.listed() == [("S1001", "SCHEDULED")]
    desk.order(order("HD"))
    assert desk.listed() == []
    desk.order(order("RL"))
    assert desk.listed() == [("S1001", "SCHEDULED")]
    desk.order(order("SC", "CM"))
    assert desk.listed() == []


def numbered(control: str, placer: str, filler: str) -> bytes:
    """An order without identifiers of procedure and step."""
    return hl7("ORM^O01", PID, f"ORC|{control}|{placer}|{filler}", segment("OBR", f1="1", f4="CT^CT^L", f24="CT"))


def test_an_order_is_known_by_either_of_its_numbers(desk: Desk) -> None:
    """The placer's first, the filler's once there is one; whoever cancels may say only one of them."""
    desk.order(numbered("NW", "P1", ""))
    desk.order(numbered("XO", "P1", "F1"))
    assert len(desk.listed()) == 1
    assert desk.order(numbered("CA", "", "F1")) == 1
    assert desk.listed() == []


def test_two_orders_of_one_request_are_two(desk: Desk) -> None:
    """The same placer number with another filler number; to cancel by the placer's takes both off."""
    desk.order(numbered("NW", "P1", "F1"))
    desk.order(numbered("NW", "P1", "F2"))
    assert len(desk.listed()) == 2
    assert desk.order(numbered("CA", "P1", "F2")) == 1
    assert len(desk.listed()) == 1
    assert desk.order(numbered("CA", "P1", "")) == 1
    assert desk.listed() == []


def test_images_that_are_there_are_not_cancelled(desk: Desk) -> None:
    desk.order(order())
    desk.create()
    assert desk.order(order("CA")) == 0
    assert desk.listed() == [("S1001", "IN PROGRESS")]


def test_an_order_sent_again_does_not_come_back(desk: Desk) -> None:
    """What is done is done; a change of an open one moves it, and keeps its study."""
    desk.order(order())
    desk.order(order("XO").replace(b"20261124093000", b"20261125093000"))
    assert [kept.step.date for kept in desk.book.find()] == ["20261125"]
    desk.create()
    desk.order(order("XO").replace(STUDY.encode(), b"1.2.3.99"))
    assert [kept.step.study_uid for kept in desk.book.find()] == [STUDY]
    desk.set()
    desk.order(order())
    assert desk.listed() == []


def test_a_study_made_here_stays_until_another_is_given(desk: Desk) -> None:
    plain = order().replace(ZDS.encode() + b"\r", b"")
    desk.order(plain)
    (first,) = desk.book.find()
    desk.order(plain, site=Site("renamed"))
    (second,) = desk.book.find()
    desk.order(order("XO"))
    (third,) = desk.book.find()
    assert first.step.study_uid == second.step.study_uid != third.step.study_uid == STUDY


@pytest.mark.parametrize(
    ("kind", "segments", "touched", "number"),
    [
        ("ADT^A08", (PID.replace("Wang^Xiaoming", "Wang^Xiaomin"),), 1, "P1"),
        ("ADT^A40", (PID.replace("|P1^", "|P9^").replace("Wang^Xiaoming", "Wang^Xiaomin"), "MRG|P1^^^HIS^MR"), 1, "P9"),
        ("ADT^A08", (PID.replace("^^^HIS", "^^^OTHER"),), 0, "P1"),
        ("ADT^A40", (PID.replace("|P1^", "|P9^"), "MRG|P1^^^OTHER^MR"), 0, "P1"),
    ],
)
def test_a_patient_who_is_another_after_all(desk: Desk, kind: str, segments: tuple[str, ...], touched: int, number: str) -> None:
    """RAD-12: a corrected name, and two numbers that are one person; a number of another authority is another's."""
    desk.order(order())
    assert desk.book.update(patients.read_update(hl7(kind, *segments), "utf-8", ""), 30) == touched
    (kept,) = desk.book.find(patient=number)
    assert kept.step.patient.name.alphabetic == ("Wang^Xiaomin" if touched else "Wang^Xiaoming")
    assert (kept.step.patient.allergies, kept.status) == (("Iodine",), "SCHEDULED")


def test_what_is_asked_for_is_found(desk: Desk) -> None:
    desk.order(order())
    wanted: list[dict[str, str]] = [
        {}, {"first": "20261124", "last": "20261124"}, {"modality": "CT"}, {"patient": "P1"}, {"accession": "A1001"}, {"last": "20261123"},
        {"first": "20261125"}, {"modality": "MR"}, {"patient": "P2"}, {"accession": "A2"},
    ]  # fmt: skip
    assert [len(list(desk.book.find(**one))) for one in wanted] == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]


def test_what_is_old_is_forgotten_but_not_before_its_day(desk: Desk) -> None:
    day = 24 * 3600 * 10**6
    desk.order(order(), now=1)
    desk.create()
    desk.set()
    before = 1_795_000_000_000_000  # 18 November 2026
    desk.book.keep([], before, before)
    assert desk.rows("select count(*) from steps") == [(1,)]
    assert desk.rows("select count(*) from mpps") + desk.rows("select count(*) from performed") == [(0,), (0,)]
    desk.book.keep([], before, before + 30 * day)
    assert desk.rows("select count(*) from steps") == [(0,)]


def test_a_report_is_taken_off_when_it_is_kept(desk: Desk) -> None:
    desk.order(order())
    desk.create()
    ((number, _),) = desk.book.changes(10)
    desk.book.reported(number)
    assert desk.book.changes(10) == []


# --- the messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "version"), [("ORM^O01", "2.3.1"), ("OMG^O19", "2.5.1")])
def test_a_status_message(desk: Desk, kind: str, version: str) -> None:
    """RAD-3: the order's own numbers, ORC-1 SC, ORC-5, and when."""
    desk.order(order())
    desk.create()
    desk.set()
    message = hl7v2.decode(reports.message(desk.book.changes(10)[1][1], kind, "anping", "HIS|ANPING"))
    wanted = {
        "MSH-3": "anping", "MSH-5": "HIS", "MSH-6": "ANPING", "MSH-9.1": kind[:3], "MSH-12": version, "MSH-18": "UNICODE UTF-8", "PID-3.1": "P1",
        "PID-3.4": "HIS", "PID-5.1": "Wang", "PID-5[2].1": "王", "PID-5[2].8": "I", "PID-8": "M", "ORC-1": "SC", "ORC-2.1": "O1", "ORC-2.2": "HIS",
        "ORC-3.1": "F1", "ORC-5": "CM", "OBR-4.1": "CTCHEST", "OBR-4.4": "CHEST-1", "OBR-7": "20261124093100", "OBR-8": "20261124094500",
        "OBR-18": "A1001", "OBR-19": "R1001", "OBR-20": "S1001", "OBR-24": "CT", "OBR-44.1": "CTCHEST", "ZDS-1.1": STUDY,
    }  # fmt: skip
    assert {path: message.get(path) for path in wanted} == wanted


def test_what_is_reported_can_be_read_as_an_order_status(desk: Desk) -> None:
    """The same words, read the other way."""
    desk.order(order())
    desk.create()
    desk.set()
    (word,) = orders.read(reports.message(desk.book.changes(10)[1][1], "ORM^O01", "anping", ""), "utf-8", Site(), "")
    assert (word.status, word.step.key) == ("COMPLETED", ("O1^HIS|F1^RIS", "R1001", "S1001"))
