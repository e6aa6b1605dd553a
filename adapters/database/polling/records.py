"""From a fetched row to the envelope that is handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from adapters.database.polling.subject import Fetched, Subject
from adapters.database.values import Row
from engine.formats import rows
from engine.formats.rows import Record, worded
from engine.message import ROWS, Envelope, Judgement, Verdict

if TYPE_CHECKING:
    from engine.options import Settings


@dataclass(frozen=True)
class Item:
    """One message to hand in. `digest` tells it from the other versions of its row; `mark` and `key` are where it stands."""

    envelope: Envelope
    invalid: Judgement | None
    digest: bytes
    key: tuple[Any, ...]
    mark: Any = None
    values: Mapping[str, Any] | None = None
    types: Mapping[str, str] = field(default_factory=dict)


class Wording:
    """Makes records of one table. `origin` and `remote` are where it is."""

    def __init__(self, options: Settings, origin: str, remote: str) -> None:
        self._options, self._origin, self._remote = options, origin, remote

    def item(self, subject: Subject, one: Fetched, details: Mapping[str, Sequence[Row]], now: int, left_out: frozenset[str]) -> Item:
        """`left_out` are columns that do not tell versions apart (the status that we write ourselves)."""
        record, unreadable = self._record(subject, one, details)
        body = rows.write(record)
        digest = _digest(record, left_out)
        key = "|".join(_plain(value) for value in record.key.values())
        facts = {"table": record.table, "change": record.change, **({"odd": " ".join(record.odd)} if record.odd else {})}
        patients = (record.row.get(name) for name in self._options.patient_ids)
        envelope = Envelope(
            body,
            ROWS,
            record.table if self._options.message_type == "table" else f"{record.table}:{record.change}",
            key,
            self._origin,
            remote=self._remote,
            received_at=now,
            patient_ids=tuple(str(one) for one in patients if one is not None),
            idempotency_key=f"{self._origin}|{record.table}|{key}|{record.position}|{digest.hex()}",
            content_digest=digest,
            facts=facts,
        )
        return Item(envelope, _invalid(unreadable, subject), digest, one.key, one.mark, record.row, record.types)

    def _record(self, subject: Subject, one: Fetched, details: Mapping[str, Sequence[Row]]) -> tuple[Record, list[str]]:
        types = dict(one.row.types)
        odd, unreadable = list(one.row.odd), list(one.row.unreadable)
        for name, found in details.items():
            for row in found:
                types.update({f"{name}.{column}": kind for column, kind in row.types.items()})
                odd.extend(f"{name}.{column}" for column in row.odd)
                unreadable.extend(f"{name}.{column}" for column in row.unreadable)
        record = Record(
            self._origin,
            subject.table,
            one.row.values,
            key=dict(zip(subject.key, (worded(value)[0] for value in one.key), strict=True)),
            details={name: [row.values for row in found] for name, found in details.items()},
            types=types,
            position=_plain(worded(one.mark)[0]) if one.mark is not None else "",
            odd=tuple(dict.fromkeys(odd)),
        )
        return record, list(dict.fromkeys(unreadable))


def _digest(record: Record, left_out: frozenset[str]) -> bytes:
    """Of the values; a column that was added and is null makes no other version of a row."""
    kept = {name: value for name, value in record.row.items() if value is not None and name not in left_out}
    content = rows.write(Record(record.origin, record.table, kept, key=record.key, details=record.details))
    return blake2b(content, digest_size=16).digest()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _invalid(unreadable: Sequence[str], subject: Subject) -> Judgement | None:
    if not unreadable:
        return None
    column = unreadable[0]
    charset = subject.reading.charsets.get(column, "UTF-8")
    text = f"the bytes of {', '.join(unreadable)} are not {charset}: they are given as they are"
    return Judgement(Verdict.INVALID, text, "102", f"row.{column}")
