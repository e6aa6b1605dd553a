"""What a channel file may say under `source: database:`."""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

from adapters.database.options import COLUMN, CONNECTION, TABLE
from engine.options import DURATION, FLAG, TEXT, ZONE, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice, integer


def _charset(raw: Any) -> str:
    try:
        return codecs.lookup(str(raw)).name
    except LookupError:
        raise Faulty(f"{raw!r} is not a character set that Python knows") from None


CHARSET: Final = Kind("charset", "a character set such as gb18030", _charset, {"type": "string"})

_WATERMARK: Final = Spec(
    "watermark",
    "The column that grows with every insert (and update, where these are wanted).",
    [
        Option("column", COLUMN, "the column: a timestamp, a number, a row version", required=True),
        Option("overlap", DURATION, "a row turns up at most this long after it was given its watermark: the longest transaction of the "
               "writers, and how far their clocks differ", default="2m"),
        Option("start", TEXT, "where the first poll ever begins; default: at the oldest row"),
        Option("purged", FLAG, "rows are deleted from the table when they are old, so that an empty table is no sign of anything",
               default=False),
    ],
    scalar="column",
)  # fmt: skip

_STATUS: Final = Spec(
    "status",
    "The column in which the table itself says what is new and what was taken. Needs the right to update it.",
    [
        Option("column", COLUMN, "the column", required=True),
        Option("new", ListOf(TEXT), "its values in rows that are to be taken", required=True),
        Option("done", TEXT, "what a row is set to once its message is kept", required=True),
        Option("failed", TEXT, "what it is set to when the message was kept as refused or invalid; default: as done"),
        Option("claimed", TEXT, "what it is set to while it is being taken, so that two nodes never take the same row; needs claimed_at"),
        Option("claimed_at", COLUMN, "a datetime column for when it was claimed (UTC): after `lease` it comes again"),
        Option("claimed_by", COLUMN, "a column of text for the node that has claimed it"),
        Option("reason", COLUMN, "a column of text for the code of why a message failed"),
        Option("lease", DURATION, "how long a claim holds when its node is gone", default="5m"),
        Option("order", ListOf(COLUMN), "columns in whose order rows are taken; default: the key", default=[]),
    ],
    check=lambda settings: "claimed needs claimed_at" if settings.claimed and not settings.claimed_at else "",
)

_DETAIL: Final = Spec(
    "details",
    "Rows that belong to a row: read for a whole page at once and put into its message.",
    [
        Option("table", TABLE, "their table"),
        Option("select", TEXT, "or a SELECT; with `IN :keys` it gets the keys of a page where it wants them, otherwise it is wrapped"),
        Option("by", MapOf(COLUMN), "their column: the row's column that it refers to", required=True),
        Option("order", ListOf(COLUMN), "columns in whose order they stand; default: as the database gives them", default=[]),
        Option("columns", ListOf(COLUMN), "only these; default: all", default=[]),
    ],
    check=lambda settings: "" if bool(settings.table) != bool(settings.select) else "needs either table or select",
)

_PROCEDURE: Final = Spec(
    "procedure",
    "A stored procedure or function that gives rows.",
    [
        Option("name", TABLE, "its name", required=True),
        Option("arguments", ListOf(TEXT), "what it is called with: :watermark, :key, :limit, or a value", default=[]),
        Option("returns", choice("table", "result"), "table: selected from (PostgreSQL, Oracle); result: called, gives a result set "
               "(MariaDB, SQL Server). Default: what is usual for the database"),
    ],
    scalar="name",
)  # fmt: skip

_PARAMETER: Final = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")


def parameters(select: str) -> set[str]:
    """The names that a statement has bound values for."""
    return set(_PARAMETER.findall(select))


def _fitting(settings: Settings) -> str:
    given = [name for name in ("table", "select", "select_file", "procedure") if settings[name]]
    if len(given) != 1:
        return "needs exactly one of table, select, select_file, procedure"
    if settings.watermark and settings.status:
        return "has both watermark and status"
    if settings.table and not (settings.watermark or settings.status):
        return "a table is read by watermark or by status"
    if settings.status and not settings.table:
        return "status needs table: it is written back there"
    if not settings.table and not settings.key:
        return "needs key: which columns tell one row from another"
    if settings.columns and not settings.table:
        return "columns is for table; a select says its own"
    if settings.confirm and (settings.watermark or settings.status):
        return "confirm is for what is read without watermark and status"
    if not settings.table and not settings.watermark and not settings.confirm and settings.procedure is None:
        return "a select needs watermark or confirm; without them all of its rows would come again with every poll"
    return _watermark_fitting(settings) if settings.watermark else ""


def _watermark_fitting(settings: Settings) -> str:
    if settings.connection.url.get_backend_name() == "mssql" and settings.watermark.overlap < 0.004:
        return "SQL Server rounds datetimes to 3.33 ms: overlap must be longer"
    if (
        settings.watermark.start is None
        and settings.select
        and {"watermark"} <= parameters(settings.select)
        and "key" not in parameters(settings.select)
    ):
        return "a select with :watermark needs watermark.start: nothing is compared with it before the first row"
    return ""


SOURCE: Final = Spec(
    "database source",
    "Polls a table, a SELECT or a procedure; each row, with its details, becomes one message (application/rows+json). It reads in short "
    "read-only transactions of limited size and time, and locks nothing.",
    [
        Option("connection", CONNECTION, "how the database is reached", required=True),
        Option("name", TEXT, "what the database is called in messages (`origin`); default: the channel"),
        Option("table", TABLE, "the table or view that is read"),
        Option("select", TEXT, "or a SELECT; :watermark, :key (:key2 …) and :limit are bound. With :key it keeps order and limit itself, "
               "otherwise it is wrapped"),
        Option("select_file", TEXT, "or the file with it, relative to the site"),
        Option("procedure", _PROCEDURE, "or a procedure"),
        Option("as_table", TEXT, "what a select or procedure is called in messages (`table`); default: its name"),
        Option("columns", ListOf(COLUMN), "only these columns of the table; default: all", default=[]),
        Option("key", ListOf(COLUMN), "the columns that tell one row from another; default: the table's primary key or unique index",
               default=[]),
        Option("watermark", _WATERMARK, "read by watermark"),
        Option("status", _STATUS, "read by a status column"),
        Option("confirm", TEXT, "a statement run for each row whose message is kept; the row's columns are bound by their names"),
        Option("details", MapOf(_DETAIL), "name: rows that belong to a row", default={}),
        Option("poll", DURATION, "how often it looks", default="10s"),
        Option("limit", integer(1, 10000), "rows read at once", default=500),
        Option("isolation", choice("repeatable read", "read committed"), "of the reading transaction", default="repeatable read"),
        Option("zone", ZONE, "time zone of datetimes without one; default: they stay local"),
        Option("charset", MapOf(CHARSET), "column: the character set that its bytes really have; `all` for every column of text",
               default={}),
        Option("padding", choice("keep", "strip"), "of CHAR columns: whether the blanks at their end belong to the text", default="keep"),
        Option("message_type", choice("table", "table:change"), "what messages are called", default="table"),
        Option("patient_ids", ListOf(COLUMN), "columns with the patient's identifiers", default=[]),
        Option("server", TEXT, "after a failover: the server that an operator has confirmed, as the alarm called it; with "
               "watermark.start it is read from there. To be taken out again once its rows have caught up"),
        Option("retry_most", DURATION, "longest wait after failures", default="1m"),
    ],
    check=_fitting,
)  # fmt: skip
