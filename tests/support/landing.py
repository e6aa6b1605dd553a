"""What the tests of the landing schema share: databases of all three kinds, Bundles, and everything that has been landed."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import select
from sqlalchemy.engine import URL, Engine, make_url

from adapters.database.connection import make_engine
from adapters.database.landing import extraction
from adapters.database.landing.layout import Layout, Table, shipped
from adapters.database.landing.options import DESTINATION
from adapters.database.landing.schema import OWN, Number, Schema, Short, schema_of
from adapters.database.landing.writer import Writer
from engine.contracts import Context
from engine.formats import fhir
from engine.message import FHIR_JSON, Parcel
from engine.observe import Metrics
from engine.options import Settings
from tests.support.databases import own_database

KINDS = ("sqlite", "postgresql", "mysql")
NOON = 1_793_620_800_000_000  # 2026-11-02T12:00:00Z


@contextmanager
def database(kind: str) -> Iterator[URL]:
    """An empty one of that kind, as a site would write its address."""
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            yield make_url(f"sqlite:///{folder}/landing.db")
        else:
            yield stack.enter_context(own_database(kind))


def options(url: URL | str, **more: Any) -> Settings:
    written = url if isinstance(url, str) else url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
    more.setdefault("schema", "fhir" if written.startswith("postgresql") else None)
    given = {name: value for name, value in more.items() if value is not None}
    return DESTINATION.defaults(**{"connection": written, **given})


def context(reactor: Any = None, name: str = "results/tables", clock: Any = lambda: NOON) -> Context:
    return Context(
        name=name, reactor=reactor, site=Path("."), data=Path("."), clock=clock, new_id=lambda: "x", log=logging.getLogger("test.landing"),
        metrics=Metrics(), tls=None, audit=lambda *_, **__: None, node="test",
    )  # fmt: skip


class Landing:
    """A writer without threads, and what is in its database."""

    def __init__(self, url: URL, layout: Layout | None = None, **more: Any) -> None:
        self.options = options(url, **more)
        self.context = context()
        self.layout = layout or shipped()
        self.dialect = url.get_backend_name()
        self.engine: Engine = make_engine(self.options.connection, self.context)
        self.schema: Schema = schema_of(self.layout, self.options.schema)
        self.writer = Writer(self.options, self.context, lambda: self.engine, self.layout)

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()

    def land(self, *bodies: bytes, first: int = 1) -> list[Any]:
        """In one group; keys are k1, k2 …"""
        return self.writer.write([parcel(number, body) for number, body in enumerate(bodies, first)])

    def empty(self) -> None:
        """Take out all that was landed; migrations and their state stay."""
        with self.engine.begin() as connection:
            for table in self.schema.metadata.sorted_tables:
                if table.name not in ("landing_migration", "landing_state"):
                    connection.execute(table.delete())
            connection.execute(self.schema.state.update().values(value=0))

    def rows(self, table: str, *columns: str, **where: Any) -> list[Any]:
        """Of one table or view, by primary key; plain values where one column is asked for."""
        made = self.schema.metadata.tables.get(f"{self.schema.name}.{table}" if self.schema.name else table)
        if made is None:
            made = sqlalchemy.Table(table, sqlalchemy.MetaData(schema=self.schema.name), autoload_with=self.engine)
        query = select(*(made.c[name] for name in columns or made.c.keys())).order_by(*made.primary_key.columns)
        for name, value in where.items():
            query = query.where(made.c[name] == value)
        with self.engine.connect() as connection:
            found = connection.execute(query).all()
        return [row[0] for row in found] if len(columns) == 1 else [tuple(row) for row in found]

    def one(self, table: str, **where: Any) -> dict[str, Any]:
        """The one row of a table, without what is NULL; content as JSON."""
        names = list(self.schema.metadata.tables[f"{self.schema.name}.{table}" if self.schema.name else table].c.keys())
        (row,) = self.rows(table, *names, **where)
        found = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        if isinstance(found.get("content"), str):
            found["content"] = json.loads(found["content"])
        return found

    def everything(self) -> dict[str, list[Any]]:
        """All rows of all tables but those that say when."""
        return {table.name: self.rows(table.name) for table in self.schema.metadata.sorted_tables if table.name != "landing_migration"}


def parcel(number: int, body: bytes, key: str | None = None, control_id: str = "") -> Parcel:
    name = f"k{number}" if key is None else key
    return Parcel(number, number, body, FHIR_JSON, "Bundle transaction", control_id or str(number), name, received_at=NOON)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def check(landing: Landing) -> None:
    """What must always hold: columns and parts are those of the JSON, versions have no gaps, books and tables say the same."""
    zone = landing.options.zone
    latest = _latest(landing)
    parts: dict[str, list[Any]] = {table.name: [] for table in landing.layout.tables if not table.of_resources}
    for table in landing.layout.tables:
        if table.of_resources:
            _check_resources(landing, table, zone, latest, parts)
    for part in landing.layout.tables:
        if not part.of_resources:
            _check_parts(landing, part, parts[part.name])
    versions: dict[tuple[str, str], list[Any]] = {}
    for kind, name, version, seq, deleted, received, digest in landing.rows(
        "resource_version", "resource_type", "id", "version", "seq", "deleted", "received", "digest"
    ):
        versions.setdefault((kind, name), []).append((version, seq, deleted))
        assert (received is None) == deleted
        assert deleted or digest == sha256(received.encode()).hexdigest()
    assert all([version for version, _, _ in found] == list(range(1, len(found) + 1)) for found in versions.values())
    books = {(kind, name): rest for kind, name, *rest in landing.rows("resource", "resource_type", "id", "version", "seq", "deleted")}
    assert books == {key: list(found[-1]) for key, found in versions.items()}
    numbers = [seq for found in versions.values() for _, seq, _ in found] + landing.rows("landed_message", "landing")
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert landing.rows("landing_state", "value") == [len(numbers)]


def _latest(landing: Landing) -> dict[tuple[str, str], Any]:
    """Each resource as it was last received, with its references as they were resolved."""
    found = {}
    for kind, name, received, resolved in landing.rows("resource_version", "resource_type", "id", "received", "resolved"):
        if received is not None:
            found[kind, name] = _resolved(fhir.parse(received.encode()), json.loads(resolved or "{}"))
    return found


def _resolved(value: Any, targets: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _resolved(item, targets) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, targets) for item in value]
    return targets.get(value, value) if isinstance(value, str) else value


def _numbers(value: Any) -> Any:
    """With every number as what it is worth: JSONB writes 1e3 as 1000."""
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return Decimal(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_content(content: dict[str, Any], received: dict[str, Any]) -> None:
    stamps = ("versionId", "lastUpdated")
    one, other = ({name: value for name, value in whole.items() if name not in ("id", "meta")} for whole in (content, received))
    assert _numbers(one) == _numbers(other)
    metas = ({name: value for name, value in whole.get("meta", {}).items() if name not in stamps} for whole in (content, received))
    assert next(metas) == next(metas)


def _check_resources(landing: Landing, table: Table, zone: Any, latest: dict[tuple[str, str], Any], parts: dict[str, list[Any]]) -> None:
    own = [name for name, _, _ in OWN]
    kinds = ["resource_type"] if table.of_any else []
    columns = [name for column in table.columns for name, _, _ in column.sql()]
    for row in landing.rows(table.name, *kinds, *own, "content", *columns):
        found = dict(zip([*kinds, *own, "content", *columns], row, strict=True))
        content = fhir.parse(found["content"].encode()) if isinstance(found["content"], str) else found["content"]
        assert content["id"] == found["id"]
        assert found["deleted"] or content["meta"]["versionId"] == str(found["version"])
        resource = latest[content["resourceType"], found["id"]]
        _check_content(content, resource)
        for part, wanted in extraction.rows(landing.layout, resource, zone):
            if part.name == table.name:
                assert {name: found[name] for name in columns} == _fitted(landing, table, wanted[0]), table.name
            elif not found["deleted"]:
                kept = {"resource_id": found["id"], "version": found["version"], "seq": found["seq"]}
                kept |= {"resource_type": resource["resourceType"]} if part.of_any else {}
                parts[part.name] += [{**kept, **one} for one in wanted]


def _check_parts(landing: Landing, part: Table, wanted: list[dict[str, Any]]) -> None:
    names = list(landing.schema.tables[part.name].c.keys())
    keys = [names.index(column.name) for column in landing.schema.tables[part.name].primary_key.columns]
    fitted = [_fitted(landing, part, one) for one in wanted]
    found = sorted(landing.rows(part.name), key=lambda row: [row[key] for key in keys])
    assert found == sorted((tuple(one[name] for name in names) for one in fitted), key=lambda row: [row[key] for key in keys]), part.name


def _fitted(landing: Landing, table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """As near as this database's columns come to it: indexed texts are cut, decimals are a float in SQLite, have 30 places in MariaDB."""
    made = landing.schema.tables[table.name].c
    kinds = {name: made[name].type for name in row}
    return {
        name: kinds[name].process_bind_param(value, landing.engine.dialect) if isinstance(kinds[name], Short | Number) else value
        for name, value in row.items()
    }
