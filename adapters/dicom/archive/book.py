"""Writing an archive: what comes, what becomes of its study, what leaves it.

Invariants
1. What `keep` has returned for is on disk: the file under its name, the rows in one commit (WAL, synchronous=FULL) for the whole group.
2. An instance that cannot be read or indexed is refused for itself; the others of its group are kept.
3. The same SOP Instance UID with the same data set changes nothing, whatever its file meta information says. With another data set both are
   kept, and the newer is shown.
4. Every change of a study is a new revision of it, and opens it again for those who watch (`adapters.dicom.archive.notices`).
5. A file is removed only in a transaction that has seen that no row refers to it; what is to be removed is remembered in a table.

Several books may have the same folder open; each belongs to one thread.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from adapters.dicom.archive import levels, statements
from adapters.dicom.archive.database import Transaction, connect
from adapters.dicom.archive.elements import Elements
from adapters.dicom.archive.files import Files, digest_of
from adapters.dicom.archive.header import Header, data_set_digest, read_header, text_of
from adapters.dicom.archive.levels import Level
from adapters.dicom.archive.listing import SOURCE_AE_TITLE
from adapters.dicom.archive.matching import digits, fold
from engine.errors import MeridianError, ParseError, StoreError, ValidationError

KEPT: Final = "kept"
HAD: Final = "had already"
BESIDE: Final = "kept beside another of the same UID"

_GO_TOGETHER: Final = 100
_LONGEST_UID: Final = 128
"""A UID has 64 characters (PS3.5 9.1); what is not twice as long is taken as it is."""
_STUDY_SERIES, _STUDY_INSTANCES, _SERIES_INSTANCES = map(
    levels.tag, ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances")
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One PS3.10 file: in memory, or a file of the store with its digest."""

    body: bytes | Path
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an arrival: KEPT, HAD, BESIDE; or `fault` tells why it cannot be kept."""

    what: str
    sop_uid: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Staged:
    header: Header
    digest: str
    path: Path
    size: int


class Book:
    """`clock` gives microseconds UTC."""

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        self.folder, self._clock = folder, clock
        self._files = Files(folder)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Make the folder, or migrate its database. Raises StoreError."""
        self._files.open()
        self._connection = connect(self.folder)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def transaction(self) -> Transaction:
        """Raises StoreError where the book is closed."""
        if self._connection is None:
            raise StoreError("the archive is closed")
        return Transaction(self._connection)

    # --- what comes ------------------------------------------------------------------------------

    def keep(self, group: Sequence[Arrival]) -> list[Outcome]:
        """Keep a group in one commit. Raises StoreError: nothing of it is kept."""
        staged: list[_Staged | MeridianError] = []
        try:
            for arrival in group:
                staged.append(self._stage(arrival))
            with self.transaction() as rows:
                touched: dict[int, int] = {}
                now = self._clock()
                outcomes = [self._one(rows, one, touched, now) for one in staged]
                for study in touched:
                    _count(rows, study)
                self._files.settle({one.digest for one in staged if isinstance(one, _Staged) and self._files.has(one.digest)})
            return outcomes
        finally:
            for one in staged:
                if isinstance(one, _Staged):
                    with suppress(OSError):
                        one.path.unlink(missing_ok=True)

    def _stage(self, arrival: Arrival) -> _Staged | MeridianError:
        """Everything that takes time and needs no transaction."""
        try:
            with _opened(arrival.body) as file:
                header = read_header(file)
            _check(header)
        except (ParseError, ValidationError) as error:
            return error
        except FileNotFoundError:
            return ParseError("its file is not in the store any more")
        except OSError as error:
            raise StoreError(f"an instance cannot be read from the store now: {error.strerror}") from None
        path = self._files.stage(arrival.body)
        body = arrival.body
        return _Staged(header, arrival.digest or (digest_of(body) if isinstance(body, bytes) else ""), path, path.stat().st_size)

    def _one(self, rows: sqlite3.Connection, one: _Staged | MeridianError, touched: dict[int, int], now: int) -> Outcome:
        if isinstance(one, MeridianError):
            return Outcome("", fault=one.text)
        uid = one.header.sop_uid
        shown = rows.execute(statements.SHOWN, (uid,)).fetchone()
        if shown is not None and self._has(rows, one):
            return Outcome(HAD, uid)
        self._files.place(one.path, one.digest)
        rows.execute(statements.NOT_GONE, (one.digest,))
        study = self._study(rows, one.header, now)
        series = self._series(rows, one.header, study)
        for changed in {study} | ({shown[3]} if shown else set()):
            if changed not in touched:
                touched[changed] = _bump(rows, changed, now)
        if shown is not None:
            rows.execute(statements.REPLACE, (touched[shown[3]], shown[0]))
        head = one.header
        values = (uid, series, study, head.sop_class, head.transfer_syntax, one.digest, one.size, touched[study])
        (instance,) = rows.execute(statements.INSTANCE, values).fetchone()
        source = {SOURCE_AE_TITLE: {"vr": "AE", "Value": [head.source]}} if head.source else {}
        rows.execute(statements.HEADER, (instance, zlib.compress(orjson.dumps({**source, **head.elements}), 1)))
        return Outcome(BESIDE if shown else KEPT, uid)

    def _has(self, rows: sqlite3.Connection, one: _Staged) -> bool:
        """Whether the same data set came under this UID before. Digests of data sets are worked out only now: UIDs rarely come again."""
        if rows.execute(statements.BY_DIGEST, (one.digest,)).fetchone():
            return True
        mine = data_set_digest(one.path)
        for (digest,) in rows.execute(statements.OF_UID, (one.header.sop_uid,)).fetchall():
            with suppress(OSError):
                if data_set_digest(self._files.path(digest)) == mine:
                    return True
        return False

    def _study(self, rows: sqlite3.Connection, header: Header, now: int) -> int:
        elements = header.elements
        uid, number = header.text(levels.STUDY_UID), header.text(levels.PATIENT_ID)
        whose = {"patient_id": number, "issuer": header.text(levels.ISSUER), "apart": "" if number else uid}
        person, names = _stored(elements, Level.PATIENT), _names(elements)
        (patient,) = rows.execute(statements.PATIENT, {**whose, "attributes": person}).fetchone()
        rows.execute(statements.UNNAME_PATIENT, (patient,))
        rows.executemany(statements.NAME_PATIENT, [(name, patient) for name in names])
        (study,) = rows.execute(
            statements.STUDY,
            {
                "uid": uid,
                "patient": patient,
                "person": person,
                "date": digits("DA", header.text(levels.STUDY_DATE)),
                "accession": header.text(levels.ACCESSION),
                "attributes": _stored(elements, Level.STUDY),
                "expected": _whole(elements, _STUDY_INSTANCES),
                "expected_series": _whole(elements, _STUDY_SERIES),
                "changed": now,
            },
        ).fetchone()
        rows.execute(statements.UNNAME_STUDY, (study,))
        rows.executemany(statements.NAME_STUDY, [(name, study) for name in names])
        return int(study)

    def _series(self, rows: sqlite3.Connection, header: Header, study: int) -> int:
        values = {
            "uid": header.text(levels.SERIES_UID),
            "study": study,
            "modality": header.text(levels.MODALITY),
            "attributes": _stored(header.elements, Level.SERIES),
            "expected": _whole(header.elements, _SERIES_INSTANCES),
        }
        return int(rows.execute(statements.SERIES, values).fetchone()[0])

    # --- what leaves -----------------------------------------------------------------------------

    def retire(self, keep: int, most_bytes: int) -> bool:
        """One small step: forget a study that is older than `keep` (microseconds) or, while there are more than `most_bytes` (0: no
        limit), the oldest of which nothing more is to be said; or remove some files. False where there was nothing to do.
        Raises StoreError."""
        with self.transaction() as rows:
            found = rows.execute(statements.OLD, (self._clock() - keep,)).fetchone()
            if found is None and most_bytes and rows.execute(statements.BYTES).fetchone()[0] > most_bytes:
                found = rows.execute(statements.OLDEST).fetchone()
            if found is not None:
                _forget(rows, found[0])
        return self._remove_some() > 0 or found is not None

    def _remove_some(self) -> int:
        with self.transaction() as rows:
            gone = [digest for (digest,) in rows.execute(statements.GONE, (_GO_TOGETHER,))]
            for digest in gone:
                if not rows.execute(statements.STILL_HELD, (digest,)).fetchone():
                    self._files.remove(digest)
            rows.executemany(statements.NOT_GONE, [(digest,) for digest in gone])
        if gone and self._connection is not None:
            with suppress(sqlite3.Error):  # gives pages back where it can
                self._connection.execute(statements.VACUUM).fetchall()
        return len(gone)


