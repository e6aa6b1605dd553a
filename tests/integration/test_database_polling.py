"""Polls by watermark on real databases: nothing lost, nothing twice, whatever commits late, ties, changes, is cut off or goes away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, Engine

from adapters.database.errors import sort
from adapters.database.polling.rounds import Halted
from adapters.database.polling.subject import Unusable
from engine.formats.rows import native
from tests.support.databases import OWN_SERVERS, SERVERS, OwnPostgres, engine_of, own_database
from tests.support.polling import Kept, Rounds

LONG_AGO = datetime(2024, 3, 1, 8, tzinfo=UTC).replace(tzinfo=None)


@dataclass
class Database:
    """A database with a table `result`, and what a hospital does to it."""

    url: URL | str
    engine: Engine

    @property
    def name(self) -> str:
        return self.engine.dialect.name

    def run(self, statement: str, *values: Any) -> None:
        mark = "?" if self.name == "sqlite" else "%s"
        with self.engine.connect() as connection:
            connection.exec_driver_sql(statement.replace("?", mark), tuple(values))

    def insert(self, *ids: int, at: datetime = LONG_AGO, note: str = "x") -> None:
        for one in ids:
            self.run("INSERT INTO result (id, changed, note) VALUES (?, ?, ?)", one, self.time(at), note)

    def time(self, at: datetime) -> Any:
        return at.isoformat(" ") if self.name == "sqlite" else at


@contextmanager
def database(server: str, folder: Path) -> Iterator[Database]:
    if server == "sqlite":
        url = f"sqlite:///{folder / 'lis.db'}"
        yield from _with_table(url)
        return
    with own_database(server) as url_of:
        yield from _with_table(url_of)


def _with_table(url: Any) -> Iterator[Database]:
    made = Database(url, engine_of(url))
    kind = {"postgresql": "timestamp", "mysql": "datetime(6)", "sqlite": "timestamp"}[made.name]
    made.run(f"CREATE TABLE result (id integer PRIMARY KEY, changed {kind}, note varchar(40), amount decimal(10,2))")
    made.run("CREATE INDEX result_changed ON result (changed, id)")
    try:
        yield made
    finally:
        made.engine.dispose()


@pytest.fixture(params=[*SERVERS, "sqlite"])
def lis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with database(request.param, tmp_path) as made:
        yield made


BASIC: dict[str, Any] = {"table": "result", "watermark": "changed", "zone": "UTC", "limit": 3}


def test_a_backlog_in_pages_then_what_is_new(lis: Database, tmp_path: Path) -> None:
    """Equal watermarks are told apart by the key, however the pages cut them."""
    lis.insert(*range(1, 11))
    with Rounds(tmp_path, lis.url, **BASIC) as rounds:
        rounds.until_idle()
        assert rounds.kept.ids() == list(range(1, 11))
        lis.insert(12, 11, at=LONG_AGO + timedelta(seconds=1))
        rounds.until_idle()
        assert rounds.kept.ids() == list(range(1, 13))
        assert rounds.kept.repeated == 0
        record = rounds.kept.records[0]
        assert (record.origin, record.table, record.change, record.key) == ("lis", "result", "read", {"id": 1})
        envelope = rounds.kept.envelopes[0]
        assert (envelope.message_type, envelope.control_id, envelope.sender) == ("result", "1", "lis")


def test_a_restart_goes_on_where_it_was(lis: Database, tmp_path: Path) -> None:
    """From the checkpoint that came with the last message, on another life of the poll; nothing is even handed in again."""
    lis.insert(*range(1, 8))
    kept = Kept()
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.until_idle()
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.until_idle()
        assert kept.repeated == 0
        lis.insert(8, at=LONG_AGO + timedelta(hours=1))
        rounds.until_idle()
    assert kept.ids() == list(range(1, 9))


def test_a_page_that_was_cut_off_comes_again(lis: Database, tmp_path: Path) -> None:
    """Killed before the last item of a page: its checkpoint is the page before, the repeated ones are known."""
    lis.insert(*range(1, 8))
    kept = Kept()
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.round()
        rounds.round(crash=True)
    assert kept.ids() == [1, 2, 3, 4, 5]
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.until_idle()
    assert kept.ids() == list(range(1, 8))
    assert kept.repeated == 2


def test_what_the_store_did_not_take_comes_again(lis: Database, tmp_path: Path) -> None:
    """The first, one in the middle, or the last of a page."""
    lis.insert(*range(1, 4))
    for refused in (0, 1, 2):
        with Rounds(tmp_path, lis.url, **BASIC) as rounds:
            rounds.round({refused})
            rounds.until_idle()
            assert sorted(rounds.kept.ids()) == [1, 2, 3]
            assert rounds.kept.repeated == 0


def test_late_and_changed_rows_are_found_in_the_window(lis: Database, tmp_path: Path) -> None:
    """Below the watermark, at it with a lower key, changed without a new watermark; nothing of the window comes twice."""
    now = datetime.now(UTC).replace(tzinfo=None)
    lis.insert(5, 6, 7, 8, at=now - timedelta(seconds=5))
    options = {**BASIC, "watermark": {"column": "changed", "overlap": "60s"}}
    with Rounds(tmp_path, lis.url, **options) as rounds:
        rounds.until_idle()
        lis.insert(1, at=now - timedelta(seconds=20))
        lis.insert(2, at=now - timedelta(seconds=5))
        lis.run("UPDATE result SET note = 'corrected' WHERE id = 6")
        rounds.until_idle()
        assert rounds.kept.ids() == [5, 6, 7, 8]
        rounds.time.now += 16
        rounds.until_idle()
        assert sorted(rounds.kept.ids()) == [1, 2, 5, 6, 6, 7, 8]
        assert [r.row["note"] for r in rounds.kept.records if r.row["id"] == 6] == ["x", "corrected"]
        rounds.time.now += 16
        rounds.until_idle()
        assert rounds.kept.repeated == 0
        checkpoints = dict(rounds.kept.checkpoints)
    again = Kept()
    again.checkpoints = checkpoints
    with Rounds(tmp_path, lis.url, again, **options) as rounds:
        rounds.time.now += 16
        rounds.until_idle()
        assert again.keys == {}, "the window's digests are in the checkpoint"


def test_a_row_from_the_future_does_not_take_the_watermark_with_it(lis: Database, tmp_path: Path) -> None:
    """A workstation whose clock is in 2099: its row waits, all others go on."""
    lis.insert(1)
    lis.insert(2, at=datetime(2099, 1, 1, tzinfo=UTC).replace(tzinfo=None))
    with Rounds(tmp_path, lis.url, **BASIC) as rounds:
        rounds.until_idle()
        lis.insert(3, at=LONG_AGO + timedelta(days=1))
        rounds.until_idle()
        known_clock = lis.name != "sqlite"  # its times are text, which no clock can be compared with
        assert rounds.kept.ids() == ([1, 3] if known_clock else [1, 2])
        assert [n.event for n in rounds.notices] == (["database.rows_ahead"] if known_clock else [])


def test_numbers_as_watermarks(lis: Database, tmp_path: Path) -> None:
    """What was the highest a while ago is settled: until then lower numbers may turn up."""
    lis.insert(2, 4, 6)
    with Rounds(tmp_path, lis.url, table="result", watermark={"column": "id", "overlap": "4s"}, poll="1s", limit=2) as rounds:
        rounds.until_idle()
        lis.insert(3, 5, 7)
        rounds.time.now += 2
        rounds.until_idle()
        assert sorted(rounds.kept.ids()) == [2, 3, 4, 5, 6, 7]
        assert rounds.kept.repeated == 0


def test_types(lis: Database, tmp_path: Path) -> None:
    """Decimals with their digits, local times of the site's zone as instants, NULL and '' kept apart, a zero date null and odd."""
    lis.run("INSERT INTO result (id, changed, note, amount) VALUES (1, ?, '', 1.50)", lis.time(LONG_AGO))
    lis.run("INSERT INTO result (id, changed, note, amount) VALUES (2, ?, NULL, NULL)", lis.time(LONG_AGO))
    with Rounds(tmp_path, lis.url, table="result", watermark="changed", zone="Asia/Shanghai") as rounds:
        rounds.until_idle()
        first, second = rounds.kept.records
    assert first.row["changed"] == "2024-03-01T08:00:00+08:00"
    assert first.types["changed"] == "instant"
    assert first.types["amount"] == "decimal"
    assert float(first.row["amount"]) == 1.5
    if lis.name != "sqlite":
        assert first.row["amount"] == "1.50"
    assert (first.row["note"], second.row["note"], second.row["amount"]) == ("", None, None)
    assert native(first.row["changed"], "instant") == datetime(2024, 3, 1, tzinfo=UTC)


