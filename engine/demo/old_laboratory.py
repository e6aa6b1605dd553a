"""An old laboratory system that has only tables, in a file of SQLite; it knows nothing of messages. As everything of the demo it shares no
line with the adapters.

What goes wrong on any morning is in it: names in GBK in a database that says nothing of it, a row that turns up late with an earlier
time than rows that were read already, a result that is corrected, a name that was cut in the middle of a character.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from engine.demo.interactions import Inpatient

CHANNEL: Final = "old-laboratory"
RULES: Final = Path(__file__).parent / "rows"
"""The tables' definition, and the mapping's rules of the hospital."""
TESTS: Final = (
    ("HBA1C", "糖化血红蛋白", "4548-4", "%", 4.0, 6.0),
    ("CRP", "C反应蛋白", "1988-5", "mg/L", 0.0, 10.0),
    ("ESR", "血沉", "30341-2", "mm/h", 0.0, 20.0),
)
_ZONE: Final = ZoneInfo("Asia/Shanghai")
_NAMES: Final = "gbk"
_INSERT: Final = "INSERT INTO orders VALUES (?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?)"  # bytes stay as they are in a column of text


@dataclass(frozen=True, slots=True)
class Order:
    """One row of `orders`. `good` is whether it can be read."""

    number: str
    patient: Inpatient
    name: bytes
    at: datetime
    good: bool = True


class OldLaboratory:
    """Fills its tables in two goes: what is there `at_first`, and what happens `later`, when that has been read.

    `versions` says of each order how often it must arrive; `broken` counts rows that cannot be read.
    """

    def __init__(self, file: Path, people: Sequence[Inpatient], seed: int) -> None:
        self._file, self._chance = file, random.Random(seed)  # noqa: S311  # a story, not a secret
        self._orders = [_order(number, one) for number, one in enumerate([*people, *people], 1)]
        *self._early, self._late = self._orders
        self.versions = {order.number: 1 for order in self._orders}
        self.broken = 0

    @property
    def first_rows(self) -> int:
        """How many rows there are at first."""
        return len(self._early)

    @property
    def all_rows(self) -> int:
        """How many versions of rows there are in the end."""
        return sum(self.versions.values()) + self.broken

    def at_first(self) -> None:
        """One transaction for each order with its results."""
        self._began = _now()
        with closing(sqlite3.connect(self._file)) as database:
            for order in self._early:
                with database:
                    self._insert(database, order, _now())

    def later(self) -> None:
        """A row that turns up late: it was given its time before the others were. A corrected result. A name that was cut."""
        changed, broken = self._early[0], _cut(self._early[1])
        with closing(sqlite3.connect(self._file)) as database:
            with database:
                self._insert(database, self._late, self._began)
            with database:
                database.execute("UPDATE results SET value = '6.1' WHERE order_no = ? AND line = 1", [changed.number])
                database.execute("UPDATE orders SET state = 'C', changed = ? WHERE order_no = ?", [_stamp(_now()), changed.number])
            with database:
                self._insert(database, broken, _now())
        self.versions[changed.number] += 1
        self.broken += 1

    def _insert(self, database: sqlite3.Connection, order: Order, now: datetime) -> None:
        one = order.patient
        taken, reported = _stamp(order.at), _stamp(order.at + timedelta(minutes=50))
        sex = {"M": "1", "F": "2"}.get(one.sex, "0")
        group = "炎症指标及糖化血红蛋白"
        database.execute(_INSERT, [order.number, one.record_number, order.name, sex, one.born, group, taken, reported, "F", _stamp(now)])
        for line, (test, name, _, unit, low, high) in enumerate(TESTS, 1):
            value = f"{self._chance.uniform(low, high * 1.2):.1f}"
            row = [order.number, line, test, name, value, unit, str(low), str(high)]
            database.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def create(file: Path) -> None:
    """The tables, empty."""
    with closing(sqlite3.connect(file)) as database:
        database.executescript((RULES / "old-laboratory.sql").read_text("utf-8"))


def known_as(number: str) -> str:
    """How the platform knows the order's row: the database as the channel calls it, the table, the key."""
    return f"{CHANNEL} orders order_no={number}"


def tables() -> dict[str, list[str]]:
    """The code tables of the hospital's rules, by file name, as lines of CSV."""
    return {
        "sex": ["code,to", "1,male", "2,female", "*,unknown"],
        "result-state": ["code,to", "F,final", "C,corrected"],
        "tests": ["code,to,system,display", *(f"{test},{loinc},http://loinc.org,{name}" for test, name, loinc, *_ in TESTS)],
    }


def _order(number: int, one: Inpatient) -> Order:
    return Order(f"L{one.admitted:%y%m%d}{number:04d}", one, one.name.encode(_NAMES), one.admitted + timedelta(minutes=20))


def _cut(order: Order) -> Order:
    """The column was too short for the name: half a character is left of it."""
    return Order(f"{order.number}X", order.patient, "欧阳".encode(_NAMES)[:3], order.at, good=False)


def _now() -> datetime:
    """Its own clock: what is in the future is not read."""
    return datetime.now(_ZONE)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")
