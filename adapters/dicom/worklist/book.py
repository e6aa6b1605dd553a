"""The worklist on disk: steps, what modalities said of them, and what is still to be reported. SQLite, one connection, one thread.

What a method that writes has returned from is on disk. Several books may have the same file open.

For others to read: `performed` has a row for every instance (and every empty series) that a modality says it has made, `mpps` the state of
each performed step by study; together they tell whether a study is complete.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from adapters.dicom.worklist import mpps, tables
from adapters.dicom.worklist.orders import Word
from adapters.dicom.worklist.patients import Update
from adapters.dicom.worklist.steps import (
    CANCELLED,
    COMPLETED,
    DISCONTINUED,
    IN_PROGRESS,
    ON_HOLD,
    OPEN,
    SCHEDULED,
    Step,
    from_json,
    to_json,
)
from engine.transaction import transaction

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A step with where it stands."""

    step: Step
    status: str


@dataclass(frozen=True, slots=True)
class Change:
    """A step whose state an MPPS has changed; `order_status` is that of its whole order."""

    step: Step
    status: str
    order_status: str


Report = Callable[[Sequence[Change], mpps.Content], Sequence[dict[str, Any]]]
"""Words the changes that one MPPS made, as messages that go into `changes`."""


class Book:
    """All methods belong to one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, *, to_read: bool = False) -> None:
        """`to_read`: the file is there, and is only read."""
        if to_read:
            self._database = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", timeout=5.0, isolation_level=None, uri=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._path.chmod(0o600)
        self._database.executescript(f"pragma journal_mode = wal; pragma synchronous = full; {tables.SCHEMA}")

    def close(self) -> None:
        self._database.close()

    # --- orders --------------------------------------------------------------------------------------

    def keep(self, words: Sequence[Word], now: int, forget_before: int) -> int:
        """Take what an order message says; forget what has not changed since `forget_before`. Gives how many steps that touched."""
        with transaction(self._database) as cursor:
            touched = sum(_say(cursor, word, now) if word.status else _keep(cursor, word, now) for word in words)
            _forget(cursor, forget_before)
            return touched

    def update(self, update: Update, now: int) -> int:
        """A patient's new name or number, in all that is kept of it. Gives how many steps that touched."""
        with transaction(self._database) as cursor:
            rows = cursor.execute(tables.OF_PATIENT, {"numbers": orjson.dumps(update.numbers).decode()}).fetchall()
            known = [one for one in map(_kept, rows) if one.step.patient.issuer in ("", update.patient.issuer) or not update.patient.issuer]
            for one in known:
                old, new = one.step.patient, update.patient
                issuer, born, sex = new.issuer or old.issuer, new.born or old.born, new.sex or old.sex
                patient = replace(old, number=new.number, issuer=issuer, name=new.name, born=born, sex=sex)
                _put(cursor, replace(one.step, patient=patient), one.status, now)
            return len(known)

    def find(self, first: str = "", last: str = "", modality: str = "", patient: str = "", accession: str = "") -> Iterator[Kept]:
        """The steps on the worklist that begin on days `first` to `last`, in their order; "" is any. To be read in this thread, to its end
        or until it is dropped."""
        wanted = {
            "statuses": orjson.dumps(OPEN).decode(), "first": first, "last": f"{last}999999" if last else "9",
            "modality": modality, "patient": patient, "accession": accession,
        }  # fmt: skip
        return map(_kept, self._database.execute(tables.OPEN, wanted))

    # --- performed procedure steps -------------------------------------------------------------------

    def heard(self, message: int) -> bytes | None:
        """What was answered to this message, None where it has not been here."""
        row = self._database.execute("select answer from heard where message = ?", (message,)).fetchone()
        return row[0] if row else None

    def perform(
        self,
        uid: str,
        given: mpps.Content,
        rule: Callable[[mpps.Content, mpps.Content | None], mpps.Outcome],
        report: Report,
        now: int,
        message: int,
        word: Callable[[mpps.Outcome], bytes],
    ) -> bytes:
        """N-CREATE or N-SET by its `rule`, what follows from it, and the answer as `word` writes it, in one transaction."""
        with transaction(self._database) as cursor:
            row = cursor.execute("select content from performances where uid = ?", (uid,)).fetchone()
            outcome = rule(given, orjson.loads(row[0]) if row else None)
            if outcome.content is not None:
                self._follow(cursor, uid, outcome.content, report, now)
            answer = word(outcome)
            cursor.execute("replace into heard values (?, ?, ?)", (message, answer, now))
            return answer

    def _follow(self, cursor: sqlite3.Cursor, uid: str, content: mpps.Content, report: Report, now: int) -> None:
        status = mpps.status_of(content)
        cursor.execute("replace into performances values (?, ?, ?, ?)", (uid, status, orjson.dumps(content), now))
        cursor.execute("delete from performed where mpps = ?", (uid,))
        studies = {(link.study, uid) for link in mpps.links(content)}
        cursor.executemany("insert or ignore into performed_studies values (?, ?)", studies)
        made = [(uid, one.study, one.series, one.sop, one.sop_class, status) for one in mpps.instances(content)]
        cursor.executemany("replace into performed values (?, ?, ?, ?, ?, ?)", made)
        steps = list(_linked(cursor, content))
        cursor.executemany("insert or ignore into mpps_steps values (?, ?, ?, ?)", [(uid, *one.step.key) for one in steps])
        changed = list(_changed(cursor, steps, now))
        changes = [Change(one.step, one.status, _order_status(cursor, one.step.order)) for one in changed]
        rows = [(orjson.dumps(one),) for one in report(changes, content)] if changes else []
        cursor.executemany("insert into changes (content) values (?)", rows)

    # --- what is to be reported ----------------------------------------------------------------------

    def changes(self, most: int) -> list[tuple[int, dict[str, Any]]]:
        """What is still to be reported, oldest first, with its number."""
        rows = self._database.execute("select id, content from changes order by id limit ?", (most,)).fetchall()
        return [(number, orjson.loads(content)) for number, content in rows]

    def reported(self, number: int) -> None:
        """A change has been taken over by its channel."""
        with transaction(self._database) as cursor:
            cursor.execute("delete from changes where id = ?", (number,))


