"""The archive's book: what is kept, what comes again, what leaves; files and rows stay together."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from adapters.dicom.archive import files, statements
from adapters.dicom.archive.book import BESIDE, HAD, KEPT, Arrival
from adapters.dicom.archive.database import NAME
from adapters.dicom.archive.index import Index
from adapters.dicom.archive.notices import Notices
from engine.errors import StoreError, StoreFull
from tests.support.dicom_archive import CHARSET_FILES, TEST_FILES, Archive, instance

DAY = 86_400_000_000


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path / "dicom")
    yield made
    made.close()


@pytest.fixture
def index(archive: Archive) -> Iterator[Index]:
    made = Index(archive.folder)
    yield made
    made.close()


def kept_files(archive: Archive) -> list[Path]:
    return sorted(archive.folder.glob("??/*"))


def values(index: Index, level: str, tag: str) -> list[Any]:
    return [one[tag]["Value"][0] for one in index.find(level, {})]


# --- what comes --------------------------------------------------------------------------------------


def test_an_instance_is_kept_byte_for_byte(archive: Archive, index: Index) -> None:
    body = instance()
    (outcome,) = archive.keep(body)
    assert (outcome.what, outcome.sop_uid) == (KEPT, "2.25.1.1.1")
    (held,) = index.instances("2.25.1")
    assert held.path.read_bytes() == body
    assert held[1:] == ("1.2.840.10008.5.1.4.1.1.2", "2.25.1.1.1", "1.2.840.10008.1.2.1", "2.25.1.1", "2.25.1", len(body))


def test_a_file_of_the_store_is_linked(archive: Archive, index: Index, tmp_path: Path) -> None:
    """No byte is copied, and it outlives the store's own name for it."""
    body = tmp_path / "body"
    body.write_bytes(instance())
    archive.book.keep([Arrival(body, sha256(body.read_bytes()).hexdigest())])
    (held,) = index.instances("2.25.1")
    assert held.path.stat().st_ino == body.stat().st_ino
    body.unlink()
    assert held.path.read_bytes() == instance()