def test_header_and_details_are_one_message(lis: Database, tmp_path: Path) -> None:
    """For a page in one statement each, in order; a detail that comes later makes a new version."""
    lis.run("CREATE TABLE item (result_id integer, line integer, code varchar(10))")
    lis.run("CREATE TABLE remark (result_id integer, said varchar(10))")
    now = datetime.now(UTC).replace(tzinfo=None)
    lis.insert(1, 2, at=now - timedelta(seconds=2))
    for row in ((1, 2, "NA"), (1, 1, "K"), (3, 1, "CL")):
        lis.run("INSERT INTO item VALUES (?, ?, ?)", *row)
    lis.run("INSERT INTO remark VALUES (2, 'fine')")
    details = {
        "items": {"table": "item", "by": {"result_id": "id"}, "order": ["line"], "columns": ["line", "code"]},
        "remarks": {"select": "SELECT result_id, said FROM remark WHERE result_id IN :keys", "by": {"result_id": "id"}},
        "wrapped": {"select": "SELECT said, result_id FROM remark", "by": {"result_id": "id"}},
    }
    with Rounds(tmp_path, lis.url, **{**BASIC, "watermark": {"column": "changed", "overlap": "40s"}}, details=details) as rounds:
        rounds.until_idle()
        first, second = rounds.kept.records
        assert first.details["items"] == [{"line": 1, "code": "K"}, {"line": 2, "code": "NA"}]
        assert first.types["items.code"] == "text"
        assert second.details["items"] == []
        assert second.details["remarks"] == [{"result_id": 2, "said": "fine"}]
        assert second.details["wrapped"] == [{"said": "fine", "result_id": 2}]
        lis.run("INSERT INTO item VALUES (2, 1, 'CL')")
        rounds.time.now += 12
        rounds.until_idle()
        assert rounds.kept.ids() == [1, 2, 2]
        assert rounds.kept.records[2].details["items"] == [{"line": 1, "code": "CL"}]


