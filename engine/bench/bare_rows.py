"""The tables of the database benchmark: their rows, and how many of them a second the bare database takes, through its own driver."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from engine.bench.corpus import PATIENTS

PAGE: Final = 500
_INSTANT: Final = {"mysql": "datetime(6)"}  # its timestamp has whole seconds and a default of its own
COLUMNS: Final = ("id", "changed", "patient", "test", "value", "note")
_TABLE: Final = "(id integer PRIMARY KEY, changed {}, patient varchar(20), test varchar(10), value varchar(20), note varchar(80))"


def open_engine(url: URL) -> Engine:
    engine = sa.create_engine(url, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:  # so that who reads does not wait for who writes
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    return engine


def row(number: int, begin: datetime) -> tuple[Any, ...]:
    """About 100 bytes; a millisecond after the one before."""
    at = begin + timedelta(milliseconds=number)
    return number, at, f"B{number % PATIENTS:07d}", "GLU", f"{3 + number % 70 / 10:.1f}", f"结果 {number:012d} 已复核"


def create(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in ("bench_row", "bench_copy", "bare_row"):
            connection.exec_driver_sql(f"CREATE TABLE {table} {_TABLE.format(_INSTANT.get(engine.dialect.name, 'timestamp'))}")
        connection.exec_driver_sql("CREATE INDEX bench_row_changed ON bench_row (changed, id)")


def fill(engine: Engine, first: int, last: int) -> None:
    """What is polled, in one transaction; the rows are a day old."""
    begin = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
    names, bound = ", ".join(COLUMNS), ", ".join(f":{name}" for name in COLUMNS)
    insert = sa.text(f"INSERT INTO bench_row ({names}) VALUES ({bound})")  # noqa: S608  # names of our own
    with engine.begin() as connection:
        if first == 1:
            connection.exec_driver_sql("DELETE FROM bench_row")
        for at in range(first, last + 1, PAGE):
            page = range(at, min(at + PAGE, last + 1))
            connection.execute(insert, [dict(zip(COLUMNS, row(number, begin), strict=True)) for number in page])


def bare(engine: Engine, rows: int) -> dict[str, float]:
    """Rows a second that the database itself takes, through its own driver."""
    begin = datetime(2026, 1, 1)  # noqa: DTZ001  # as the column has it
    content = [row(number, begin) for number in range(1, rows + 1)]
    sqlite = engine.dialect.name == "sqlite"
    if sqlite:
        content = [(one[0], one[1].isoformat(" "), *one[2:]) for one in content]
    insert = f"INSERT INTO bare_row VALUES ({', '.join(['?' if sqlite else '%s'] * len(COLUMNS))})"  # noqa: S608  # names of our own
    pooled = engine.raw_connection()
    found: dict[str, float] = {}
    try:
        cursor: Any = pooled.cursor()
        began = time.monotonic()
        for first in range(0, rows, PAGE):
            cursor.executemany(insert, content[first : first + PAGE])
            pooled.commit()
        found["executemany"] = round(rows / (time.monotonic() - began), 1)
        if not sqlite:
            cursor.execute("TRUNCATE bare_row")
            pooled.commit()
            began = time.monotonic()
            _copy(cursor, engine.dialect.name, insert, content)
            pooled.commit()
            found["copy"] = round(rows / (time.monotonic() - began), 1)
        cursor.close()
    finally:
        pooled.close()
    return found


def _copy(cursor: Any, backend: str, insert: str, content: list[tuple[Any, ...]]) -> None:
    if backend != "postgresql":
        cursor.executemany(insert, content)  # pymysql makes INSERTs of many rows of it
        return
    with cursor.copy("COPY bare_row FROM STDIN") as copy:
        for one in content:
            copy.write_row(one)
