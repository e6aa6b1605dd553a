"""What a channel file may say under `database` of a destination, and what is wrong about it before a message comes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from adapters.database.options import COLUMN, CONNECTION, TABLE
from adapters.database.statements.binding import BINDING, REPEAT, check_names
from adapters.database.statements.sql import checked, parameters
from engine import templates
from engine.expressions import ExpressionError, Predicate, compile_predicate
from engine.options import DURATION, FLAG, TEXT, ZONE, Faulty, Kind, ListOf, MapOf, Option, Place, Settings, Spec, choice, integer

_NOT_KNOWN_HERE: Final = re.compile(r"\bmessage\.(sender|peer|remote)\b")


def _statement(raw: Any) -> str:
    """SQL, or the name of a file with it."""
    text = str(TEXT.read(raw))
    return text if text.endswith(".sql") and "\n" not in text else checked(text)


def _statement_of_site(value: str, place: Place) -> str:
    if not value.endswith(".sql") or "\n" in value:
        return value
    file = (place.folder or Path()) / value
    try:
        return checked(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Faulty(f"cannot read {value}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    except Faulty as faulty:
        raise Faulty(f"{value}: {faulty.text}") from None


def _predicate(raw: Any) -> Predicate:
    try:
        found = compile_predicate(str(raw))
    except ExpressionError as error:
        raise Faulty(str(error), nearest=error.nearest) from None
    if unknown := _NOT_KNOWN_HERE.search(found.source):
        raise Faulty(f"a destination does not know message.{unknown[1]}; say it in the destination's `when`")
    return found


def _each(raw: Any) -> str:
    path = str(TEXT.read(raw))
    if not path.endswith(REPEAT) or path.count(REPEAT) != 1:
        raise Faulty(f"{path!r} does not end in {REPEAT}", f"OBX{REPEAT}, details.items{REPEAT}, entry{REPEAT}")
    return path


STATEMENT_TEXT: Final = Kind(
    "statement", "one SQL statement with :parameters | FILE.sql", _statement, {"type": "string"}, _statement_of_site
)
PREDICATE: Final = Kind("expression", "an expression such as message.type == 'ORU^R01'", _predicate, {"type": "string"})
EACH: Final = Kind("path", f"a path that ends in {REPEAT}", _each, {"type": "string"})


def _nearest(word: str, among: Iterable[str]) -> str:
    nearest = get_close_matches(word, list(among), 1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def _statement_faults(settings: Settings) -> str:
    if sum(1 for name in ("run", "upsert", "procedure") if settings[name]) != 1:
        return "needs exactly one of run, upsert, procedure"
    given = settings["with"]
    if settings.run:
        try:
            bound = parameters(settings.run)
        except Faulty as faulty:
            return faulty.text
        for name in bound:
            if name not in given:
                return f"binds :{name}, which `with` does not say{_nearest(name, given)}"
        for name in given:
            if name not in bound:
                return f"`with` says {name!r}, which the statement does not bind{_nearest(name, bound)}"
    return _upsert_faults(settings) if settings.upsert else _other_faults(settings)


def _upsert_faults(settings: Settings) -> str:
    given = settings["with"]
    if not settings.key:
        return "an upsert needs key: the columns of a unique index, by which a row is known again"
    for name in [*settings.key, *settings.keep]:
        if name not in given:
            return f"`with` does not say the column {name!r}{_nearest(name, given)}"
    for name in given:
        try:
            COLUMN.read(name)
        except Faulty as faulty:
            return faulty.text
    if settings.touches != "any":
        return "touches is for statements and procedures: an upsert touches its row always"
    return "an upsert gives no rows" if settings.answer or settings.returns else ""


def _other_faults(settings: Settings) -> str:
    if settings.key or settings.keep:
        return "key and keep are for an upsert"
    if wrong := next((name for name in settings["with"] if not re.fullmatch(r"\w+", name)), None):
        return f"{wrong!r} cannot be the name of a parameter"
    if settings.returns and not settings.procedure:
        return "returns is for a procedure"
    return "a statement whose rows are the answer runs once, not for each of several" if settings.answer and settings.each else ""


STATEMENT: Final = Spec(
    "statement",
    "One statement, upsert or procedure. Values are bound as parameters, never put into the text.",
    [
        Option("run", STATEMENT_TEXT, "a statement; :name in it is bound to what `with` says of that name"),
        Option("upsert", TABLE, "or a table: the row with this key is inserted, or updated where it is there"),
        Option("procedure", TABLE, "or a stored procedure or function; `with` are its arguments, in this order"),
        Option("returns", choice("nothing", "table", "result"), "of a procedure. nothing: called; table: a function, selected from "
               "(PostgreSQL, Oracle); result: called, gives a result set (MariaDB, SQL Server). Default: nothing"),
        Option("key", ListOf(COLUMN), "of an upsert: the columns of a unique index", default=[]),
        Option("keep", ListOf(COLUMN), "of an upsert: columns that keep their value where the row is there already", default=[]),
        Option("with", MapOf(BINDING), "parameter or column: what it gets", default={}),
        Option("each", EACH, f"run it for each of these; {REPEAT} in paths is the one at hand"),
        Option("when", ListOf(PREDICATE), "only where all of these hold; with `each`, for those of which they hold", default=[]),
        Option("touches", choice("any", "some", "one"), "how many rows it must touch; else the message is a dead letter, and nothing of it "
               "is written", default="any"),
        Option("answer", FLAG, "the rows that it gives are the answer (`answer: from …` of the channel), as a record", default=False),
    ],
    check=_statement_faults,
)  # fmt: skip

OUTBOX: Final = Spec(
    "outbox",
    "A table with the keys of the messages whose statements were committed, written in the same transaction.",
    [
        Option("table", TABLE, "its name", default="meridian_outbox"),
        Option("create", FLAG, "make it where it is not there; needs the right to", default=False),
        Option("keep", DURATION, "how long keys are kept; no message may come again later than this", default="90d"),
    ],
    scalar="table",
)


def statements_of(settings: Settings) -> Iterator[tuple[int, Settings]]:
    """Each with its number, as a person counts."""
    return enumerate(settings.statements, 1)


def _faults(settings: Settings) -> str:
    if not settings.statements:
        return "needs statements"
    for number, one in statements_of(settings):
        try:
            check_names(one["with"], settings.tables, repeated=one.each is not None)
        except Faulty as faulty:
            return f"statement {number}: {faulty.text}" + (f"; allowed: {faulty.allowed}" if faulty.allowed else "")
        if one.each is None and any(REPEAT in path for when in one.when for path in when.paths):
            return f"statement {number}: {REPEAT} stands for what `each` goes through; there is no each"
        if not (one.upsert or settings.outbox or settings.repeatable):
            return (
                f"statement {number} would run again when a message comes again: keep an `outbox`, or say `repeatable: true` where "
                "running it twice changes nothing"
            )
    if sum(one.answer for one in settings.statements) > 1:
        return "only one statement can be the answer"
    if settings.writers > settings.connection.pool:
        return f"{settings.writers} writers need as many connections: connection.pool is {settings.connection.pool}"
    if settings.connection.url.get_backend_name() == "sqlite" and settings.writers > 1:
        return "a file of sqlite has one writer"
    return ""


DESTINATION: Final = Spec(
    "database destination",
    "Runs statements with each message's values, in one transaction per message; messages that wait together share a transaction.",
    [
        Option("connection", CONNECTION, "how the database is reached", required=True),
        Option("name", TEXT, "what the database is called in answers (`origin`); default: the destination"),
        Option("statements", ListOf(STATEMENT), "what is run, in this order", required=True),
        Option("tables", MapOf(templates.TABLE), "tables for ${tables.NAME}", default={}),
        Option(
            "zone", ZONE, "the local time zone of datetimes that say none, and of columns without one; default: such values are refused"
        ),
        Option("outbox", OUTBOX, "keep the keys of what was committed, so that a message that comes again changes nothing"),
        Option("repeatable", FLAG, "without an outbox: running the statements twice changes nothing", default=False),
        Option("batch", integer(1, 1000), "messages in one transaction at most", default=100),
        Option("writers", integer(1, 16), "transactions at once", default=1),
        Option("isolation", choice("read committed", "repeatable read", "serializable"), "of the transactions", default="read committed"),
    ],
    check=_faults,
)


def content_paths(settings: Settings) -> Iterator[tuple[int, str]]:
    """engine.contracts.LookingInto."""
    for table in settings.tables.values():
        yield from ((table.lines.get("of", 0), path) for path in templates.paths_in(templates.names_in([table.of])))
    for _, one in statements_of(settings):
        line = one.lines.get("with", 0)
        if one.each is not None:
            yield one.lines.get("each", line), one.each
        for settings_of in one["with"].values():
            names = templates.names_in([settings_of.value]) if isinstance(settings_of.value, str) else ()
            line = settings_of.lines.get("value", 0) or line
            yield from ((line, path) for path in templates.paths_in(names))
        yield from ((one.lines.get("when", line), path) for when in one.when for path in when.paths)