@pytest.mark.parametrize(
    "select",
    [
        "SELECT id, changed, upper(note) AS note FROM result",
        "SELECT id, changed, upper(note) AS note FROM result WHERE changed >= :watermark;",
        "SELECT id, changed, upper(note) AS note FROM result WHERE changed > :watermark OR (changed = :watermark AND id > :key) "
        "ORDER BY changed, id LIMIT :limit",
    ],
)
def test_a_select_of_the_site(lis: Database, tmp_path: Path, select: str) -> None:
    """Wrapped, with a lower bound of its own, or keeping order and limit itself; from a file."""
    lis.insert(*range(1, 8))
    if lis.name == "sqlite" and ":key" in select:
        pytest.skip("text tells no value before it")
    (tmp_path / "read.sql").write_text(select)
    options = {"select_file": "read.sql", "as_table": "lab", "key": ["id"], "zone": "UTC", "limit": 3}
    with Rounds(tmp_path, lis.url, watermark={"column": "changed", "start": "2024-01-01 00:00:00"}, **options) as rounds:
        rounds.until_idle()
        lis.insert(8, at=LONG_AGO + timedelta(seconds=1))
        rounds.until_idle()
        assert rounds.kept.ids() == list(range(1, 9))
        assert rounds.kept.records[0].row["note"] == "X"
        assert rounds.kept.records[0].table == "lab"


def test_a_table_without_a_key_is_refused(lis: Database, tmp_path: Path) -> None:
    """With the reason, unless the site says what tells its rows apart."""
    lis.run("CREATE TABLE keyless (a integer, changed timestamp)")
    with Rounds(tmp_path, lis.url, table="keyless", watermark="changed") as rounds, pytest.raises(Unusable, match="no primary key"):
        rounds.round()
    with Rounds(tmp_path, lis.url, table="keyless", key=["a"], watermark="changed") as rounds:
        rounds.until_idle()
    lis.run("CREATE UNIQUE INDEX u ON keyless (a)")
    with Rounds(tmp_path, lis.url, table="keyless", watermark="changed") as rounds, pytest.raises(Unusable, match="no primary key"):
        rounds.round()  # unique, but it may be null
    with Rounds(tmp_path, lis.url, table="nothing", watermark="changed") as rounds, pytest.raises(Unusable, match="no table or view"):
        rounds.round()
    with Rounds(tmp_path, lis.url, table="result", watermark="chnged") as rounds, pytest.raises(Unusable, match="no column chnged"):
        rounds.round()


def test_columns_that_change(lis: Database, tmp_path: Path) -> None:
    """An added one is said once and read; one that is needed and gone stops the reading, also after a restart."""
    lis.insert(1)
    kept = Kept()
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.until_idle()
        lis.run("ALTER TABLE result ADD COLUMN unit varchar(10)")
        rounds.time.now += 400
        lis.insert(2, at=LONG_AGO + timedelta(seconds=1))
        rounds.until_idle()
        assert [n.event for n in rounds.notices] == ["database.schema_changed"]
        assert "added: unit" in rounds.notices[0].text
        assert "unit" in kept.records[-1].row
        rounds.time.now += 400
        rounds.until_idle()
        assert len(rounds.notices) == 1
        assert "unit" in json.loads(kept.checkpoints["position"])["types"]
    lis.run("ALTER TABLE result RENAME COLUMN changed TO altered")
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds, pytest.raises(Halted, match="changed"):
        rounds.round()
    lis.run("ALTER TABLE result RENAME COLUMN altered TO changed")
    lis.insert(3, at=LONG_AGO + timedelta(seconds=2))
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.until_idle()
    assert kept.ids() == [1, 2, 3]


