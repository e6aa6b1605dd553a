"""Between rows and the contract's values, and the building of statements that carry many rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import blake2b
from sqlite3 import Connection, Row
from typing import Any, Final

import orjson

from engine.message import BodyRef, Envelope, Judgement, Verdict
from engine.store.contract import Arrival

SEQ_BITS: Final = 40
_MOST_ROWS: Final = 128
_COUNTED: Final = 12
MESSAGE_COLUMNS: Final = (
    "id, channel, received_at, content_type, message_type, control_id, sender, peer, remote, patients, facts, "
    "verdict, reason, hl7_code, location, answer, key, content_digest, digest, size"
)


def insert(connection: Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Insert `rows` by as few statements as can be. Every step of a statement gives up the interpreter lock and waits to get it back
    from a busy reactor, which costs more than the inserting. `into` is ``table (columns)``."""
    for part in chunks(rows, _MOST_ROWS):
        connection.execute(_insert(into, len(part[0]), len(part)), [value for row in part for value in row])


@cache
def _insert(into: str, width: int, count: int) -> str:
    row = f"({','.join('?' * width)})"
    return f"INSERT INTO {into} VALUES {','.join([row] * count)}"


def marks(values: Sequence[Any]) -> str:
    """``?,?,?`` for an IN list."""
    return ",".join("?" * len(values))


def chunks(values: Sequence[Any], size: int = 500) -> Iterable[Sequence[Any]]:
    """Slices short enough for an IN list."""
    return (values[start : start + size] for start in range(0, len(values), size))


def key_digest(channel: str, key: str) -> bytes:
    """Behind the key's own end, by which senders count: so the index grows where it grew last, instead of anywhere in it."""
    return key[-_COUNTED:].encode() + blake2b(f"{channel}\0{key}".encode(), digest_size=16).digest()


def message_row(number: int, channel: int, arrival: Arrival, key: bytes, digest: str | None, size: int) -> tuple[Any, ...]:
    """In the order of MESSAGE_COLUMNS."""
    envelope, judgement = arrival.envelope, arrival.judgement
    return (
        number,
        channel,
        envelope.received_at,
        envelope.content_type,
        envelope.message_type,
        envelope.control_id,
        envelope.sender,
        envelope.peer,
        envelope.remote,
        orjson.dumps(envelope.patient_ids).decode() if envelope.patient_ids else None,
        orjson.dumps(dict(envelope.facts)).decode() if envelope.facts else None,
        judgement.verdict.value,
        judgement.reason or None,
        judgement.hl7_code or None,
        judgement.location or None,
        arrival.answer,
        key or None,
        envelope.content_digest or None,
        digest,
        size,
    )


def judgement_of(row: Row) -> Judgement:
    return Judgement(Verdict(row["verdict"]), row["reason"] or "", row["hl7_code"] or "", row["location"] or "")


def envelope_of(row: Row) -> Envelope:
    """From a row of message joined with its body."""
    body = row["body"]
    return Envelope(
        body=BodyRef(row["digest"], row["size"]) if body is None else body,
        content_type=row["content_type"],
        message_type=row["message_type"],
        control_id=row["control_id"],
        sender=row["sender"],
        peer=row["peer"],
        remote=row["remote"],
        received_at=row["received_at"],
        patient_ids=tuple(orjson.loads(row["patients"])) if row["patients"] else (),
        content_digest=row["content_digest"] or b"",
        facts=orjson.loads(row["facts"]) if row["facts"] else {},
    )


def unreferred(connection: Connection, digests: Sequence[str]) -> list[str]:
    """Those of `digests` that no row refers to."""
    sql = "SELECT 1 FROM message WHERE digest = ? UNION ALL SELECT 1 FROM queue WHERE digest = ?"
    return [digest for digest in digests if connection.execute(sql, (digest, digest)).fetchone() is None]
