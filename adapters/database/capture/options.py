"""What a channel file may say under `source: database_capture:`."""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.database.options import COLUMN, CONNECTION, TABLE
from adapters.database.polling.options import CHARSET
from engine.options import DURATION, FLAG, SIZE, TEXT, ZONE, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice, integer

_WORD: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def _word(raw: Any) -> str:
    if not isinstance(raw, str) or not _WORD.fullmatch(raw):
        raise Faulty(f"{raw!r} is not made of small letters, digits and _", "such as meridian_lab")
    return raw


_NAME: Final = Kind("slot name", "small letters, digits and _, such as meridian_lab", _word, {"type": "string"})
OPERATIONS: Final = ("insert", "update", "delete", "truncate")

_TABLE: Final = Spec(
    "tables",
    "A table whose changes are captured.",
    [
        Option("name", TABLE, "the table, with its schema: lab.result", required=True),
        Option("columns", ListOf(COLUMN), "only these columns are in messages; default: all", default=[]),
        Option("key", ListOf(COLUMN), "the columns that tell one row from another; default: the table's primary key or unique index",
               default=[]),
        Option("charset", MapOf(CHARSET), "column: the character set that its bytes really have", default={}),
        Option("patient_ids", ListOf(COLUMN), "columns with the patient's identifiers", default=[]),
    ],
    scalar="name",
)  # fmt: skip


def _fitting(settings: Settings) -> str:
    backend = settings.connection.url.get_backend_name()
    names = [table.name for table in settings.tables]
    if backend not in ("postgresql", "mysql"):
        return f"changes of {backend} cannot be captured: only those of PostgreSQL, MariaDB and MySQL"
    if not names or len(set(names)) != len(names):
        return "needs tables, each of them once"
    if settings.connection.pool < 2:
        return "needs a pool of 2: one connection reads the first state while another looks after the log"
    if backend == "mysql" and (settings.slot or settings.publication):
        return "slot and publication are PostgreSQL's"
    return ""


SOURCE: Final = Spec(
    "database capture",
    "Captures changes out of the database's log: PostgreSQL's logical decoding (pgoutput), MariaDB's and MySQL's binary log in row format. "
    "One message is one changed row (application/rows+json), never joined with details: the log has none. Begins with the rows that are "
    "there already, and goes on without gap or repetition.",
    [
        Option("connection", CONNECTION, "how the database is reached", required=True),
        Option("name", TEXT, "what the database is called in messages (`origin`); default: the channel"),
        Option("tables", ListOf(_TABLE), "the tables", required=True),
        Option("operations", ListOf(choice(*OPERATIONS)), "changes that become messages", default=list(OPERATIONS)),
        Option("snapshot", choice("initial", "never"), "initial: the rows that are there when the capture begins come first",
               default="initial"),
        Option("create", FLAG, "publication and slot of PostgreSQL are created where they are missing; no: an administrator does it, or "
               "`meridian db check --create`", default=True),
        Option("publication", _NAME, "PostgreSQL's publication; default: meridian_ and the channel"),
        Option("slot", _NAME, "PostgreSQL's replication slot; default: meridian_ and the channel"),
        Option("server_id", integer(1, 4294967295), "as which replica we read the binary log; default: made of node and channel"),
        Option("limit", integer(1, 10000), "changes handed in at once; of a long transaction no more are ever in memory", default=500),
        Option("heartbeat", DURATION, "how often the log is let go while only other tables are busy", default="10s"),
        Option("most_behind", SIZE, "alarm when the database keeps more of its log for us than this. PostgreSQL's max_slot_wal_keep_size "
               "should be larger, and not unlimited: beyond it the slot is lost rather than the disk full", default="1GB"),
        Option("begin_again", TEXT, "after an alarm that the log cannot be read on: the position that it named. The capture begins again "
               "there with a new snapshot; rows come again, and what was deleted in between is not told"),
        Option("zone", ZONE, "time zone of datetimes without one; default: they stay local"),
        Option("padding", choice("keep", "strip"), "of CHAR columns: whether the blanks at their end belong to the text", default="keep"),
        Option("message_type", choice("table", "table:change"), "what messages are called", default="table"),
        Option("retry_most", DURATION, "longest wait after failures", default="10s"),
    ],
    check=_fitting,
)  # fmt: skip
