"""What a channel file may say of the destination `fhir_tables`."""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.database.options import CONNECTION
from engine.options import DURATION, FLAG, ZONE, Faulty, Kind, Option, Settings, Spec, integer


def _schema(raw: Any) -> str:
    if not isinstance(raw, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", raw):
        raise Faulty(f"{raw!r} is not the name of a schema")
    return raw


SCHEMA: Final = Kind("schema", "a name of letters, digits and _", _schema, {"type": "string"})


def _fitting(settings: Settings) -> str:
    backend = settings.connection.url.get_backend_name()
    if backend not in ("postgresql", "mysql", "sqlite"):
        return "resources are landed in PostgreSQL, MariaDB or SQLite"
    if settings.schema and backend != "postgresql":
        return "only PostgreSQL has schemas; the url of the connection names the database"
    return ""


KEEP: Final = Spec(
    "keep",
    "How long is kept what was landed; the resources as they are now are kept for ever. Nothing goes that an export has not passed.",
    [
        Option("versions", DURATION, "versions of resources that are no longer current; default: for ever"),
        Option("messages", DURATION, "landed_message, by which a repetition is known: no message may come again later than this; "
               "default: for ever"),
        Option("without_export", FLAG, "delete also where no `meridian export` with that table has been made", default=False),
    ],
    check=lambda settings: "" if settings.versions or settings.messages else "says neither versions nor messages",
)  # fmt: skip

DESTINATION: Final = Spec(
    "fhir_tables",
    "Lands FHIR resources in relational tables: columns for what is asked for often, the whole JSON beside them, all versions.",
    [
        Option("connection", CONNECTION, "the database", required=True),
        Option("schema", SCHEMA, "PostgreSQL: the schema of the tables, made where it is not there; default: that of the user"),
        Option("zone", ZONE, "the zone of dates and times that name none, and of the days that messages are counted by", default="UTC"),
        Option("group", integer(1, 512), "parcels that are written in one transaction at most", default=64),
        Option("keep", KEEP, "how long versions and messages are kept; default: for ever"),
        Option("migrate", FLAG, "make and change the tables by itself; false: wait until somebody has", default=True),
    ],
    check=_fitting,
)
