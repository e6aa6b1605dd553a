"""What `meridian db check` looks at in more than one place: who answers, in which character set, and whether a statement could run.

Whether a statement could run is asked with EXPLAIN: the database looks up tables, columns, unique keys and rights as if it ran it, and
changes nothing. Values are all NULL, so that what the database says of it holds none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.errors import Meaning, sort
from adapters.database.findings import Finding
from adapters.database.polling.server import server_of
from adapters.database.tables import split
from adapters.database.urls import UNPROVEN, engine_text
from engine.errors import MeridianError

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

EXPLAINED: Final = {
    "postgresql": ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES"),
    "mysql": ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"),
    "sqlite": ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES"),
}
"""By dialect, what EXPLAIN takes."""
_VALUES_NEEDED: Final = ("42P18", "42725")
"""PostgreSQL cannot tell the type of a NULL of ours: with a value it could."""


def reached(connection: Connection) -> Finding:
    version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
    return Finding("reach", "fine", f"{connection.dialect.name} {version} at {engine_text(connection.engine)}: {server_of(connection)}")


def proven(backend: str) -> Iterator[Finding]:
    if backend in UNPROVEN:
        yield Finding("proof", "warning", f"{backend}: its statements are tested as text, not against a live server")


def destination(make: Callable[[], Engine], looks: Callable[[Engine], Iterator[Finding]]) -> list[Finding]:
    """Every finding; what cannot be looked at because something before it failed is left out."""
    found: list[Finding] = []
    try:
        engine = make()
    except MeridianError as error:
        return [Finding("reach", "fault", str(error))]
    try:
        found.extend(proven(engine.dialect.name))
        with engine.connect() as connection:
            found.append(reached(connection))
        found.extend(looks(engine))
    except SQLAlchemyError as error:
        found.append(_broken(error))
    finally:
        engine.dispose()
    return found


def _broken(error: SQLAlchemyError) -> Finding:
    if sort(error).meaning is Meaning.SETUP:
        return Finding("rights", "fault", f"the database does not let this user look: {_words(error)}; give it the right to select")
    return Finding("reach", "fault", f"{sort(error).text}; look at url, user, password and tls of the connection")


def absent_file(options: Settings, context: Context) -> Path | None:
    """The file of SQLite that is not there yet: to connect would make it."""
    url = options.connection.url
    file: Path | None = context.site / url.database if url.get_backend_name() == "sqlite" else None
    return None if file is None or file.exists() else file


# --- character sets --------------------------------------------------------------------------------


def charsets(connection: Connection, table: str) -> Mapping[str, str]:
    """Column -> character set, of a table of MariaDB."""
    statement = sa.text("SELECT column_name, character_set_name FROM information_schema.columns WHERE table_schema = "
                        "coalesce(:schema, database()) AND table_name = :table AND character_set_name IS NOT NULL")  # fmt: skip
    schema, name = split(table)
    return {row[0]: row[1] for row in connection.execute(statement, {"schema": schema, "table": name})}


def written_text(connection: Connection) -> Iterator[Finding]:
    """What becomes of text that is written."""
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding == "UTF8":
            yield Finding("charset", "fine", "the database's encoding is UTF8")
        elif encoding == "SQL_ASCII":
            yield Finding("charset", "warning", "the database's encoding is SQL_ASCII: it checks no bytes, and gets UTF-8")
        else:
            text = f"the database's encoding is {encoding}: a message with a character that it lacks is a dead letter"
            yield Finding("charset", "warning", text)
    if connection.dialect.name == "mysql" and "STRICT_" not in str(connection.exec_driver_sql("SELECT @@SESSION.sql_mode").scalar_one()):
        text = "values that do not fit are cut without a word: say session: {sql_mode: STRICT_TRANS_TABLES} under connection"
        yield Finding("strictness", "warning", text)


# --- whether a statement could run -----------------------------------------------------------------


def refusal(engine: Engine, statement: Any, names: Sequence[str] | None = None) -> Finding | None:
    """None where it could run; else a finding without a subject: a fault, or a warning where only a run with values would tell. `names`
    are the columns of an INSERT or UPDATE. Raises SQLAlchemyError where the database does not answer."""
    compiled = statement.compile(dialect=engine.dialect, column_keys=names, compile_kwargs={"render_postcompile": True})
    given = dict.fromkeys(compiled.params)
    values = tuple(given[name] for name in compiled.positiontup) if compiled.positiontup is not None else given
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"EXPLAIN {compiled}", values)
    except SQLAlchemyError as error:
        found = sort(error)
        if found.meaning in (Meaning.DOWN, Meaning.UNCERTAIN):
            raise
        sure = found.meaning is Meaning.SETUP and found.code not in _VALUES_NEEDED
        words = _words(error)
        return Finding("", "fault", words) if sure else Finding("", "warning", f"not known before it runs with values: {words}")
    return None


def _words(error: SQLAlchemyError) -> str:
    """The database's own, of a statement without values: which right on which table."""
    driver: Any = getattr(error, "orig", None)
    diagnosis = getattr(driver, "diag", None)
    said = diagnosis.message_primary if diagnosis is not None else str(driver.args[-1]) if driver is not None and driver.args else ""
    return f"{said or sort(error).said} ({sort(error).code})"


def refused(engine: Engine, statements: Mapping[str, tuple[Any, Sequence[str] | None]]) -> dict[str, str]:
    """Right -> what the database says, of those of `statements` (right -> statement, columns) that it refuses."""
    found = {right: refusal(engine, statement, names) for right, (statement, names) in statements.items()}
    return {right: finding.text for right, finding in found.items() if finding is not None and finding.state == "fault"}


def grant(engine: Engine, rights: Iterable[str], table: str) -> str:
    """The statement with which an administrator gives this user rights on a table."""
    with engine.connect() as connection:
        quote = connection.dialect.identifier_preparer.quote
        if connection.dialect.name == "mysql":
            user = "@".join(f"'{part}'" for part in str(connection.exec_driver_sql("SELECT current_user()").scalar_one()).rsplit("@", 1))
        else:
            user = quote(str(connection.exec_driver_sql("SELECT current_user").scalar_one()))
        named = ".".join(quote(part) for part in split(table) if part)
        return f"GRANT {', '.join(rights)} ON {named} TO {user}"


def may_create(connection: Connection, schema: str | None) -> bool | None:
    """Whether this user may make tables; None where that cannot be told."""
    if connection.dialect.name == "sqlite":
        return True
    if connection.dialect.name == "postgresql":
        asked = sa.text("SELECT has_schema_privilege(coalesce(:schema, current_schema()), 'CREATE')")
        return bool(connection.execute(asked, {"schema": schema}).scalar())
    if connection.dialect.name != "mysql":
        return None
    asked = sa.text(
        "SELECT count(*) FROM (SELECT privilege_type FROM information_schema.user_privileges UNION ALL "
        "SELECT privilege_type FROM information_schema.schema_privileges WHERE coalesce(:schema, database()) LIKE table_schema) AS rights "
        "WHERE privilege_type = 'CREATE'"
    )
    return bool(connection.execute(asked, {"schema": schema}).scalar()) or None  # a role's rights are not among them
