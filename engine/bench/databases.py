"""Rows through a real node, out of a table and into tables, beside what the bare database does in the same run.

read      polled from a table, each row kept durably as a message
copied    polled, and written to another table by the destination `database` (upserts)
landed    polled, mapped to FHIR by a site's rules (a patient and a result of each row), and landed by `fhir_tables`

The rate of each is of rows that are committed at once while the node polls, until the last has come to its end. The bare database's
are of the same rows: executemany with a commit for each page, and all of them at once: one COPY (PostgreSQL), or INSERTs of many rows in
one transaction (MariaDB, whose LOAD DATA needs a file on the server or a right that sites do not give).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from engine.bench.bare_rows import COLUMNS, bare, create, fill, open_engine
from engine.bench.late_rows import LateRows, Work
from engine.bench.loopback import HOST, free_port
from engine.bench.node import Node
from engine.bench.site import BenchSite
from engine.errors import ConfigError, MeridianError

READ: Final = "read"
COPIED: Final = "copied"
LANDED: Final = "landed"
SCENARIOS: Final = (READ, COPIED, LANDED)
_WARM: Final = 20
PATIENCE: Final = 120.0
_LOOK_SECONDS: Final = 0.02
_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
_COPIED: Final = {"id": "${key.id}", **{name: f"${{row.{name}}}" for name in COLUMNS[2:]}}
_RULES: Final = """\
table: bench_row
facility: BENCH
sender: BENCH
zone: UTC
resources:
  patient:
    resource: Patient
    set:
      identifier[]: {from: patient, authority: BENCH, type: MR}
      name[]: =Bench
  result:
    resource: Observation
    key: [id]
    set:
      status: =final
      code: test
      subject: {to: patient}
      effectiveDateTime: changed
      value: {from: value, unit: =mmol/L}
      note[]: note
