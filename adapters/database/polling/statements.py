"""The statements of a poll. Names come from the site's file and are quoted by SQLAlchemy; every value is bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement

from adapters.database.polling.options import parameters
from adapters.database.polling.window import Position
from adapters.database.tables import raw_text, table_of

MARK: Final = "meridian_mark"
KEY: Final = "meridian_key_{}"
_KEYS_AT_ONCE: Final = 500


def value(given: Any) -> ColumnElement[Any]:
    """A bound value of no declared type: the database takes that of the column it is compared with."""
    return sa.bindparam(None, given, type_=sa.types.NullType(), unique=True)


def beyond(mark: ColumnElement[Any], keys: Sequence[ColumnElement[Any]], position: Position) -> ColumnElement[bool]:
    """Rows after a position. The first condition says nothing new, but is what an index on the watermark can serve."""
    if not position.key:
        return mark >= value(position.mark)
    rest = _beyond_key(keys, position.key)
    return sa.and_(mark >= value(position.mark), sa.or_(mark > value(position.mark), sa.and_(mark == value(position.mark), rest)))


def _beyond_key(keys: Sequence[ColumnElement[Any]], values: Sequence[Any]) -> ColumnElement[bool]:
    first = keys[0] > value(values[0])
    if len(keys) == 1:
        return first
    return sa.or_(first, sa.and_(keys[0] == value(values[0]), _beyond_key(keys[1:], values[1:])))


class TablePages:
    """Pages of a table by watermark and key. `columns` are read, those of `raw` as their bytes."""

    def __init__(self, table: str, columns: Sequence[str], key: Sequence[str], mark: str, raw: frozenset[str], dialect: str) -> None:
        names = list(dict.fromkeys([*columns, *key, mark]))
        self._table = table_of(table, names)
        self._columns = [_read(self._table.c[name], name in raw, dialect) for name in columns]
        self._keys, self._mark = [self._table.c[name] for name in key], self._table.c[mark]

    def page(self, position: Position | None, limit: int) -> sa.Select[Any]:
        found = sa.select(*self._columns, self._mark.label(MARK), *(key.label(KEY.format(n)) for n, key in enumerate(self._keys)))
        found = found.where(self._mark.is_not(None)) if position is None else found.where(beyond(self._mark, self._keys, position))
        return found.order_by(self._mark, *self._keys).limit(limit)

    def highest(self) -> sa.Select[Any]:
        """The highest watermark there is."""
        return sa.select(sa.func.max(self._mark))


class WrappedPages:
    """Pages of a site's SELECT, which is put into another that orders and limits it. It may use :watermark as a lower bound."""

    def __init__(self, select: str, key: Sequence[str], mark: str) -> None:
        self._uses = parameters(select)
        inner = sa.text(select.rstrip().rstrip(";")).columns(*(sa.column(name) for name in dict.fromkeys([*key, mark])))
        self._inner = inner.subquery("q")
        self._keys, self._mark = [self._inner.c[name] for name in key], self._inner.c[mark]

    def page(self, position: Position | None, limit: int) -> sa.Select[Any]:
        found: sa.Select[Any] = sa.select(
            sa.literal_column("q.*"), self._mark.label(MARK), *(key.label(KEY.format(n)) for n, key in enumerate(self._keys))
        ).select_from(self._inner)
        found = found.where(self._mark.is_not(None)) if position is None else found.where(beyond(self._mark, self._keys, position))
        return found.order_by(self._mark, *self._keys).limit(limit)

    def bound(self, position: Position | None, limit: int) -> dict[str, Any]:
        given = {"watermark": None if position is None else position.mark, "limit": limit}
        return {name: given[name] for name in self._uses if name in given}


def bindings(names: set[str], mark: Any, key: Sequence[Any], limit: int) -> dict[str, Any]:
    """Values for a SELECT that keeps order and limit itself: :watermark, :key, :key2 …, :limit."""
    keys = {"key" if n == 0 else f"key{n + 1}": one for n, one in enumerate(key)}
    given = {"watermark": mark, "limit": limit, **keys}
    return {name: given.get(name) for name in names}


def called(name: str, arguments: Sequence[str], dialect: str, returns: str | None) -> str:
    """A procedure as a statement: selected from, or called. Values stand in it as :a0, :a1 …; the name is quoted."""
    preparer = sa.dialects.registry.load(dialect)().identifier_preparer
    quoted = preparer.format_table(table_of(name))
    inside = ", ".join(argument if argument.startswith(":") else f":a{n}" for n, argument in enumerate(arguments))
    how = returns or ("table" if dialect in ("postgresql", "oracle") else "result")
    if how == "table":
        return f"SELECT * FROM TABLE({quoted}({inside}))" if dialect == "oracle" else f"SELECT * FROM {quoted}({inside})"  # noqa: S608
    return f"EXEC {quoted} {inside}".rstrip() if dialect == "mssql" else f"CALL {quoted}({inside})"


def constants(arguments: Sequence[str]) -> dict[str, str]:
    return {f"a{n}": argument for n, argument in enumerate(arguments) if not argument.startswith(":")}


def _read(column: ColumnElement[Any], raw: bool, dialect: str) -> ColumnElement[Any]:
    return raw_text(column, dialect).label(column.key or "") if raw else column


# --- details -------------------------------------------------------------------------------------


