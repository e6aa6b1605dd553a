"""Lands a group of parcels in one transaction.

Invariants
1. Whoever lands holds the lock of one row (landing_state.sequence) until the commit: sequence numbers rise in the order of the commits, and
   two nodes never make the same resource at once.
2. What a parcel changes and its row in landed_message are one commit; the same key again is answered from there and changes nothing.
3. Few statements whatever the size of the group: what the plan asks is read at once before it, what it changes is written table by table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from hashlib import sha256
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, tuple_, update

from adapters.database.landing import requests
from adapters.database.landing.extraction import rows
from adapters.database.landing.planning import Current, Group, Key, Planned, Version, wanted
from adapters.database.landing.requests import Incoming, Refused, Token
from adapters.database.landing.schema import CLOCK, Schema
from engine.errors import MessageError
from engine.formats import fhir
from engine.message import Parcel

_AT_ONCE: Final = 400
"""Values in one IN list."""


class Landed(NamedTuple):
    """What became of a parcel: the number of its landing, and how many resources it made, changed, deleted and left."""

    landing: int
    created: int
    updated: int
    deleted: int
    unchanged: int


class Where(NamedTuple):
    """What all rows of a destination share. `now` gives the time."""

    channel: str
    node: str
    zone: tzinfo
    now: Callable[[], datetime]


def key_of(parcel: Parcel, where: Where) -> str:
    """SHA-256 of what is the same at every attempt to deliver it."""
    return sha256((parcel.idempotency_key or f"{where.node}/{where.channel}/{parcel.message_id}/{parcel.seq}").encode()).hexdigest()


def land(connection: Connection, schema: Schema, where: Where, parcels: Sequence[Parcel]) -> list[Landed | MessageError]:
    """In the transaction that the caller has begun and commits; in place of what is refused stands why. Raises SQLAlchemyError."""
    before = lock(connection, schema)
    keys = [key_of(parcel, where) for parcel in parcels]
    done = landed(connection, schema, keys)
    writing = _Writing(
        connection, schema, where, before, [_read(parcel) for parcel, key in zip(parcels, keys, strict=True) if key not in done]
    )
    results = [_again(done[key], parcel) if key in done else writing.plan(parcel, key) for parcel, key in zip(parcels, keys, strict=True)]
    writing.write()
    if writing.group.seq != before:
        connection.execute(update(schema.state).where(schema.state.c.name == CLOCK).values(value=writing.group.seq))
    return results


def lock(connection: Connection, schema: Schema) -> int:
    """Wait until nobody else lands, and keep others from it until the end of the transaction; gives the last sequence number."""
    state = schema.state.c
    if connection.dialect.name == "sqlite":  # it knows no FOR UPDATE: the first write takes the lock of the whole file
        connection.execute(update(schema.state).where(state.name == CLOCK).values(value=state.value))
    return int(connection.execute(select(state.value).where(state.name == CLOCK).with_for_update()).scalar_one())


def landed(connection: Connection, schema: Schema, keys: Sequence[str]) -> dict[str, tuple[str, Landed]]:
    """What is there of these keys: the digest of the Bundle that came with it, and what became of it."""
    messages = schema.messages.c
    wanted = (
        messages.key_digest,
        messages.body_digest,
        messages.landing,
        messages.created,
        messages.updated,
        messages.deleted,
        messages.unchanged,
    )
    found = connection.execute(select(*wanted).where(messages.key_digest.in_(keys))).all()
    return {key: (digest, Landed(*counts)) for key, digest, *counts in found}


def _again(known: tuple[str, Landed], parcel: Parcel) -> Landed | MessageError:
    if known[0] != _digest(parcel):
        return Refused("this idempotency key came before with another Bundle")
    return known[1]


def _digest(parcel: Parcel) -> str:
    assert isinstance(parcel.body, bytes)
    return sha256(parcel.body).hexdigest()


def _read(parcel: Parcel) -> Incoming | MessageError:
    assert isinstance(parcel.body, bytes)
    try:
        return requests.read(parcel.body)
    except MessageError as error:
        return error


class _Known:
    """planning.Known: read at once what will be asked, and one by one what is asked beside that."""

    def __init__(self, connection: Connection, schema: Schema, group: Iterable[Incoming]) -> None:
        self._connection, self._schema = connection, schema
        self._current: dict[Key, Current | None] = {}
        self._holders: dict[tuple[str, str], list[tuple[str, str]]] = {}
        values, keys = wanted(group)
        self._read_holders(values)
        keys |= {(kind, name) for (kind, _), holders in self._holders.items() for _, name in holders}
        self._read_current(keys)

    def current(self, key: Key) -> Current | None:
        if key not in self._current:
            self._read_current({key})
        return self._current[key]

    def holders(self, resource_type: str, token: Token) -> list[str]:
        key = (resource_type, token.value)
        if key not in self._holders:
            self._read_holders({key})
        return [name for system, name in self._holders[key] if token.system in (None, system)]

    def _read_current(self, keys: set[Key]) -> None:
        resources = self._schema.resources.c
        columns = (resources.resource_type, resources.id, resources.version, resources.deleted, resources.content_digest)
        self._current.update(dict.fromkeys(keys))
        for some in _pages(sorted(keys)):
            query = select(*columns).where(tuple_(resources.resource_type, resources.id).in_(some))
            for kind, name, version, deleted, digest in self._connection.execute(query):
                self._current[kind, name] = Current(version, bool(deleted), digest)

    def _read_holders(self, values: set[tuple[str, str]]) -> None:
        identifier = self._schema.tables["identifier"].c
        columns = (identifier.resource_type, identifier.value, identifier.system, identifier.resource_id)
        self._holders.update({key: [] for key in values})
        for some in _pages(sorted({value for _, value in values})):
            kinds = sorted({kind for kind, value in values if value in some})
            query = select(*columns).where(identifier.value.in_(some), identifier.resource_type.in_(kinds))
            for kind, value, system, name in self._connection.execute(query):
                if (kind, value) in self._holders:
                    self._holders[kind, value].append((system or "", name))


def _pages(values: Sequence[Any]) -> Iterator[list[Any]]:
    left = iter(values)
    while page := list(islice(left, _AT_ONCE)):
        yield page


class _Writing:
    """The rows of one group, gathered until `write`."""

    def __init__(self, connection: Connection, schema: Schema, where: Where, seq: int, incoming: list[Incoming | MessageError]) -> None:
        self._connection, self._schema, self._where = connection, schema, where
        self._incoming = iter(incoming)
        self._known = _Known(connection, schema, [one for one in incoming if not isinstance(one, MessageError)])
        self.group = Group(self._known, seq)
        self._now = where.now().astimezone(UTC)
        self._messages: list[dict[str, Any]] = []
        self._versions: list[dict[str, Any]] = []
        self._last: dict[Key, tuple[Version, dict[str, Any]]] = {}
        self._planned: dict[str, tuple[str, Landed]] = {}

    def plan(self, parcel: Parcel, key: str) -> Landed | MessageError:
        incoming = next(self._incoming)
        if key in self._planned:
            return _again(self._planned[key], parcel)
        if isinstance(incoming, MessageError):
            return incoming
        try:
            planned = self.group.plan(incoming, key)
        except MessageError as refused:
            return refused
        result = Landed(planned.first, planned.created, planned.updated, planned.deleted, planned.unchanged)
        self._planned[key] = _digest(parcel), result
        self._gather(parcel, key, incoming, planned, result)
        return result

    def _gather(self, parcel: Parcel, key: str, incoming: Incoming, planned: Planned, result: Landed) -> None:
        received = datetime.fromtimestamp(parcel.received_at / 1e6, UTC) if parcel.received_at else None
        source = {"message_id": parcel.message_id, "control_id": parcel.control_id, "sender": incoming.sender, "received_at": received}
        day = (received or self._now).astimezone(self._where.zone).date()
        self._messages.append(
            {**result._asdict(), **source, "key_digest": key, "idempotency_key": parcel.idempotency_key, "body_digest": _digest(parcel),
             "channel": self._where.channel, "node": self._where.node, "message_type": parcel.message_type, "message_at": incoming.message_at,
             "received_day": day, "landed_at": self._now}
        )  # fmt: skip
        own = {**source, "landing": result.landing, "last_updated": self._now}
        for version in planned.versions:
            self._versions.append(self._version_row(version, own))
            before = self._last.get(version.key)
            if version.deleted and before is not None and not before[0].deleted:  # made and deleted in one group: its last content is kept
                self._last[version.key] = (version, {**own, "_kept": before})
            else:
                self._last[version.key] = version, own

    def _version_row(self, version: Version, own: dict[str, Any]) -> dict[str, Any]:
        received = version.received
        return {
            "resource_type": version.key[0], "id": version.key[1], "version": version.version, "seq": version.seq, "method": version.method,
            "last_updated": own["last_updated"], "deleted": version.deleted, "landing": own["landing"],
            "received": None if received is None else received.decode(),
            "digest": None if received is None else sha256(received).hexdigest(),
            "resolved": fhir.dump(version.resolved).decode() if version.resolved else None,
        }  # fmt: skip

    # --- writing ---------------------------------------------------------------------------------

    def write(self) -> None:
        """Every row of the group, table by table."""
        self._insert(self._schema.messages, self._messages)
        self._insert(self._schema.versions, self._versions)
        tables = _Tables(self._connection, self._schema, self._known, self._where.zone)
        for version, own in self._last.values():
            tables.gather(version, own)
        tables.write()

    def _insert(self, table: Any, made: list[dict[str, Any]]) -> None:
        if made:
            self._connection.execute(insert(table), made)


class _Tables:
    """The rows that show resources as they are now."""

    def __init__(self, connection: Connection, schema: Schema, known: _Known, zone: tzinfo) -> None:
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
        for some in _pages(keys):
            if "resource_type" in table.c:
                beyond = tuple_(table.c.resource_type, table.c.resource_id).in_(some)
            else:
                beyond = table.c.resource_id.in_([name for _, name in some])
            self._connection.execute(table.delete().where(beyond))


def _of(of_any: bool, version: Version, part: dict[str, Any]) -> dict[str, Any]:
    made = {"resource_id": version.key[1], "version": version.version, "seq": version.seq, **part}
    return {"resource_type": version.key[0], **made} if of_any else made


def _stamped(content: dict[str, Any], version: int, at: datetime) -> str:
    """The resource as it is landed: id and meta first, everything else as it came."""
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
    return fhir.dump({**content, "meta": {**content["meta"], "versionId": str(version), "lastUpdated": stamp}}).decode()