# --- in a transaction ------------------------------------------------------------------------------


def _keep(cursor: sqlite3.Cursor, word: Word, now: int) -> int:
    """The newest word on a step holds, but what has begun stays begun, and keeps the study that its images are in."""
    step = replace(word.step, order=next(iter(_orders(cursor, word.step)), word.step.order))
    row = cursor.execute('select content, status from steps where "order" = ? and procedure = ? and position = ?', step.key).fetchone()
    status = SCHEDULED
    if row is not None:
        before = _kept(row)
        status = SCHEDULED if before.status in (CANCELLED, ON_HOLD) else before.status
        if status != SCHEDULED or word.made:
            step = replace(step, study_uid=before.step.study_uid)
    _put(cursor, step, status, now)
    return 1


def _orders(cursor: sqlite3.Cursor, step: Step) -> list[str]:
    """The orders that a message may mean, which may have only one of their two numbers: no number that both have may differ."""
    wanted = {"placer": step.placer, "filler": step.filler, "accession": step.accession}
    return [order for (order,) in cursor.execute(tables.ORDERS, wanted).fetchall()]


def _say(cursor: sqlite3.Cursor, word: Word, now: int) -> int:
    """Cancelled, on hold, or what the filler says of its state; images that are there are not cancelled."""
    wanted = {"procedure": word.step.procedure, "position": word.step.position}
    orders = _orders(cursor, word.step)
    found = [_kept(row) for order in orders for row in cursor.execute(tables.OF_ORDER, {**wanted, "order": order}).fetchall()]
    begun = (IN_PROGRESS, COMPLETED) if word.status in (CANCELLED, ON_HOLD) else ()
    told = [one for one in found if one.status not in begun and one.status != word.status]
    for one in told:
        _put(cursor, one.step, word.status, now)
    return len(told)


def _put(cursor: sqlite3.Cursor, step: Step, status: str, now: int) -> None:
    row = {
        "order": step.order, "procedure": step.procedure, "position": step.position, "status": status,
        "start": step.date + step.time,
        "modality": step.modality, "patient": step.patient.number, "accession": step.accession,
        "placer": step.placer, "filler": step.filler,
        "study": step.study_uid,
        "requested": step.requested_id, "step": step.step_id, "content": orjson.dumps(to_json(step)), "now": now,
    }  # fmt: skip
    cursor.execute(tables.KEEP, row)


def _linked(cursor: sqlite3.Cursor, content: mpps.Content) -> Iterator[Kept]:
    """The steps that a performed step names: by study and step, else by accession number and step."""
    seen = set()
    for link in mpps.links(content):
        rows = cursor.execute(tables.LINKED, {"study": link.study, "step": link.step_id, "accession": link.accession}).fetchall()
        for one in map(_kept, rows):
            if one.step.key not in seen:
                seen.add(one.step.key)
                yield one


def _changed(cursor: sqlite3.Cursor, steps: Sequence[Kept], now: int) -> Iterator[Kept]:
    for one in steps:
        status = _state(cursor.execute(tables.STATES, one.step.key).fetchall())
        if status != one.status:
            _put(cursor, one.step, status, now)
            yield Kept(one.step, status)


def _state(performed: Sequence[tuple[str, bytes]]) -> str:
    """A step's own state, of those of everything that performs it: under way while one is, completed once one is."""
    states = {SCHEDULED if mpps.wrong_entry(orjson.loads(content)) else status for status, content in performed}
    return next(one for one in (IN_PROGRESS, COMPLETED, SCHEDULED, DISCONTINUED) if one in states)


def _order_status(cursor: sqlite3.Cursor, order: str) -> str:
    """An order is completed when nothing of it is left to do, and discontinued when nothing of it was done."""
    states = {status for (status,) in cursor.execute('select status from steps where "order" = ?', (order,))} - {CANCELLED}
    if IN_PROGRESS in states or (COMPLETED in states and states & {SCHEDULED, ON_HOLD}):
        return IN_PROGRESS
    return next(one for one in (COMPLETED, SCHEDULED, ON_HOLD, DISCONTINUED) if one in states)


def _forget(cursor: sqlite3.Cursor, before: int) -> None:
    """What is old goes in small steps, a few hundred rows with each message; a step not before the day for which it was scheduled is."""
    day = f"{datetime.fromtimestamp(max(before, 0) / 1e6, UTC):%Y%m%d}"
    cursor.execute(tables.OLD_STEPS, (before, day, _AT_ONCE))
    old = cursor.execute("select uid from performances where changed < ? limit ?", (before, _AT_ONCE)).fetchall()
    for statement in tables.OLD_MPPS:
        cursor.executemany(statement, old)
    cursor.execute("delete from heard where at < ?", (before,))


def _kept(row: tuple[bytes, str]) -> Kept:
    return Kept(from_json(orjson.loads(row[0])), row[1])
