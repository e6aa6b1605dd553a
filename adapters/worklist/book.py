"""The worklist on disk: orders by the number of their specimen, and what analyzers have asked for. SQLite, one connection, one thread.

What `keep` and `ask` have returned from is on disk. Several books may have the same file open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from adapters.worklist.orders import Order, Patient
from engine.transaction import transaction

_SCHEMA: Final = """
create table if not exists orders (
    number   text not null,
    code     text not null,
    content  blob not null,          -- an Order as JSON
    received integer not null,       -- microseconds since 1970 UTC
    primary key (number, code)
) without rowid;
create index if not exists orders_by_time on orders (received);
create table if not exists specimens (
    specimen text not null,
    number   text not null,
    code     text not null,
    primary key (specimen, number, code)
) without rowid;
create index if not exists specimens_by_order on specimens (number, code);
create table if not exists asked (    -- work orders that are still to be sent, oldest first
    id       integer primary key autoincrement,
    content  blob not null
);
"""
_OF_SPECIMEN: Final = """
select o.content from specimens s join orders o using (number, code) where s.specimen = :specimen and o.received >= :since
order by o.received desc, o.number desc, o.code desc limit :most"""
_ALL: Final = "select content from orders where received >= :since order by received desc, number desc, code desc limit :most"


class Book:
    """All methods belong to one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._path.chmod(0o600)
        self._database.executescript(f"pragma journal_mode = wal; pragma synchronous = full; {_SCHEMA}")

    def close(self) -> None:
        self._database.close()

    def keep(self, orders: Sequence[Order], now: int, forget_before: int) -> None:
        """Keep orders, the newest word on each; forget what is older than `forget_before`."""
        with transaction(self._database) as cursor:
            for order in orders:
                key = (order.number, order.code)
                cursor.execute("replace into orders values (?, ?, ?, ?)", (*key, orjson.dumps(asdict(order)), now))
                cursor.execute("delete from specimens where number = ? and code = ?", key)
                cursor.executemany("insert or ignore into specimens values (?, ?, ?)", [(one, *key) for one in order.specimens])
            old = cursor.execute("select number, code from orders where received < ? limit 500", (forget_before,)).fetchall()
            cursor.executemany("delete from specimens where number = ? and code = ?", old)
            cursor.executemany("delete from orders where number = ? and code = ?", old)

    def find(self, specimen: str, since: int, most: int) -> list[Order]:
        """What is to be done on a specimen, in the order in which it came; "" asks for every specimen."""
        wanted = {"specimen": specimen, "since": since, "most": most}
        rows = self._database.execute(_OF_SPECIMEN if specimen else _ALL, wanted).fetchall()
        found = [_order(content) for (content,) in reversed(rows)]
        return [order for order in found if not order.cancelled]

    def ask(self, questions: Sequence[dict[str, Any]]) -> None:
        """Note work orders that are to be sent."""
        with transaction(self._database) as cursor:
            cursor.executemany("insert into asked (content) values (?)", [(orjson.dumps(question),) for question in questions])

    def asked(self, most: int) -> list[tuple[int, dict[str, Any]]]:
        """Work orders still to be sent, oldest first, with their numbers."""
        rows = self._database.execute("select id, content from asked order by id limit ?", (most,)).fetchall()
        return [(number, orjson.loads(content)) for number, content in rows]

    def sent(self, number: int) -> None:
        """A work order has been taken over by its channel."""
        with transaction(self._database) as cursor:
            cursor.execute("delete from asked where id = ?", (number,))


def _order(content: bytes) -> Order:
    fields = orjson.loads(content)
    return Order(**{**fields, "specimens": tuple(fields["specimens"]), "patient": Patient(**fields["patient"])})
