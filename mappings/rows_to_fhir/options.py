"""What a rules file may say (SITE/mappings/rows-to-fhir/NAME.yaml)."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any, Final

from engine.formats.rows import CHANGES
from engine.options import TEXT, ZONE, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice
from mappings.rows_to_fhir.definitions import resource_types


def _source(raw: Any) -> str:
    """Constants that YAML does not take for text."""
    if isinstance(raw, bool):
        return "=true" if raw else "=false"
    return str(TEXT.read(raw))


def _format(raw: Any) -> str:
    """One that reads again what it has written."""
    text = str(TEXT.read(raw))
    try:
        read = datetime.strptime(_SOME_TIME.strftime(text), text)  # noqa: DTZ007  only its parts are looked at
    except ValueError:
        read = None
    parts = (read.year % 100, read.month, read.day) if read is not None else ()
    if read is None or (parts != (_SOME_TIME.year % 100, _SOME_TIME.month, _SOME_TIME.day) and not read.time() != time.min):
        raise Faulty(
            f"{text!r} does not say year, month and day, or a time, as Python's strptime has them",
            "such as %d.%m.%Y, %Y%m%d %H:%M, %H:%M:%S",
        )
    return text


_SOME_TIME: Final = datetime(2011, 12, 30, 21, 43, 58, tzinfo=UTC)
_FORMAT: Final = Kind("format", "as Python's strptime has it: %d.%m.%Y", _format, {"type": "string", "pattern": "%"})
_FROM: Final = Kind(
    "source", 'a column | text with ${column} | =constant | =SYSTEM#code "display"', _source, {"type": ["string", "boolean"]}
)


def _one_source(settings: Settings) -> str:
    if (settings["from"] is None) == (settings.to is None):
        return "needs either from or to"
    return "" if settings.lookup is None or settings["from"] is not None else "lookup is for what comes from a column"


ELEMENT: Final = Spec(
    "element",
    "What an element is made of.",
    [
        Option("from", _FROM, "a column of the row (with `each`, of the detail; then row.NAME is the row's), text with ${column}, or a "
               "constant"),
        Option("to", TEXT, "or a reference to the resource of that name in this file"),
        Option("when", TEXT, "only where this holds, such as: status in (F, C) and value valued"),
        Option("each", TEXT, "repeat it for each of these details, inside one resource (component[x].…)"),
        Option("codes", TEXT, "the code table that translates it: codes/NAME.csv, or one that is shipped"),
        Option("lookup", TEXT, "look it up first: LOOKUP.COLUMN"),
        Option("system", TEXT, "system of an identifier, a coding, a unit or a contact"),
        Option("authority", TEXT, "who assigns an identifier, as HL7 v2 has it in PID-3.4; with the facility it becomes the same system"),
        Option("type", TEXT, "type of an identifier (HL7 table 0203), as in PID-3.5"),
        Option("use", TEXT, "use of a name, an identifier or a contact"),
        Option("display", TEXT, "the column with what a code is called"),
        Option("unit", TEXT, "the column with the unit of a quantity, or =unit"),
        Option("zone", ZONE, "time zone of a time that says none; default: the file's"),
        Option("format", _FORMAT, "how a date is written where it is neither ISO 8601 nor digits, as Python's strptime has it: %d.%m.%Y"),
    ],
    scalar="from",
    check=_one_source,
)  # fmt: skip

RESOURCE: Final = Spec(
    "resource",
    "One resource of each row, or of each of its details.",
    [
        Option("resource", choice(*resource_types()), "its type", required=True),
        Option("each", TEXT, "one for each of these details"),
        Option("when", TEXT, "only where this holds"),
        Option("key", ListOf(TEXT), "columns that identify it, where it has no identifier of its own with a system", default=[]),
        Option("write", choice("put", "create"), "put: it replaces what the receiver has; create: only where it has none", default="put"),
        Option("set", MapOf(ListOf(ELEMENT)), "element: what it is made of", required=True),
    ],
)

LOOKUP: Final = Spec(
    "lookup",
    "A table of the site: a CSV file with a heading, beside the rules.",
    [
        Option("file", TEXT, "the file", required=True),
        Option("key", TEXT, "the column in which is looked up; default: the first"),
    ],
    scalar="file",
)

OBJECTS: Final = Spec(
    "json",
    "Any JSON object that is received (over HTTP, in a file) as a row: member.member is a column, an array of objects is details.",
    [
        Option("when", MapOf(TEXT), "column: what it says, for objects of more than one kind; default: every object", default={}),
        Option("row", TEXT, "the member that has the row, such as data.object; default: the whole object"),
        Option("key", ListOf(TEXT), "columns of the whole object that identify it", default=[]),
    ],
)

RULES: Final = Spec(
    "rules",
    "FHIR resources of the rows of a table.",
    [
        Option("table", ListOf(TEXT), "the table (or tables) as messages call it", required=True),
        Option("json", OBJECTS, "these rules are for JSON objects too; {} for all"),
        Option("changes", ListOf(choice(*CHANGES)), "which changes are mapped; others are refused",
               default=["read", "insert", "update", "snapshot"]),
        Option("facility", TEXT, "whose rows these are, as HL7 v2 has it in MSH-4", default=""),
        Option("sender", TEXT, "the system that they are from, as in MSH-3; default: the name of the database"),
        Option("zone", ZONE, "time zone of times that say none"),
        Option("columns", ListOf(TEXT), "the columns that there are (details' as items.code), so that a wrong name is found at once; "
               "default: any", default=[]),
        Option("lookups", MapOf(LOOKUP), "tables to look things up in", default={}),
        Option("resources", MapOf(RESOURCE), "name: a resource", required=True),
    ],
)  # fmt: skip