"""


def server(url: str) -> URL:
    """The address of a PostgreSQL or MariaDB that answers. Raises ConfigError."""
    try:
        made = make_url(url)
        if made.get_backend_name() not in _DRIVERS:
            raise ConfigError(
                "the benchmark knows SQLite, PostgreSQL and MariaDB: postgresql://user@host/database, mysql://user@host/database"
            )
        made = made.set(drivername=_DRIVERS[made.get_backend_name()])
        engine = sa.create_engine(made, hide_parameters=True)
        with engine.connect():
            pass
        engine.dispose()
    except (ArgumentError, ValueError):
        raise ConfigError("this is not the address of a database") from None
    except SQLAlchemyError:
        raise ConfigError("the database of this address cannot be reached") from None
    return made


@contextmanager
def own_database(url: URL | None, folder: Path) -> Iterator[URL]:
    """A new database on that server, dropped at the end; without a server a file of SQLite."""
    if url is None:
        yield URL.create("sqlite", database=str(folder / "rows.db"))
        return
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    name, forced = f"meridian_bench_{uuid4().hex[:12]}", url.get_backend_name() == "postgresql"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}" + ("" if forced else " CHARACTER SET utf8mb4"))
    try:
        yield url.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}" + (" WITH (FORCE)" if forced else ""))
        engine.dispose()


def measure(folder: Path, rows: int, url: URL | None = None) -> dict[str, Any]:
    """Of one database (SQLite where there is no `url`):

    bare                       rows/s of `executemany`, and of `copy` on a server
    results, for each of SCENARIOS
        rows_per_second        from the commit of the rows into the table that is polled until the last has come to its end
        cpu_ms_per_row         of the node's processes
        node_rss_mb            of the node's processes, at the end
        ratio                  of rows_per_second to each of bare
        exactly_once           each row is there once, and nothing else
    """
    with own_database(url, folder) as database:
        engine = open_engine(database)
        try:
            create(engine)
            rates = bare(engine, rows)
            results = [_measured(name, folder, database, engine, rows) for name in SCENARIOS]
        finally:
            engine.dispose()
    for result in results:
        result["ratio"] = {name: round(result["rows_per_second"] / rate, 3) for name, rate in rates.items()}
    return {"database": database.get_backend_name(), "rows": rows, "bare": rates, "results": results}


def late_rows(folder: Path, url: URL, rows: int) -> dict[str, Any]:
    """The long run of engine.bench.late_rows: writers that commit late, and a checker that compares."""
    with own_database(url, folder) as database:
        late = LateRows(folder / "late", database, limit=2000)
        late.create()
        outcome = late.run(Work(rows, batch=200), patience=3600.0)
    return {**asdict(outcome), "rows_per_second": round(outcome.rows / outcome.seconds, 1), "exactly_once": outcome.right}


# --- the node --------------------------------------------------------------------------------------------


def _measured(scenario: str, folder: Path, database: URL, engine: Engine, rows: int) -> dict[str, Any]:
    site = _site(folder / f"{database.get_backend_name()}-{scenario}", scenario, database)
    count, last = _Count(scenario, site, engine), _WARM + rows
    fill(engine, 1, _WARM)
    with Node(site) as node:
        until = time.monotonic() + PATIENCE + rows / 20
        _reached(count, _WARM, until)  # what happens only once has happened then
        fill(engine, _WARM + 1, last)
        began, cpu = time.monotonic(), node.cpu_seconds
        at = _reached(count, last, until)
        seconds, used, memory = time.monotonic() - began, node.cpu_seconds - cpu, node.resident_bytes
    if at < last:
        raise MeridianError(f"{scenario}: {last - at} of {last} rows did not come to their end")
    return {
        "scenario": scenario,
        "rows_per_second": round(rows / max(seconds, 1e-9), 1),
        "cpu_ms_per_row": round(1000 * used / rows, 3),
        "node_rss_mb": round(memory / 1e6, 1),
        "exactly_once": count.each_once(last),
    }


def _reached(count: _Count, wanted: int, until: float) -> int:
    while (at := count.rows()) < wanted and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    return at


def _site(folder: Path, scenario: str, database: URL) -> BenchSite:
    site = BenchSite(folder, free_port(), free_port())
    written = database.set(drivername=database.get_backend_name()).render_as_string()
    source = {"connection": written, "name": "bench", "table": "bench_row", "watermark": "changed", "zone": "UTC", "poll": "100ms"}
    channel: dict[str, Any] = {"name": "bench", "source": {"database": {**source, "limit": 2000}}, "destinations": []}
    if scenario == COPIED:
        typed = {name: {"value": value, "type": "integer"} if name == "id" else value for name, value in _COPIED.items()}
        statements = [{"upsert": "bench_copy", "key": ["id"], "with": typed}]
        channel["destinations"] = [{"name": "copy", "database": {"connection": written, "statements": statements}, "order": "none"}]
    if scenario == LANDED:
        channel["map"] = "rows-to-fhir"
        channel["destinations"] = [{"name": "tables", "fhir_tables": {"connection": written}, "order": "by patient"}]
        rules = folder / "mappings" / "rows-to-fhir" / "bench.yaml"
        rules.parent.mkdir(parents=True)
        rules.write_text(_RULES)
    (folder / "channels").mkdir(parents=True)
    node = {"name": "bench", "party": "bench", "workers": 1, "http": {"listen": f"{HOST}:{site.http}"}}
    (folder / "meridian.yaml").write_bytes(orjson.dumps(node))
    (folder / "channels" / "bench.yaml").write_bytes(orjson.dumps(channel))
    return site


class _Count:
    """Counts where the rows of a scenario end, without the node."""

    def __init__(self, scenario: str, site: BenchSite, engine: Engine) -> None:
        self._scenario, self._store, self._engine = scenario, site.folder / "data" / "meridian.db", engine

    def rows(self) -> int:
        if self._scenario == READ:
            return int(self._kept("SELECT count(*) FROM message")[0][0])
        table = "bench_copy" if self._scenario == COPIED else "landed_message"
        try:
            with self._engine.connect() as connection:
                return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608  # names of our own
        except SQLAlchemyError:  # not there yet, or it is being written
            return 0

    def each_once(self, rows: int) -> bool:
        """Every number once where it ends; and each is one message of the node."""
        bodies = self._kept("SELECT body FROM message JOIN body ON body.message = message.id")
        numbers = [orjson.loads(body)["row"]["id"] for (body,) in bodies]
        return sorted(numbers) == list(range(1, rows + 1)) and sorted(self._ended(rows)) == list(range(1, rows + 1))

    def _ended(self, rows: int) -> list[int]:
        if self._scenario == READ:
            return list(range(1, rows + 1))
        asked = "SELECT id FROM bench_copy" if self._scenario == COPIED else "SELECT note FROM observation"
        with self._engine.connect() as connection:
            found = list(connection.execute(sa.text(asked)).scalars())
        return [one if isinstance(one, int) else int(one.split()[1]) for one in found]

    def _kept(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self._store}?mode=ro", uri=True)) as store:
            return store.execute(statement).fetchall()
