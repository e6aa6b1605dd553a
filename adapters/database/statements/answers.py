"""The rows that a statement gives, as a record (application/rows+json) for who has sent the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.database.values import Reading, hints_of
from engine.errors import PermanentDelivery
from engine.formats.rows import Record, write

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_MOST = 10_000


def answer_of(result: Any, dialect: str, origin: str, table: str, zone: ZoneInfo | None) -> bytes:
    """`row` is the first row, `details.rows` are all. Raises PermanentDelivery for more rows than an answer holds."""
    if not result.returns_rows:
        return write(Record(origin, table, {}))
    names = list(result.keys())
    columns = Reading(zone).columns(names, hints_of(dialect, result.cursor.description))
    raw = result.fetchmany(_MOST + 1)
    if len(raw) > _MOST:
        raise PermanentDelivery(f"the statement gives more than {_MOST} rows; an answer holds no more")
    rows = [columns.row(tuple(one)) for one in raw]
    types: dict[str, str] = {}
    for row in rows:
        for name, kind in row.types.items():
            types.setdefault(name, kind)
    first = rows[0].values if rows else {}
    known = {**types, **{f"rows.{name}": kind for name, kind in types.items()}}
    return write(Record(origin, table, first, details={"rows": [row.values for row in rows]}, types=known))