def test_a_store_on_another_disk_is_copied_from(archive: Archive, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def across_devices(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(files.os, "link", across_devices)
    body = tmp_path / "body"
    body.write_bytes(instance())
    archive.book.keep([Arrival(body, sha256(body.read_bytes()).hexdigest())])
    (held,) = index.instances("2.25.1")
    assert held.path.read_bytes() == instance()
    assert held.path.stat().st_ino != body.stat().st_ino


def test_the_same_again_changes_nothing(archive: Archive, index: Index) -> None:
    """Whoever sends it, and in the same group too."""
    outcomes = archive.keep(instance(), instance(), instance(sender="PACS"))
    assert [one.what for one in outcomes] == [KEPT, HAD, HAD]
    assert archive.keep(instance(sender="OTHER"))[0].what == HAD
    assert len(kept_files(archive)) == len(index.versions("2.25.1.1.1")) == 1
    assert not list((archive.folder / "spool").iterdir())


def test_another_of_the_same_uid_is_kept_beside_it(archive: Archive, index: Index) -> None:
    """The newer is shown; the older comes again: nothing changes."""
    archive.keep(instance())
    assert archive.keep(instance(Rows=5))[0].what == BESIDE
    assert archive.keep(instance())[0].what == HAD
    newer, older = index.versions("2.25.1.1.1")
    assert newer == index.instances("2.25.1")[0]
    assert (newer.path.read_bytes(), older.path.read_bytes()) == (instance(Rows=5), instance())
    assert values(index, "STUDY", "00201208") == [1]


def test_an_instance_that_moves_to_another_study(archive: Archive, index: Index) -> None:
    """Its old study is not there any more."""
    archive.keep(instance())
    archive.keep(instance(StudyInstanceUID="2.25.7", SeriesInstanceUID="2.25.7.1"))
    assert values(index, "STUDY", "0020000D") == ["2.25.7"]
    assert values(index, "SERIES", "0020000E") == ["2.25.7.1"]
    assert index.instances("2.25.1") == []


def test_one_that_is_at_fault_does_not_hold_up_the_others(archive: Archive, index: Index) -> None:
    outcomes = archive.keep(instance(1), b"no DICOM", instance(2, StudyInstanceUID=None), instance(3))
    assert [bool(one.fault) for one in outcomes] == [False, True, True, False]
    assert "Study Instance UID" in outcomes[2].fault
    assert values(index, "STUDY", "00201208") == [2]


def test_nobody_is_taken_for_somebody_else(archive: Archive, index: Index) -> None:
    """Without a Patient ID each study has a patient of its own."""
    archive.keep(instance(study="1", PatientID="", PatientName="A"), instance(study="2", PatientID="", PatientName="B"))
    assert [one["00100010"]["Value"][0]["Alphabetic"] for one in index.find("PATIENT", {})] == ["A", "B"]


def test_counts_are_worked_out(archive: Archive, index: Index) -> None:
    archive.keep(*[instance(number, series, Modality=modality) for series, modality in (("1", "CT"), ("2", "SR")) for number in (1, 2)])
    archive.keep(instance(study="2"))
    study, _ = index.find("STUDY", {})
    assert (study["00080061"]["Value"], study["00201206"]["Value"], study["00201208"]["Value"]) == (["CT", "SR"], [2], [4])
    (patient,) = index.find("PATIENT", {})
    assert [patient[tag]["Value"] for tag in ("00201200", "00201202", "00201204")] == [[2], [3], [5]]


def test_the_newest_word_on_a_patient_holds(archive: Archive, index: Index) -> None:
    archive.keep(instance(PatientName="Doe^Jo"))
    archive.keep(instance(2, PatientName="Roe^Jo"))
    assert list(index.find("STUDY", {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "doe*"}]}})) == []
    assert len(list(index.find("STUDY", {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "roe*"}]}}))) == 1


def test_two_people_with_one_number(archive: Archive, index: Index) -> None:
    """Two sources that number alike: a study says who its patient is by its own instances, whatever came for the other since."""
    archive.keep(instance(study="1", PatientName="Doe^Jo"), instance(study="2", PatientName="王^小明"))
    named = [(one["0020000D"]["Value"][0], one["00100010"]["Value"][0]["Alphabetic"]) for one in index.find("STUDY", {})]
    assert named == [("2.25.1", "Doe^Jo"), ("2.25.2", "王^小明")]
    (found,) = index.find("STUDY", {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "doe*"}]}})
    assert found["0020000D"]["Value"] == ["2.25.1"]
    assert list(index.find("PATIENT", {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "doe*"}]}})) == []


def test_all_that_pydicom_brings_along(archive: Archive, index: Index) -> None:
    """Each is kept, or refused with a reason; each that is kept is found by its patient's name, in any of its groups."""
    bodies = [path.read_bytes() for path in (*CHARSET_FILES, *TEST_FILES)]
    outcomes = archive.keep(*bodies)
    assert all(bool(one.what) != bool(one.fault) for one in outcomes)
    assert sum(bool(one.what) for one in outcomes) > 70
    for patient in index.find("PATIENT", {}):
        for name in patient.get("00100010", {}).get("Value", ()):
            for group in name.values():
                found = index.find("PATIENT", {"00100010": {"vr": "PN", "Value": [{"Alphabetic": group[:2] + "*"}]}})
                assert patient in list(found), group


# --- when it cannot be kept --------------------------------------------------------------------------


