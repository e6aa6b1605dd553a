"""What the site wrote of where to read: its own statement, and where to begin."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from adapters.database.polling.rounds import Halted
from adapters.database.polling.statements import called

if TYPE_CHECKING:
    from engine.options import Settings


def own_select(options: Settings, site: Path, dialect: str) -> str:
    """The site's own statement, "" for a table. Raises OSError."""
    if options.procedure:
        return called(options.procedure.name, options.procedure.arguments, dialect, options.procedure.returns)
    if options.select_file:
        return Path(site / options.select_file).read_text(encoding="utf-8")
    return str(options.select or "")


def started(text: str, kind: str, dialect: str, instant: bool | None, zone: ZoneInfo | None) -> Any:
    """`start` as a watermark of that kind; `instant` says whether the column holds moments, None where nobody knows (a select): then it
    is taken as it is written. Raises Halted."""
    try:
        if kind == "text" or dialect == "sqlite":
            return int(text) if text.lstrip("-").isdigit() and kind != "text" else text
        if text.lstrip("-").isdigit() and kind not in ("datetime", "date"):
            return int(text)
        return date.fromisoformat(text) if kind == "date" else _fitted(datetime.fromisoformat(text), instant, zone)
    except ValueError:
        raise Halted(f"watermark.start {text!r} is not a number or a time such as 2024-03-01T00:00:00+08:00") from None


def _fitted(at: datetime, instant: bool | None, zone: ZoneInfo | None) -> datetime:
    """Databases compare a local time with a moment by the zone of the session, which is nobody's; and MariaDB is told no offset."""
    if at.tzinfo is None:
        return at.replace(tzinfo=zone or UTC).astimezone(UTC) if instant else at
    if instant is not False:
        return at.astimezone(UTC)
    if zone is None:
        raise Halted("watermark.start has an offset from UTC and the column has none: say zone, or write it as the column would have it")
    return at.astimezone(zone).replace(tzinfo=None)
