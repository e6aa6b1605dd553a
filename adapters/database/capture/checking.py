"""`meridian db check` for the source `database_capture`: looks at the real database and changes nothing; `create` makes what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.capture.binlogserver import checked as mariadb_checked
from adapters.database.capture.building import log_of, names_of
from adapters.database.capture.slot import checked as postgresql_checked
from adapters.database.capture.slot import missing, require_log, require_tables, slot_of
from adapters.database.capture.state import CHECKPOINT, Mark, state_of
from adapters.database.capture.subject import subjects_of
from adapters.database.connection import make_engine
from adapters.database.errors import sort
from adapters.database.findings import Finding
from adapters.database.urls import engine_text
from engine.errors import ConfigError, MeridianError

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings


def check(options: Settings, context: Context, checkpoints: dict[str, str]) -> list[Finding]:
    """Every finding; what cannot be looked at because something before it failed is left out."""
    return _found(options, context, lambda engine: _checked(options, context, engine, checkpoints))


def create(options: Settings, context: Context) -> list[Finding]:
    """Publication and slot of PostgreSQL, where they are missing; other databases need none."""
    return _found(options, context, lambda engine: _created(options, context, engine))


def _found(options: Settings, context: Context, look: Callable[[Engine], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        engine = make_engine(options.connection, context)
    except MeridianError as error:
        return [Finding("reach", "fault", str(error))]
    try:
        found.extend(look(engine))
    except ConfigError as error:
        found.append(Finding("capture", "fault", error.text))
    except MeridianError as error:
        found.append(Finding("log", "fault", error.text))
    except SQLAlchemyError as error:
        found.append(Finding("reach", "fault", sort(error).text))
    finally:
        engine.dispose()
    return found


def _checked(options: Settings, context: Context, engine: Engine, checkpoints: dict[str, str]) -> Iterator[Finding]:
    with engine.connect() as looking:
        subjects = subjects_of(looking, options)
    with engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
        yield Finding("reach", "fine", f"{connection.dialect.name} {version} at {engine_text(engine)}")
        for subject in subjects.values():
            yield Finding("key", "fine", f"{subject.name}: rows are told apart by {', '.join(subject.key)}")
        if connection.dialect.name == "postgresql":
            require_log(connection)
            require_tables(connection, options, subjects)
            slot, publication = names_of(options, context)
            yield from postgresql_checked(connection, options, slot, publication, subjects)
        else:
            text = checkpoints.get(CHECKPOINT, "")
            state = Mark(context.data, context.name).read(text) or (state_of(text) if text else None)
            yield from mariadb_checked(connection, options, subjects, state)


def _created(options: Settings, context: Context, engine: Engine) -> Iterator[Finding]:
    if engine.dialect.name != "postgresql":
        yield Finding("create", "fine", "the binary log needs neither publication nor slot")
        return
    slot, publication = names_of(options, context)
    log = log_of(options, context, engine)
    with engine.connect() as looking:
        subjects = subjects_of(looking, options)
    with engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        require_log(connection)
        require_tables(connection, options, subjects)
        wanted = missing(connection, options, publication, subjects)
        there = slot_of(connection, slot) is not None
    log.create()  # type: ignore[attr-defined]
    yield Finding("publication", "fine", f"{publication} {'was made or completed' if wanted else 'is there'}")
    yield Finding("slot", "fine", f"{slot} {'is there' if there else 'was made: from now on the server keeps its log for it'}")