def test_a_full_disk_keeps_nothing_of_the_group(archive: Archive, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next group is kept as if nothing had been."""

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "_sync_folder", full)
        with pytest.raises(StoreFull):
            archive.keep(instance(1), instance(2))
    assert list(index.find("STUDY", {})) == []
    assert not list((archive.folder / "spool").iterdir())
    assert [one.what for one in archive.keep(instance(1), instance(2))] == [KEPT, KEPT]
    assert len(kept_files(archive)) == 2


def test_a_database_that_fails_in_the_middle(archive: Archive, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(statements, "HEADER", "insert into nowhere values (?, ?)")
        with pytest.raises(StoreError):
            archive.keep(instance())
    assert list(index.find("IMAGE", {})) == []
    assert archive.keep(instance())[0].what == KEPT


def test_permissions(archive: Archive) -> None:
    """Images are for the node's own user alone."""
    archive.keep(instance())
    for path in (archive.folder, archive.folder / NAME, kept_files(archive)[0].parent):
        assert path.stat().st_mode & 0o077 == 0
    assert os.access(kept_files(archive)[0], os.R_OK)


# --- what leaves -------------------------------------------------------------------------------------


def retire(archive: Archive, keep: int = 30 * DAY, most: int = 0) -> int:
    steps = 0
    while archive.book.retire(keep, most):
        steps += 1
    return steps


def test_studies_leave_after_their_time(archive: Archive, index: Index) -> None:
    """As a whole, counted from the last that came; their patients with them."""
    archive.keep(instance(1), instance(study="2", PatientID="P2"))
    archive.now += 20 * DAY
    archive.keep(instance(2))
    archive.now += 20 * DAY
    assert retire(archive) > 0
    assert values(index, "STUDY", "0020000D") == ["2.25.1"]
    assert values(index, "PATIENT", "00100020") == ["P1"]
    assert len(kept_files(archive)) == 2
    assert retire(archive) == 0


def test_the_oldest_leave_when_there_is_too_much(archive: Archive, index: Index) -> None:
    for study in "123":
        archive.now += DAY
        archive.keep(instance(study=study))
    size = index.instances("2.25.1")[0].size
    retire(archive, most=2 * size + 10)
    assert values(index, "STUDY", "0020000D") == ["2.25.2", "2.25.3"]


def test_what_was_not_told_of_yet_stays(archive: Archive, index: Index) -> None:
    """Too much or not: somebody waits for it."""
    notices = Notices(archive.folder, "c")
    notices.open()
    archive.keep(instance())
    retire(archive, most=1)
    assert values(index, "STUDY", "0020000D") == ["2.25.1"]
    (listed,) = notices.due(archive.now, 10)
    notices.said(notices.plan(listed, "STUDY^COMPLETE", "quiet"))
    retire(archive, most=1)
    assert values(index, "STUDY", "0020000D") == []
    notices.close()


def test_a_file_that_comes_back_is_not_removed(archive: Archive, index: Index) -> None:
    """Its study was forgotten, its file was not removed yet, and the same instance comes again."""
    archive.keep(instance())
    archive.now += 40 * DAY
    with archive.book.transaction() as rows:
        rows.execute(statements.GO, (1,))
        rows.execute(statements.FORGET, (1,))
    archive.keep(instance())
    assert retire(archive) == 0
    (held,) = index.instances("2.25.1")
    assert held.path.read_bytes() == instance()


def test_two_books_of_one_archive(archive: Archive, index: Index) -> None:
    """Two channels may keep in the same folder."""
    other = Archive(archive.folder)
    archive.keep(instance(1))
    assert [one.what for one in other.keep(instance(1), instance(2))] == [HAD, KEPT]
    assert values(index, "STUDY", "00201208") == [2]
    other.close()


def test_an_index_before_there_is_an_archive(tmp_path: Path) -> None:
    """Nothing matches, and nothing is made."""
    index = Index(tmp_path / "none")
    assert list(index.find("STUDY", {})) == index.instances("1.2") == []
    assert not (tmp_path / "none").exists()
    archive = Archive(tmp_path / "none")
    archive.keep(instance())
    assert values(index, "STUDY", "0020000D") == ["2.25.1"]
    index.close()
    archive.close()