class DetailPages:
    """The details of a page of rows, in as few statements as the databases' limits of bound values allow."""

    def __init__(self, table: str, select: str, by: Mapping[str, str], order: Sequence[str], columns: Sequence[str],
                 raw: frozenset[str], dialect: str) -> None:  # fmt: skip
        self.by = tuple(by)
        self._own_place = bool(select) and "keys" in parameters(select)
        self._tuples = dialect not in ("mssql",)
        if self._own_place:
            self._text = sa.text(select).bindparams(sa.bindparam("keys", expanding=True))
            return
        names = list(dict.fromkeys([*columns, *self.by, *order]))
        if table:
            of: Any = table_of(table, names)
            shown = [_read(of.c[name], name in raw, dialect) for name in columns]
        else:
            of = sa.text(select.rstrip().rstrip(";")).columns(*(sa.column(name) for name in names)).subquery("q")
            shown = [of.c[name] for name in columns] or [sa.literal_column("q.*")]
        self._by = [of.c[name] for name in self.by]
        links = [column.label(KEY.format(n)) for n, column in enumerate(self._by)]
        self._select = sa.select(*shown, *links).select_from(of).order_by(*self._by, *(of.c[name] for name in order))

    def statements(self, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, dict[str, Any]]]:
        """Each with what is bound by name."""
        chunks = [keys[at : at + _KEYS_AT_ONCE] for at in range(0, len(keys), _KEYS_AT_ONCE)]
        if self._own_place:
            return [(self._text, {"keys": list(chunk) if len(self.by) > 1 else [key[0] for key in chunk]}) for chunk in chunks]
        return [(self._select.where(self._among(chunk)), {}) for chunk in chunks]

    def _among(self, chunk: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
        if len(self._by) == 1:
            one: ColumnElement[bool] = self._by[0].in_([value(key[0]) for key in chunk])
            return one
        pairs = [sa.and_(*(column == value(one) for column, one in zip(self._by, key, strict=True))) for key in chunk]
        return sa.or_(*pairs)


# --- status --------------------------------------------------------------------------------------


class Claims:
    """Statements of a table that is read by status. `key` and the status are compared as they are."""

    def __init__(self, table: str, columns: Sequence[str], key: Sequence[str], status: Any, raw: frozenset[str], dialect: str) -> None:
        self._status = status
        extra = [name for name in (status.column, status.claimed_at, status.claimed_by, status.reason) if name]
        self._table = table_of(table, list(dict.fromkeys([*columns, *key, *extra, *status.order])))
        self._columns = [_read(self._table.c[name], name in raw, dialect) for name in columns]
        self._keys = [self._table.c[name] for name in key]
        self._dialect = dialect

    def page(self, expired: Any, limit: int, *, locking: bool) -> sa.Select[Any]:
        """What may be taken: new rows, and claimed ones whose lease ended before `expired`."""
        keys = [key.label(KEY.format(n)) for n, key in enumerate(self._keys)]
        found = sa.select(*self._columns, *keys).where(self._free(expired))
        found = found.order_by(*(self._table.c[name] for name in self._status.order), *self._keys).limit(limit)
        if not locking:
            return found
        if self._dialect == "mssql":  # rows that others have locked are passed over
            return found.with_hint(self._table, "WITH (UPDLOCK, READPAST, ROWLOCK)", "mssql")
        return found.with_for_update(skip_locked=True) if self._dialect in SKIPPING else found

    def _free(self, expired: Any) -> ColumnElement[bool]:
        status = self._table.c[self._status.column]
        new: ColumnElement[bool] = status.in_([value(one) for one in self._status.new])
        if self._status.claimed is None or expired is None:
            return new
        since = self._table.c[self._status.claimed_at]
        return sa.or_(new, sa.and_(status == value(self._status.claimed), sa.or_(since < value(expired), since.is_(None))))

    def claim(self, key: Sequence[Any], now: Any, node: str, expired: Any) -> sa.Update:
        """One row, if it is still free."""
        status = self._status
        values = {status.column: value(status.claimed), status.claimed_at: value(now)}
        if status.claimed_by:
            values[status.claimed_by] = value(node)
        return sa.update(self._table).where(self._is(key), self._free(expired)).values(values)

    def settle(self, key: Sequence[Any], outcome: str, reason: str | None, claimed_at: Any, node: str) -> sa.Update:
        """Written back only where the claim is still ours, and the row was not changed by others."""
        status = self._status
        column = self._table.c[status.column]
        values: dict[str, Any] = {status.column: value(outcome)}
        if status.reason:
            values[status.reason] = value(reason)
        found = sa.update(self._table).where(self._is(key))
        if status.claimed is None:
            return found.where(column.in_([value(one) for one in status.new])).values(values)
        found = found.where(column == value(status.claimed), self._table.c[status.claimed_at] == value(claimed_at))
        if status.claimed_by:
            found = found.where(self._table.c[status.claimed_by] == value(node))
        return found.values(values)

    def _is(self, key: Sequence[Any]) -> ColumnElement[bool]:
        return sa.and_(*(column == value(one) for column, one in zip(self._keys, key, strict=True)))


SKIPPING: Final = ("postgresql", "mysql")
"""Dialects whose SELECT … FOR UPDATE SKIP LOCKED goes together with a limit (Oracle's does not: its claims are made row by row)."""
