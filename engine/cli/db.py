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
    channel: str = typer.Argument("", help="Only this channel; default: every channel that reads a database."),
    site: Path = SITE,
    create: bool = typer.Option(False, "--create", help="Make what change capture needs where it is missing: publication and slot."),
    as_json: bool = AS_JSON,
) -> None:
    """Look at reach, rights, key, index, character sets, clocks. Exit code 1 when a channel cannot work as it is."""
    loaded = load(site)
    kept = _checkpoints(loaded)
    made = [
        {"channel": one.name, **asdict(finding)}
        for one, adapter in (_having(loaded, channel, "create") if create else ())
        for finding in adapter.create(one.source_options, _context(loaded, one.name))
    ]
    found = made + [
        {"channel": one.name, **asdict(finding)}
        for one, adapter in _having(loaded, channel, "check")
        for finding in adapter.check(one.source_options, _context(loaded, one.name), kept.get(one.name, {}))
    ]
    if as_json:
        print_json(found)
    else:
        print_table("databases", ("channel", "", "looked at", "found"), [(f["channel"], f["state"], f["what"], f["text"]) for f in found])
    raise typer.Exit(1 if any(one["state"] == "fault" for one in found) else 0)


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
    ((one, adapter),) = _having(loaded, channel, "preview")
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
    """Channels whose source can do it. Raises ConfigError for a name that is none of them."""
    able = [(one, registry.adapter(one.source)) for one in site.channels if hasattr(registry.adapter(one.source), method)]
    chosen = [pair for pair in able if name in ("", pair[0].name)]
    if not chosen:
        known = ", ".join(one.name for one, _ in able) or "none"
        raise ConfigError(f"{name or 'no channel'!r} reads no database; those that do: {known}")
    yield from chosen


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
