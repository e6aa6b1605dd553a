"""The rows that show resources as they are now: what a group has left of each, written table by table."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from adapters.database.landing.extraction import rows
from adapters.database.landing.known import Known, among, by_type
from adapters.database.landing.planning import Key, Version
from adapters.database.landing.schema import Schema
from engine.formats import fhir


class Tables:
    """The rows that show resources as they are now."""

    def __init__(self, connection: Connection, schema: Schema, known: Known, zone: tzinfo) -> None:
        self._connection, self._schema, self._known, self._zone = connection, schema, known, zone
        self._new: dict[str, list[dict[str, Any]]] = {}
        self._changed: dict[str, list[dict[str, Any]]] = {}
        self._deleted: dict[str, list[dict[str, Any]]] = {}
        self._gone: dict[str, list[Key]] = {}
        self._books: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])

    def gather(self, version: Version, own: dict[str, Any]) -> None:
        kind, name = version.key
        table, parts = self._schema.layout.of(kind)
        there = self._known.current(version.key) is not None
        kept: tuple[Version, dict[str, Any]] | None = own.pop("_kept", None)
        book = {"resource_type": kind, "id": name, "version": version.version, "seq": version.seq, "last_updated": own["last_updated"]}
        self._books[there].append({**book, "deleted": version.deleted, "landing": own["landing"], "content_digest": version.content_digest})
        head = {**own, "id": name, "version": version.version, "seq": version.seq, "deleted": version.deleted}
        if table.of_any:
            head["resource_type"] = kind
        if there:
            for part in parts:
                self._gone.setdefault(part.name, []).append(version.key)
        if version.deleted and kept is None:
            self._deleted.setdefault(table.name, []).append(head)
            return
        shown = kept[0] if kept is not None else version
        content = shown.content or {}
        into = self._changed if there else self._new
        for part, found in rows(self._schema.layout, content, self._zone):
            if part is table:
                text = _stamped(content, shown.version, own["last_updated"])
                into.setdefault(table.name, []).append({**head, **found[0], "content": text})
            elif not version.deleted:
                self._new.setdefault(part.name, []).extend(_of(part.of_any, version, one) for one in found)

    def write(self) -> None:
        resources = self._schema.resources
        if self._books[False]:
            self._connection.execute(insert(resources), self._books[False])
        if self._books[True]:
            self._update(resources, self._books[True])
        for name, keys in self._gone.items():
            self._remove(self._schema.tables[name], keys)
        for name, changed in (*self._changed.items(), *self._deleted.items()):
            self._update(self._schema.tables[name], changed)
        for name, new in self._new.items():
            if new:
                self._connection.execute(insert(self._schema.tables[name]), new)

    def _update(self, table: Any, changed: list[dict[str, Any]]) -> None:
        keys = [column.name for column in table.primary_key.columns]
        values: dict[str, Any] = {name: bindparam(f"n_{name}") for name in changed[0] if name not in keys}
        statement = update(table).values(values).where(*(table.c[name] == bindparam(f"k_{name}") for name in keys))
        self._connection.execute(statement, [{f"{'k' if name in keys else 'n'}_{name}": row[name] for name in row} for row in changed])

    def _remove(self, table: Any, keys: list[Key]) -> None:
        if "resource_type" not in table.c:
            self._remove_of(table, [name for _, name in keys])
            return
        for kind, names in by_type(keys).items():
            self._remove_of(table, names, table.c.resource_type == kind)

    def _remove_of(self, table: Any, names: list[str], *further: Any) -> None:
        for condition in among(self._connection, table.c.resource_id, names):
            self._connection.execute(table.delete().where(condition, *further))


def _of(of_any: bool, version: Version, part: dict[str, Any]) -> dict[str, Any]:
    made = {"resource_id": version.key[1], "version": version.version, "seq": version.seq, **part}
    return {"resource_type": version.key[0], **made} if of_any else made


def _stamped(content: dict[str, Any], version: int, at: datetime) -> str:
    """The resource as it is landed: id and meta first, everything else as it came."""
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
    return fhir.dump({**content, "meta": {**content["meta"], "versionId": str(version), "lastUpdated": stamp}}).decode()