def test_an_emptied_table_is_no_reason_to_go_on(lis: Database, tmp_path: Path) -> None:
    """Unless the site says that its rows are deleted; the rows that come back go on where it was."""
    lis.insert(1, 2)
    kept = Kept()
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.until_idle()
        lis.run("DELETE FROM result")
        with pytest.raises(Halted, match="is empty"):
            rounds.round()
    lis.insert(3, at=LONG_AGO + timedelta(seconds=1))
    with Rounds(tmp_path, lis.url, kept, **BASIC) as rounds:
        rounds.until_idle()
        assert kept.ids() == [1, 2, 3]
        lis.run("DELETE FROM result")
    with Rounds(tmp_path, lis.url, kept, **{**BASIC, "watermark": {"column": "changed", "purged": True}}) as rounds:
        rounds.until_idle()
        lis.insert(4, at=LONG_AGO + timedelta(seconds=2))
        rounds.until_idle()
    assert kept.ids() == [1, 2, 3, 4]


def test_a_poll_locks_nothing_and_cannot_write(lis: Database, tmp_path: Path) -> None:
    """While a page waits to be handed in, others write and alter the table; a SELECT that would write is refused."""
    lis.insert(1, 2)
    with Rounds(tmp_path, lis.url, **BASIC) as rounds:
        rounds.round(crash=True)
        lis.run("UPDATE result SET note = 'y'")
        lis.run("ALTER TABLE result ADD COLUMN more integer")
    if lis.name == "postgresql":
        lis.run(
            "CREATE FUNCTION sly() RETURNS TABLE (id integer, changed timestamp) LANGUAGE sql AS 'DELETE FROM result RETURNING id, changed'"
        )
        with Rounds(tmp_path, lis.url, select="SELECT * FROM sly()", key=["id"], watermark="changed") as rounds:
            with pytest.raises(Exception, match="read-only") as caught:
                rounds.round()
            assert "result" not in sort(caught.value).text


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_is_killed_in_mid_poll(server: str, tmp_path: Path) -> None:
    """And started again: nothing lost, nothing twice. An empty one in its place: an alarm, nothing read; confirmed, it goes on."""
    kept = Kept()
    with OWN_SERVERS[server]() as own:
        lis = next(_with_table(own.url))
        lis.insert(*range(1, 8))
        with Rounds(tmp_path, own.url, kept, connection={"connect_timeout": "3s"}, **BASIC) as rounds:
            rounds.round()
            own.kill()
            with pytest.raises(Exception):  # noqa: B017, PT011
                rounds.round()
            own.start()
            rounds.round(crash=True)
            own.kill()
            own.start()
            rounds.until_idle()
            assert sorted(kept.ids()) == list(range(1, 8))
            own.kill()
            lis.engine.dispose()
            with OWN_SERVERS[server](port=own.port) as other:
                empty = next(_with_table(other.url))
                with pytest.raises(Halted, match=r"another server answers|is empty") as caught:
                    rounds.round()
                empty.insert(90, at=LONG_AGO - timedelta(days=9))
                with pytest.raises(Halted):
                    rounds.round()
                name = caught.value.text.partition("answers (")[2].partition(")")[0]
                with Rounds(tmp_path, own.url, kept, server=name, **BASIC) as confirmed:
                    confirmed.until_idle()
                    confirmed.until_idle()
                    empty.insert(91, at=LONG_AGO + timedelta(days=1))
                    confirmed.until_idle()
                empty.engine.dispose()
    assert sorted(kept.ids()) == [*range(1, 8), 91]


def test_a_promoted_standby_goes_on(tmp_path: Path) -> None:
    """It has all the rows: that it is another is said, and nothing comes twice."""
    kept = Kept()
    with OwnPostgres() as primary:
        lis = next(_with_table(primary.url))
        lis.insert(1, 2, 3)
        with OwnPostgres(standby_of=primary) as standby:
            with Rounds(tmp_path, primary.url, kept, **BASIC) as rounds:
                rounds.until_idle()
            lis.engine.dispose()
            primary.kill()
            standby.promote()
            after = Database(standby.url, engine_of(standby.url))
            after.insert(4, at=LONG_AGO + timedelta(seconds=1))
            with Rounds(tmp_path, standby.url, kept, **BASIC) as rounds:
                rounds.until_idle()
            after.engine.dispose()
    assert kept.ids() == [1, 2, 3, 4]
    assert "database.server_changed" in [notice.event for notice in rounds.notices]
    assert kept.repeated == 0
