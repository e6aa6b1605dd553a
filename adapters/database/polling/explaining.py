"""Which index a statement would use, by the database's own EXPLAIN."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.savepoints import spared


def serves(connection: Connection, statement: Any) -> str:
    """The name of the index that would serve `statement`, "" where the database would read the table whole or does not say."""
    explain = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}.get(connection.dialect.name)
    if explain is None:
        return ""
    try:
        with spared(connection):
            return explain(connection, statement)
    except SQLAlchemyError:
        return ""


def _explained(connection: Connection, word: str, statement: Any) -> Any:
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    values = compiled.params
    given = tuple(values[name] for name in compiled.positiontup) if compiled.positiontup is not None else values
    return connection.exec_driver_sql(f"{word} {compiled}", given)


def _postgresql(connection: Connection, statement: Any) -> str:
    found = _explained(connection, "EXPLAIN (FORMAT JSON)", statement).scalar_one()
    plan = json.loads(found) if isinstance(found, str) else found
    left = [plan[0]["Plan"]]
    while left:
        node = left.pop()
        if name := node.get("Index Name"):
            return str(name)
        left.extend(node.get("Plans", ()))
    return ""


def _mysql(connection: Connection, statement: Any) -> str:
    rows = _explained(connection, "EXPLAIN", statement).mappings().all()
    return str(rows[0].get("key") or "") if rows and str(rows[0].get("type")) not in ("ALL", "index") else ""


def _sqlite(connection: Connection, statement: Any) -> str:
    for row in _explained(connection, "EXPLAIN QUERY PLAN", statement):
        text = str(row[-1])
        for word in ("USING COVERING INDEX ", "USING INDEX ", "USING INTEGER PRIMARY KEY"):
            if word in text:
                return text.partition(word)[2].partition(" ")[0] or "primary key"
    return ""
