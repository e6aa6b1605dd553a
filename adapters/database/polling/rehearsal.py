"""What the source would make of a record, without a database: for a channel's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import ParseError
from engine.formats import rows
from engine.message import ROWS, Envelope, Judgement, Verdict

if TYPE_CHECKING:
    from engine.options import Settings


def rehearse(options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
    """Of bytes that are no record, an envelope that says so."""
    try:
        record = rows.read(body)
    except ParseError as error:
        return Envelope(body, ROWS, peer=peer), Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)
    kind = record.table if options.message_type == "table" else f"{record.table}:{record.change}"
    patients = tuple(str(one) for name in options.patient_ids if (one := record.row.get(name)) is not None)
    facts = {"table": record.table, "change": record.change, **({"odd": " ".join(record.odd)} if record.odd else {})}
    key = "|".join(str(one) for one in record.key.values())
    return Envelope(body, ROWS, kind, key, record.origin, peer, patient_ids=patients, facts=facts), None