def _forget(rows: sqlite3.Connection, study: int) -> None:
    (patient,) = rows.execute(statements.WHOSE, (study,)).fetchone()
    rows.execute(statements.GO, (study,))
    rows.execute(statements.FORGET, (study,))
    rows.execute(statements.NOBODY, (patient,))


def _bump(rows: sqlite3.Connection, study: int, now: int) -> int:
    """A new revision of a study, and those who watch are to look at it."""
    rows.execute(statements.BUMP, (now, study))
    rows.execute(statements.WAKE, {"study": study})
    return int(rows.execute(statements.REVISION, (study,)).fetchone()[0])


def _count(rows: sqlite3.Connection, study: int) -> None:
    """What is worked out from what is held (PS3.4 C.3.4)."""
    for (series,) in rows.execute(statements.SERIES_OF, (study,)).fetchall():
        (count,) = rows.execute(statements.COUNT_SERIES, (series,)).fetchone()
        (tag,) = levels.COUNTED[Level.SERIES]
        rows.execute(statements.COUNTED_SERIES, (count, orjson.dumps({tag: {"vr": "IS", "Value": [count]}}), series))
    instances, series_held, size = rows.execute(statements.COUNT_STUDY, {"study": study}).fetchone()
    modalities, sop_classes, series_tag, instances_tag = levels.COUNTED[Level.STUDY]
    counted = {
        modalities: _listed("CS", rows.execute(statements.MODALITIES, (study,))),
        sop_classes: _listed("UI", rows.execute(statements.SOP_CLASSES, (study,))),
        series_tag: {"vr": "IS", "Value": [series_held]},
        instances_tag: {"vr": "IS", "Value": [instances]},
    }
    rows.execute(statements.COUNTED_STUDY, (instances, size or 0, orjson.dumps(counted), study))
    rows.execute(statements.AWAIT, (study,))


def _listed(vr: str, found: sqlite3.Cursor) -> dict[str, Any]:
    values = [value for (value,) in found.fetchall()]
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _stored(elements: Elements, level: Level) -> bytes:
    return orjson.dumps(levels.pick(elements, level))


def _names(elements: Elements) -> set[str]:
    values = elements.get(levels.PATIENT_NAME, {}).get("Value", ())
    return {fold(group) for value in values if isinstance(value, dict) for group in value.values()}


def _whole(elements: Elements, tag: str) -> int | None:
    text = text_of(elements, tag)
    return int(text) if text.isdecimal() and 0 < int(text) < 10_000_000 else None


def _check(header: Header) -> None:
    for tag, name in ((levels.STUDY_UID, "Study Instance UID (0020,000D)"), (levels.SERIES_UID, "Series Instance UID (0020,000E)")):
        uid = header.text(tag)
        if not uid or len(uid) > _LONGEST_UID:
            raise ValidationError(f"an instance without a right {name} belongs to no study")


def _opened(body: bytes | Path) -> BinaryIO:
    return BytesIO(body) if isinstance(body, bytes) else body.open("rb")
