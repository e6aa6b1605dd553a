"""Polls by a status column, by procedures, by a SELECT that is confirmed: two nodes, crashes, write-backs, on real databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, Engine

from engine.message import ACCEPTED, Ack, Judgement, Verdict
from tests.support.databases import SERVERS, engine_of, own_database
from tests.support.polling import Kept, Rounds

STATUS: dict[str, Any] = {
    "column": "state",
    "new": ["N"],
    "claimed": "P",
    "done": "D",
    "failed": "E",
    "claimed_at": "taken_at",
    "claimed_by": "taken_by",
    "reason": "why",
    "lease": "2s",
}


class Table:
    """A table `orders` with a status."""

    def __init__(self, url: Any) -> None:
        self.url: URL | str = url
        self.engine: Engine = engine_of(url)
        kind = "datetime" if self.engine.dialect.name == "mysql" else "timestamp"
        self.run(
            "CREATE TABLE orders (id integer PRIMARY KEY, state char(1), note varchar(20),"
            f" taken_at {kind}, taken_by varchar(60), why varchar(20))"
        )

    def run(self, statement: str) -> list[Any]:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    def insert(self, *ids: int) -> None:
        for one in ids:
            self.run(f"INSERT INTO orders (id, state, note) VALUES ({one}, 'N', 'x')")

    def states(self) -> str:
        return "".join(row[0] for row in self.run("SELECT state FROM orders ORDER BY id"))


@pytest.fixture(params=[*SERVERS, "sqlite"])
def orders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    if request.param == "sqlite":
        made = Table(f"sqlite:///{tmp_path / 'lis.db'}")
        yield made
        made.engine.dispose()
        return
    with own_database(request.param) as url:
        made = Table(url)
        yield made
        made.engine.dispose()


def by_status(folder: Path, orders: Table, kept: Kept | None = None, **changed: Any) -> Rounds:
    return Rounds(folder, orders.url, kept, table="orders", status={**STATUS, **changed}, limit=3)


def test_claimed_and_written_back(orders: Table, tmp_path: Path) -> None:
    """In pages; the status columns that we write do not make a row another version of itself."""
    orders.insert(*range(1, 8))
    with by_status(tmp_path, orders) as rounds:
        page = rounds.poll.next(1)
        assert orders.states() == "PPPNNNN"
        acks = [rounds.kept.take(item.envelope, item.invalid, None) for item in page.items]
        assert orders.states() == "PPPNNNN", "nothing is done before the commit"
        rounds.poll.taken(page, acks)
        assert orders.states() == "DDDNNNN"
        rounds.until_idle()
        assert orders.states() == "DDDDDDD"
        assert rounds.kept.ids() == list(range(1, 8))


def test_failed_with_its_reason(orders: Table, tmp_path: Path) -> None:
    """A message that was kept as refused or invalid."""
    orders.insert(1, 2)
    with by_status(tmp_path, orders) as rounds:
        page = rounds.poll.next(1)
        rounds.poll.taken(page, [Ack(Judgement(Verdict.INVALID, "bad", "102"), b"", 1), Ack(ACCEPTED, b"", 2)])
    assert orders.states() == "ED"
    assert orders.run("SELECT why FROM orders ORDER BY id") == [("102",), (None,)]


def test_a_crash_between_claim_and_write_back(orders: Table, tmp_path: Path) -> None:
    """The rows come again once the lease is over, and what was kept of them is a repetition."""
    orders.insert(1, 2, 3)
    kept = Kept()
    with by_status(tmp_path, orders, kept) as rounds:
        rounds.round(crash=True)
        assert orders.states() == "PPP"
    with by_status(tmp_path, orders, kept) as rounds:
        assert not rounds.round().items, "the lease holds"
        orders.run("UPDATE orders SET taken_at = '2024-01-01 00:00:00'")
        rounds.until_idle()
    assert orders.states() == "DDD"
    assert sorted(kept.ids()) == [1, 2, 3]
    assert kept.repeated == 2


def test_what_the_store_did_not_take_is_free_again(orders: Table, tmp_path: Path) -> None:
    orders.insert(1, 2, 3)
    with by_status(tmp_path, orders) as rounds:
        rounds.round({1})
        assert orders.states() == "DNN"
        rounds.until_idle()
        assert sorted(rounds.kept.ids()) == [1, 2, 3]
        assert rounds.kept.repeated == 0


def test_a_claim_that_another_has_taken_over(orders: Table, tmp_path: Path) -> None:
    """Its row is not written back by the one that was too slow; that is said."""
    orders.insert(1)
    with by_status(tmp_path, orders) as rounds:
        page = rounds.poll.next(1)
        orders.run("UPDATE orders SET taken_by = 'other'")
        rounds.poll.taken(page, [Ack(ACCEPTED, b"", 1)])
        assert orders.states() == "P"
        assert [notice.event for notice in rounds.poll.notices()] == ["database.claim_lost"]


def test_without_claims_for_one_node(orders: Table, tmp_path: Path) -> None:
    """Only a status column: read, kept, written back."""
    orders.insert(1, 2, 3, 4)
    with Rounds(tmp_path, orders.url, table="orders", status={"column": "state", "new": ["N"], "done": "D"}, limit=3) as rounds:
        rounds.round(crash=True)
        rounds.until_idle()
        assert sorted(rounds.kept.ids()) == [1, 2, 3, 4]
    assert orders.states() == "DDDD"


def test_two_nodes_take_each_row_once(orders: Table, tmp_path: Path) -> None:
    """At the same time, in threads; neither waits long for the other."""
    orders.insert(*range(1, 101))
    lives = [by_status(tmp_path, orders, Kept(), lease="5m") for _ in range(2)]
    begin, errors = threading.Barrier(2), []

    def work(rounds: Rounds) -> None:
        begin.wait()
        try:
            rounds.until_idle()
        except Exception as error:  # noqa: BLE001 - seen by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for one in lives:
        with one:
            pass
    assert errors == []
    assert sorted([*lives[0].kept.ids(), *lives[1].kept.ids()]) == list(range(1, 101))
    assert orders.states() == "D" * 100


def test_a_select_that_is_confirmed(orders: Table, tmp_path: Path) -> None:
    """Row by row, once it is kept."""
    orders.insert(*range(1, 6))
    with Rounds(
        tmp_path,
        orders.url,
        select="SELECT id, note FROM orders WHERE state = 'N' ORDER BY id LIMIT :limit",
        confirm="UPDATE orders SET state = 'D' WHERE id = :id",
        key=["id"],
        limit=2,
    ) as rounds:
        rounds.round({1})
        assert orders.states() == "DNNNN"
        rounds.until_idle()
        assert sorted(rounds.kept.ids()) == [1, 2, 3, 4, 5]
    assert orders.states() == "DDDDD"


@pytest.mark.parametrize("server", SERVERS)
def test_a_procedure(server: str, tmp_path: Path) -> None:
    """Called with the watermark and a value of the site's; or as it is, with a confirmation."""
    with own_database(server) as url:
        orders = Table(url)
        orders.insert(*range(1, 6))
        if server == "postgresql":
            orders.run(
                "CREATE FUNCTION since(w integer, n integer, s text) RETURNS TABLE (id integer, note varchar) LANGUAGE sql AS "
                "'SELECT id, note FROM orders WHERE id > coalesce(w, 0) AND state = s ORDER BY id LIMIT n'"
            )
        else:
            orders.run(
                "CREATE PROCEDURE since(w integer, n integer, s varchar(1)) "
                "SELECT id, note FROM orders WHERE id > coalesce(w, 0) AND state = s ORDER BY id LIMIT n"
            )
        procedure = {"name": "since", "arguments": [":watermark", ":limit", "N"]}
        with Rounds(tmp_path, url, procedure=procedure, key=["id"], watermark="id", limit=2) as rounds:
            rounds.until_idle()
            assert rounds.kept.ids() == [1, 2, 3, 4, 5]
            assert rounds.kept.records[0].table == "since"
        confirm = "UPDATE orders SET state = 'D' WHERE id = :id"
        with Rounds(tmp_path, url, procedure=procedure, key=["id"], confirm=confirm, limit=2) as rounds:
            rounds.until_idle()
            assert rounds.kept.ids() == [1, 2, 3, 4, 5]
        with Rounds(tmp_path, url, procedure=procedure, key=["id"]) as rounds:
            orders.insert(6)
            rounds.until_idle()
            rounds.until_idle()
            assert (rounds.kept.ids(), rounds.kept.repeated) == ([6], 0)
        orders.engine.dispose()
