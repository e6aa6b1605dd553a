"""``meridian export``: the tables of the landing schema as files for Spark and the like."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from channels import Site, load
from engine.cli.audited import audited
from engine.cli.opened import now, reactor
from engine.cli.output import AS_JSON, SITE, print_json, print_table
from engine.contracts import Context
from engine.errors import ConfigError, DeliveryError
from engine.observe import Metrics
from engine.options import Settings
from engine.tls import TlsProvider

_FORMATS = ("parquet", "ndjson")
TABLES = typer.Argument(None, help="Tables to export; none: all.", show_default=False)


def command(
    tables: list[str] | None = TABLES,
    to: Path = typer.Option(..., help="The folder; an export that is there already is continued.", metavar="FOLDER"),
    form: str = typer.Option("parquet", "--format", help="parquet or ndjson.", metavar="FORMAT"),
    since: int | None = typer.Option(None, help="In a new folder: only what changed after this sequence number.", show_default=False),
    destination: str = typer.Option("", help="channel/destination, where the site has several fhir_tables.", metavar="NAME"),
    rows: int = typer.Option(1_000_000, help="Rows in one file at most.", min=1),
    forget: bool = typer.Option(False, "--forget", help="Export nothing: this folder is no more, and no old row waits for it."),
    site: Path = SITE,
    as_json: bool = AS_JSON,
) -> None:
    """Export what has changed since the last export to that folder. The manifest is written last: what it names is whole."""
    if form not in _FORMATS:
        raise ConfigError(f"there is no format {form!r}; known: {', '.join(_FORMATS)}")
    loaded = load(site)
    name, options = _destination(loaded, destination)
    if forget:
        audited(site, "tables.export_forgotten", destination=name, to=to)
        _with_engine(loaded, name, options, _forgetting(to))
        return
    audited(site, "tables.exported", destination=name, tables=" ".join(tables or ()) or "all", to=to, format=form)
    done = _export(loaded, name, options, to=to, format=form, tables=tuple(tables or ()), since=since, rows=rows)
    if as_json:
        print_json({"upto": done.upto, "removed": done.removed, "files": [asdict(file) for file in done.files]})
        return
    print_table(f"{to}, up to {done.upto}", ("file", "rows#", "bytes#"), [(file.name, file.rows, file.size) for file in done.files])


def _destination(site: Site, wanted: str) -> tuple[str, Settings]:
    found = {f"{c.name}/{o.name}": o.options for c in site.channels for o in c.outlets if o.adapter == "fhir_tables"}
    if wanted and wanted not in found:
        raise ConfigError(f"there is no destination {wanted!r} of fhir_tables; known: {', '.join(found) or 'none'}")
    if not found:
        raise ConfigError("this site has no destination fhir_tables")
    if len(found) > 1 and not wanted:
        raise ConfigError(f"the site has several fhir_tables; say which with --destination: {', '.join(found)}")
    return next((name, options) for name, options in found.items() if wanted in ("", name))


def _export(site: Site, name: str, options: Settings, **asked: Any) -> Any:
    from adapters.database.landing.export import Request, export

    request = Request(**asked, noted=options.keep is not None)
    return _with_engine(site, name, options, lambda engine, schema: export(engine, schema, request))


def _forgetting(to: Path) -> Callable[[Any, Any], None]:
    from adapters.database.landing.retention import forget

    def run(engine: Any, schema: Any) -> None:
        with engine.begin() as connection:
            if not forget(connection, schema, str(to.resolve())):
                raise ConfigError(f"no export to {to.resolve()} has noted anything in this database")

    return run


def _with_engine(site: Site, name: str, options: Settings, work: Callable[[Any, Any], Any]) -> Any:
    """What `work` gives for the engine of a destination and its schema. Raises ConfigError where the database fails."""
    from sqlalchemy.exc import SQLAlchemyError

    from adapters.database.connection import make_engine
    from adapters.database.errors import delivery_error
    from adapters.database.landing.layout import shipped
    from adapters.database.landing.schema import schema_of
    from adapters.database.looking import absent_file

    context = _context(site, name)
    if (file := absent_file(options, context)) is not None:
        raise ConfigError(f"there is no file {file}: nothing was landed yet")
    engine = make_engine(options.connection, context)
    try:
        return work(engine, schema_of(shipped(), options.schema))
    except SQLAlchemyError as error:
        failed: DeliveryError = delivery_error(error)
        raise ConfigError(failed.text) from None
    finally:
        engine.dispose()


def _context(site: Site, name: str) -> Context:
    log, metrics = logging.getLogger("meridian.export"), Metrics()
    tls = TlsProvider(site.certs, reactor=reactor, log=log, metrics=metrics, audit=lambda *_, **__: None)
    return Context(
        name=name, reactor=reactor, site=site.folder, data=site.data, clock=now, new_id=lambda: "", log=log, metrics=metrics, tls=tls,
        audit=lambda *_, **__: None, node=str(site.node.name),
    )  # fmt: skip
