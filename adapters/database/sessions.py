"""What each new session of a database is told: timeouts, time zone, forms of values; and how its driver reads what Python cannot hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from engine.formats.rows import Odd

if TYPE_CHECKING:
    from engine.options import Settings

_SETTING: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


class Undecodable:
    """Text whose bytes are not what its character set says. Never replaced, never guessed."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content


def prepare(backend: str, connection: Any, options: Settings) -> None:
    """Called by SQLAlchemy with the driver's connection, once for each."""
    _PREPARE[backend](connection, options)


def _run(connection: Any, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
    cursor = connection.cursor()
    try:
        for statement, values in statements:
            cursor.execute(statement, values) if values else cursor.execute(statement)
    finally:
        cursor.close()


# --- PostgreSQL ----------------------------------------------------------------------------------


def _postgresql(connection: Any, options: Settings) -> None:
    held, connection.autocommit = connection.autocommit, True
    settings = {
        "statement_timeout": str(int(options.statement_timeout * 1000)),
        "lock_timeout": str(int(options.lock_timeout * 1000)),
        "idle_in_transaction_session_timeout": str(int((options.statement_timeout + options.lock_timeout) * 1000)),
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "1",
        **options.session,
    }
    if not options.charset and connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        settings["client_encoding"] = "SQL_ASCII"  # its bytes are whatever was put in; one that is no UTF-8 would fail the whole page
    _run(connection, [("SELECT set_config(%s, %s, false)", pair) for pair in settings.items()])
    connection.autocommit = held
    _read_exactly(connection)


def _read_exactly(connection: Any) -> None:
    """psycopg raises for what Python's dates cannot hold, which would lose the whole page, and makes 30 days of a month."""
    from psycopg.types.datetime import DateLoader, TimeLoader, TimestampLoader, TimestamptzLoader, TimetzLoader
    from psycopg.types.string import TextLoader

    for of in (DateLoader, TimeLoader, TimetzLoader, TimestampLoader, TimestamptzLoader):
        connection.adapters.register_loader(of.__name__.removesuffix("Loader").lower(), _tolerant(of))
    for as_text in (
        "interval",
        *(f"{of}{kind}" for of in ("int4", "int8", "num", "ts", "tstz", "date") for kind in ("range", "multirange")),
    ):
        connection.adapters.register_loader(as_text, TextLoader)
    for text in ("text", "varchar", "bpchar", "name", '"char"'):
        connection.adapters.register_loader(text, _text_loader())


def _tolerant(loader: type[Any]) -> type[Any]:
    from psycopg import DataError

    class Tolerant(loader):  # type: ignore[misc]
        def load(self, data: Any) -> Any:
            try:
                return super().load(data)
            except DataError:
                return Odd(bytes(data).decode("ascii", "replace"))

    return Tolerant


def _text_loader() -> type[Any]:
    from psycopg.adapt import Loader

    class Text(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            found = context.connection.info.encoding if context and context.connection else "utf-8"
            self._encoding = "utf-8" if found == "ascii" else found

        def load(self, data: Any) -> Any:
            try:
                return bytes(data).decode(self._encoding)
            except UnicodeDecodeError:
                return Undecodable(bytes(data))

    return Text


# --- MariaDB and MySQL ---------------------------------------------------------------------------


def _mysql(connection: Any, options: Settings) -> None:
    """A timestamp is an instant and comes in UTC; a datetime is as it was written."""
    mariadb = "MariaDB" in connection.get_server_info()
    limit = ("max_statement_time", options.statement_timeout) if mariadb else ("max_execution_time", int(options.statement_timeout * 1000))
    seconds = max(1, round(options.lock_timeout))
    settings: dict[str, Any] = {
        limit[0]: limit[1],
        "lock_wait_timeout": seconds,
        "innodb_lock_wait_timeout": seconds,
        "time_zone": "+00:00",
        **{name: _number(value) for name, value in options.session.items()},
    }
    _run(connection, [(f"SET SESSION {_named(name)} = %s", (value,)) for name, value in settings.items()])
    connection.decoders = {**connection.decoders, **{code: _odd(of) for code, of in connection.decoders.items() if code in (7, 10, 12)}}


def _odd(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """pymysql gives the text of a date that is none (0000-00-00, 2024-02-00)."""

    def read(text: Any) -> Any:
        found = convert(text)
        return Odd(found) if isinstance(found, str) else found

    return read


def _number(value: str) -> Any:
    return int(value) if value.lstrip("-").isdigit() else value


def _named(name: str) -> str:
    """A setting's name cannot be bound; it comes from the site's own file, and is a plain word."""
    if not _SETTING.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a session setting")
    return name


# --- SQLite --------------------------------------------------------------------------------------


def _sqlite(connection: Any, options: Settings) -> None:
    connection.text_factory = _sqlite_text
    _run(connection, [("PRAGMA foreign_keys = ON", ())])
    _run(
        connection,
        [(f"PRAGMA {_named(name)} = {_named(value) if not value.isdigit() else value}", ()) for name, value in options.session.items()],
    )


def _sqlite_text(content: bytes) -> Any:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return Undecodable(content)


# --- SQL Server and Oracle: unproven against a live server -------------------------------------------


def _mssql(connection: Any, options: Settings) -> None:
    _run(connection, [(f"SET LOCK_TIMEOUT {int(options.lock_timeout * 1000)}", ())])
    _run(
        connection,
        [(f"SET {_named(name)} {_named(value) if not value.isdigit() else value}", ()) for name, value in options.session.items()],
    )


def _oracle(connection: Any, options: Settings) -> None:
    connection.call_timeout = int(options.statement_timeout * 1000)
    _run(connection, [("ALTER SESSION SET TIME_ZONE = '+00:00'", ())])
    for name, value in options.session.items():
        if "'" in value:
            raise ValueError(f"the session setting {name} must not hold a quote")
        _run(connection, [(f"ALTER SESSION SET {_named(name)} = '{value}'", ())])


_PREPARE: Final[dict[str, Callable[[Any, Settings], None]]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "sqlite": _sqlite,
    "mssql": _mssql,
    "oracle": _oracle,
}
