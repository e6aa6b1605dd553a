"""From a change in the log, or a row of the first state, to the envelope that is handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from adapters.database.capture.state import State
from adapters.database.capture.subject import Subject
from adapters.database.values import Row
from engine.formats import rows
from engine.formats.rows import Record
from engine.message import ROWS, Envelope, Judgement, Verdict

if TYPE_CHECKING:
    from engine.options import Settings

_NOTHING: Final = Row({}, {}, (), ())


@dataclass(frozen=True)
class Change:
    """One change. `row` is empty for delete and truncate; `before` is what is known of the old row, `unchanged` are columns whose value
    is not in the log because it stayed as it was."""

    subject: Subject
    kind: str
    position: str
    row: Row = _NOTHING
    before: Row | None = None
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One message. `order`: those with the same are handed in one after the other; with "" after all that came before."""

    envelope: Envelope
    invalid: Judgement | None
    order: str


@dataclass(frozen=True)
class Page:
    """Messages, and the state when all of them are kept: it commits with the last one. `more`: look again at once."""

    items: Sequence[Item]
    state: State
    more: bool = False


class Wording:
    """Makes messages. `origin` and `remote` are where the database is."""

    def __init__(self, options: Settings, origin: str, remote: str) -> None:
        self._options, self._origin, self._remote = options, origin, remote

    def item(self, change: Change, server: str, now: int) -> Item:
        subject, before = change.subject, change.before
        row, old = _shown(subject, change.row.values), _shown(subject, before.values) if before else None
        types = {**(before.types if before else {}), **change.row.types}
        odd = dict.fromkeys([*change.row.odd, *(before.odd if before else ())])
        known = {**(before.values if before else {}), **change.row.values}
        key = {name: known.get(name) for name in subject.key if change.kind != "truncate"}
        record = Record(
            self._origin,
            subject.name,
            row,
            change.kind,
            key,
            old,
            types={name: kind for name, kind in types.items() if name in row or (old and name in old) or name in key},
            position=change.position,
            odd=tuple(name for name in odd if name in row or (old and name in old)),
            unchanged=tuple(name for name in change.unchanged if not subject.columns or name in subject.columns),
        )
        unreadable = [*change.row.unreadable, *(before.unreadable if before else ())]
        envelope = self._envelope(record, subject, server, now)
        return Item(envelope, _invalid(unreadable, subject), "" if change.kind == "truncate" else f"{subject.name}|{_key(record)}")

    def _envelope(self, record: Record, subject: Subject, server: str, now: int) -> Envelope:
        body = rows.write(record)
        digest = blake2b(body, digest_size=16).digest()
        key = _key(record)
        version = f"{record.position}|{digest.hex()}" if record.change == "snapshot" else record.position
        known = {**(record.before or {}), **record.row}
        facts = {"table": record.table, "change": record.change, "position": record.position}
        facts |= {name: " ".join(value) for name, value in (("odd", record.odd), ("unchanged", record.unchanged)) if value}
        return Envelope(
            body,
            ROWS,
            record.table if self._options.message_type == "table" else f"{record.table}:{record.change}",
            key,
            self._origin,
            remote=self._remote,
            received_at=now,
            patient_ids=tuple(str(known[name]) for name in subject.patient_ids if known.get(name) is not None),
            idempotency_key=f"{self._origin}|{server}|{record.table}|{key}|{record.change}|{version}",
            content_digest=digest,
            facts=facts,
        )


def _shown(subject: Subject, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not subject.columns or name in subject.columns}


def _key(record: Record) -> str:
    return "|".join(value if isinstance(value, str) else str(value) for value in record.key.values())


def _invalid(unreadable: Sequence[str], subject: Subject) -> Judgement | None:
    if not unreadable:
        return None
    names = list(dict.fromkeys(unreadable))
    charset = subject.reading.charsets.get(names[0], "of its character set")
    text = f"the bytes of {', '.join(names)} are not {charset}: they are given as they are"
    return Judgement(Verdict.INVALID, text, "102", f"row.{names[0]}")
