"""Engines for the option `connection`: sessions with timeouts, exact types, TLS, and a bounded pool of threads for their statements."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.database.sessions import prepare
from engine.errors import ConfigError
from engine.formats.rows import exact

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from engine.contracts import Context
    from engine.options import Settings

ResultT = TypeVar("ResultT")
_RECYCLE_SECONDS: Final = 1800


def make_engine(options: Settings, context: Context, *, name: str = "") -> Engine:
    """An engine for the settings of CONNECTION. It connects with its first statement, in the thread that asks for it.

    Statements that fail show no values (`hide_parameters`). Every session has its timeouts and gives exact types: Decimal, aware
    datetimes in UTC where the column is an instant, JSON with the digits of its numbers, engine.formats.rows.Odd for what Python cannot
    hold. Raises ConfigError (the driver is not installed, the files of TLS are not there, the secret is not).
    """
    url: URL = options.url
    backend = url.get_backend_name()
    if backend == "sqlite":
        url = _file_of_site(url, context.site)
    elif options.user:
        url = url.set(username=options.user)
    arguments: dict[str, Any] = {"hide_parameters": True, "connect_args": _arguments(backend, options, context, name or context.name)}
    if backend != "sqlite":
        arguments.update(pool_size=options.pool, max_overflow=0, pool_timeout=options.connect_timeout, pool_pre_ping=True)
        arguments.update(pool_recycle=_RECYCLE_SECONDS)
    if backend in ("postgresql", "mysql"):
        arguments.update(json_deserializer=exact)
    try:
        engine = sqlalchemy.create_engine(url, **arguments)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{backend} needs the package {error.name!r}: pip install {_PACKAGES.get(backend, 'meridian[database]')}"
        ) from None
    event.listen(engine, "connect", lambda connection, _: prepare(backend, connection, options))
    if options.password is not None:  # read again for each connection, so that it may be changed while the node runs
        event.listen(engine, "do_connect", lambda _, __, ___, given: given.update(password=options.password.reveal()))
    if backend == "sqlite":
        _limit_statements(engine, options.statement_timeout)
    return engine


def driver_arguments(options: Settings, context: Context) -> dict[str, Any]:
    """What a connection is made with that is not SQLAlchemy's: host, user, password, time limits, TLS. Raises ConfigError."""
    url: URL = options.url
    known = {"host": url.host, "port": url.port, "user": options.user or url.username}
    known["dbname" if url.get_backend_name() == "postgresql" else "database"] = url.database
    if options.password is not None:
        known["password"] = options.password.reveal()
    arguments = {**_arguments(url.get_backend_name(), options, context, context.name), **dict(url.query)}
    return {**arguments, **{name: value for name, value in known.items() if value is not None}}


_PACKAGES: Final = {"mssql": "pymssql", "oracle": "oracledb"}


def _file_of_site(url: URL, site: Path) -> URL:
    if not url.database or url.database == ":memory:":
        raise ConfigError("a database of sqlite must be a file: sqlite:///lis.db")
    return url.set(database=str(site / url.database))


def _arguments(backend: str, options: Settings, context: Context, name: str) -> dict[str, Any]:
    """What the driver is told."""
    seconds = max(1, round(options.connect_timeout))
    network = options.statement_timeout + seconds + 5  # the database ends a statement; this is for one that answers no more
    match backend:
        case "postgresql":
            alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": int(network * 1000)}
            encoding = {"client_encoding": options.charset or "utf8"}
            application = {"application_name": f"meridian {name}"[:63]}
            return {"connect_timeout": seconds, **application, **alive, **encoding, **_libpq_tls(options, context)}
        case "mysql":
            limits = {"connect_timeout": seconds, "read_timeout": network, "write_timeout": network}
            return {"charset": options.charset or "utf8mb4", "program_name": f"meridian {name}", **limits, **_openssl(options, context)}
        case "mssql":
            return {"login_timeout": seconds, "timeout": max(1, round(options.statement_timeout)), "charset": options.charset or "UTF-8"}
        case "oracle":
            return {"tcp_connect_timeout": options.connect_timeout}
        case _:
            return {"timeout": options.lock_timeout, "check_same_thread": False}


def _libpq_tls(options: Settings, context: Context) -> dict[str, Any]:
    if options.tls is None:
        return {}
    tls, folder = options.tls, context.tls.folder
    found = {"sslmode": "verify-full" if tls.verify == "full" else "verify-ca", "sslrootcert": _there(folder / tls.ca)}
    if tls.certificate != "none":
        found |= {"sslcert": _there(folder / tls.certificate), "sslkey": _there(folder / tls.key)}
        if tls.key_passphrase is not None:
            found["sslpassword"] = tls.key_passphrase.reveal()
    return {**found, "ssl_min_protocol_version": "TLSv1.2"}


def _openssl(options: Settings, context: Context) -> dict[str, Any]:
    if options.tls is None:
        return {}
    tls, folder = options.tls, context.tls.folder
    made = ssl.create_default_context(cafile=_there(folder / tls.ca))
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = tls.verify == "full"
    if tls.certificate != "none":
        passphrase = tls.key_passphrase
        made.load_cert_chain(
            _there(folder / tls.certificate), _there(folder / tls.key), passphrase.reveal if passphrase is not None else None
        )
    return {"ssl": made}


def _there(file: Path) -> str:
    if not os.access(file, os.R_OK):
        raise ConfigError(f"cannot read {file}, which tls of a database names")
    return str(file)


def _limit_statements(engine: Engine, seconds: float) -> None:
    """SQLite runs in our own thread, so that the limit is ours to keep: it is asked every few thousand of its instructions."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(connection: Any, *_: Any) -> None:
        from time import monotonic

        until = monotonic() + seconds
        connection.connection.driver_connection.set_progress_handler(lambda: monotonic() > until, 20_000)


class Threads:
    """The threads in which one adapter's statements run, never more than `most`; with the engine they use."""

    def __init__(self, engine: Callable[[], Engine], context: Context, most: int) -> None:
        self._make, self._context = engine, context
        self._pool = ThreadPool(0, most, name=f"database {context.name}")
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Made when it is first asked for; only from a thread of these. Raises ConfigError."""
        with self._lock:
            if self._engine is None:
                self._engine = self._make()
            return self._engine

    def start(self) -> None:
        self._pool.start()

    def run(self, work: Callable[..., ResultT], *arguments: Any) -> Deferred[ResultT]:
        """Call `work` in a thread; fires with what it gives or fails with what it raises."""
        return deferToThreadPool(self._context.reactor, self._pool, work, *arguments)

    def stop(self) -> None:
        """Waits for the statements under way; call it when none is."""
        self._pool.stop()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
