"""``meridian db``: look at a channel's database before and while it is read; nothing is taken, and nothing made unless it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import typer

from channels.model import Site, load
from engine import registry
from engine.channel import Channel
from engine.cli.audited import audited
from engine.cli.opened import now, reactor, with_store
from engine.cli.output import AS_JSON, SITE, print_json, print_table
from engine.contracts import Context
from engine.errors import ConfigError
from engine.observe import Metrics
from engine.tls import TlsProvider

app = typer.Typer(no_args_is_help=True, help="Check the databases of channels; see what the next poll would take.")


@app.command()
def check(
    channel: str = typer.Argument("", help="Only this channel; default: every channel that reads a database or writes to one."),
    site: Path = SITE,
    create: bool = typer.Option(False, "--create", help="Make what change capture needs where it is missing: publication and slot."),
    sql: bool = typer.Option(False, "--sql", help="Print also the SQL that makes or grants what else is missing; it is not run."),
    as_json: bool = AS_JSON,
) -> None:
    """Look at sources (reach, rights, key, index, character sets, clocks) and destinations (reach, rights, outbox, unique keys, landing
    schema). Exit code 1 when a channel cannot work as it is."""
    loaded = load(site)
    found = [*(_made(loaded, channel) if create else ()), *_found(loaded, channel)]
    if as_json:
        print_json(found)
    else:
        rows = [(_place(f), f["state"], f["what"], f["text"]) for f in found]
        print_table("databases", ("channel", "", "looked at", "found"), rows)
        if sql:
            _print_ddl(found)
    raise typer.Exit(1 if any(one["state"] == "fault" for one in found) else 0)


def _made(site: Site, name: str) -> Iterator[dict[str, Any]]:
    """Make what captures need, and say what was made. Raises ConfigError."""
    for one, adapter in _having(site, name, "create"):
        for finding in adapter.create(one.source_options, _context(site, one.name)):
            yield {"channel": one.name, "destination": "", **asdict(finding)}


def _found(site: Site, name: str) -> Iterator[dict[str, Any]]:
    """Findings of sources, then of destinations; `destination` is "" for a source. Raises ConfigError."""
    kept = _checkpoints(site)
    sources = list(_having(site, name, "check"))
    outlets = [
        (one.name, outlet, adapter)
        for one in site.channels
        for outlet in one.outlets
        if name in ("", one.name) and hasattr(adapter := registry.adapter(outlet.adapter), "check_destination")
    ]
    if not sources and not outlets:
        raise ConfigError(f"{name or 'no channel'!r} reads no database and writes to none")
    for one, adapter in sources:
        for finding in adapter.check(one.source_options, _context(site, one.name), kept.get(one.name, {})):
            yield {"channel": one.name, "destination": "", **asdict(finding)}
    for channel, outlet, adapter in outlets:
        for finding in adapter.check_destination(outlet.options, _context(site, f"{channel}/{outlet.name}")):
            yield {"channel": channel, "destination": outlet.name, **asdict(finding)}


def _place(finding: dict[str, Any]) -> str:
    return "/".join(filter(None, (finding["channel"], finding["destination"])))


def _print_ddl(found: list[dict[str, Any]]) -> None:
    """As a script for an administrator: each statement once, under what it is for."""
    said: set[str] = set()
    for one in found:
        if one["ddl"] and one["ddl"] not in said:
            said.add(one["ddl"])
            typer.echo(f"\n-- {_place(one)}: {one['what']}\n{one['ddl']};")


@app.command()
def preview(
    channel: str = typer.Argument(help="The channel."),
    site: Path = SITE,
    values: bool = typer.Option(False, "--values", help="Show the rows themselves, which are patients' data: it is audited."),
    as_json: bool = AS_JSON,
) -> None:
    """Show what the next poll would take. Nothing is taken. Exit code 1 when there is nothing."""
    loaded = load(site)
    kept = _checkpoints(loaded)
    able = list(_having(loaded, channel, "preview"))
    if not able:
        known = ", ".join(one.name for one, _ in _having(loaded, "", "preview")) or "none"
        raise ConfigError(f"{channel!r} reads no database; those that do: {known}")
    ((one, adapter),) = able
    found = adapter.preview(one.source_options, _context(loaded, one.name), kept.get(one.name, {}))
    if values:
        _may_be_seen(site, one.name, len(found.bodies))
    _print(found, values, as_json)
    raise typer.Exit(0 if found.bodies else 1)


def _may_be_seen(site: Path, channel: str, rows: int) -> None:
    """The first preview may come before the node has ever run: then its data folder is made for the audit log."""
    loaded = load(site)
    loaded.data.mkdir(parents=True, exist_ok=True)
    audited(site, "database.previewed", channel=channel, rows=rows)


def _print(found: Any, values: bool, as_json: bool) -> None:
    records = [orjson.loads(body) for body in found.bodies] if values else []
    if as_json:
        content = {"rows": len(found.bodies), "more": found.more, "unreadable": found.unreadable, "columns": found.columns}
        print_json({**content, "positions": list(found.positions), **({"records": records} if values else {})})
        return
    if values:
        names = list(found.columns)
        print_table("rows", names, [[_shown(record["row"].get(name)) for name in names] for record in records])
    else:
        print_table("columns", ("column", "kind"), found.columns.items())
    ends = f", {found.positions[0]} to {found.positions[-1]}" if found.positions and found.positions[0] else ""
    more = " and more" if found.more else ""
    wrong = f"; {found.unreadable} not readable" if found.unreadable else ""
    typer.echo(f"the next poll would take {len(found.bodies)} rows{more}{ends}{wrong}")


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()


def _having(site: Site, name: str, method: str) -> Iterator[tuple[Channel, Any]]:
    """Channels, or the one of that name, whose source can do it."""
    able = ((one, registry.adapter(one.source)) for one in site.channels if name in ("", one.name))
    yield from (pair for pair in able if hasattr(pair[1], method))


def _checkpoints(site: Site) -> dict[str, dict[str, str]]:
    """How far each channel has read, as its node's store knows it."""
    if not (site.data / "meridian.db").exists():
        return {}
    from twisted.internet.defer import gatherResults

    names = [channel.name for channel in site.channels]
    found: list[dict[str, str]] = with_store(site.folder, lambda store: gatherResults([store.checkpoints(name) for name in names]))
    return dict(zip(names, found, strict=True))


def _context(site: Site, name: str) -> Context:
    log, metrics = logging.getLogger("meridian.db"), Metrics()
    tls = TlsProvider(site.certs, reactor=reactor, log=log, metrics=metrics, audit=lambda *_, **__: None)
    return Context(
        name=name,
        reactor=reactor,
        site=site.folder,
        data=site.data,
        clock=now,
        new_id=lambda: "check",
        log=log,
        metrics=metrics,
        tls=tls,
        audit=lambda *_, **__: None,
        node=site.node.name,
        party=site.node.party,
    )
