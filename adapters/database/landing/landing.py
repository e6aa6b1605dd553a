"""Lands a group of parcels in one transaction.

Invariants
1. Whoever lands holds the lock of one row (landing_state.sequence) until the commit: sequence numbers rise in the order of the commits, and
   two nodes never make the same resource at once.
2. What a parcel changes and its row in landed_message are one commit; the same key again is answered from there and changes nothing.
3. Few statements whatever the size of the group: what the plan asks is read at once before it, what it changes is written table by table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from adapters.database.landing import requests
from adapters.database.landing.current import Tables
from adapters.database.landing.known import Known
from adapters.database.landing.planning import Group, Key, Planned, Version
from adapters.database.landing.requests import Incoming, Refused
from adapters.database.landing.schema import CLOCK, Schema
from engine.errors import MessageError
from engine.formats import fhir
from engine.message import Parcel


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


class _Writing:
    """The rows of one group, gathered until `write`."""

    def __init__(self, connection: Connection, schema: Schema, where: Where, seq: int, incoming: list[Incoming | MessageError]) -> None:
        self._connection, self._schema, self._where = connection, schema, where
        self._incoming = iter(incoming)
        self._known = Known(connection, schema, [one for one in incoming if not isinstance(one, MessageError)])
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
            {
                **result._asdict(), **source, "key_digest": key, "idempotency_key": parcel.idempotency_key, "body_digest": _digest(parcel),
                "channel": self._where.channel, "node": self._where.node, "message_type": parcel.message_type,
                "message_at": incoming.message_at, "received_day": day, "landed_at": self._now,
            }
        )  # fmt: skip
        own = {**source, "landing": result.landing, "last_updated": self._now}
        for version in planned.versions:
            self._versions.append(self._version_row(version, own))
            before = self._last.get(version.key)
            if version.deleted and before is not None and not before[0].deleted:  # its last content is kept
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
        tables = Tables(self._connection, self._schema, self._known, self._where.zone)
        for version, own in self._last.values():
            tables.gather(version, own)
        tables.write()

    def _insert(self, table: Any, made: list[dict[str, Any]]) -> None:
        if made:
            self._connection.execute(insert(table), made)
