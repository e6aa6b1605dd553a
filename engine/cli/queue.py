"""``meridian queue``: each destination's queue; hold it, release it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from twisted.internet.defer import Deferred, inlineCallbacks

from engine.cli.audited import audited
from engine.cli.opened import with_store
from engine.cli.output import AS_JSON, SITE, local_time, print_json, print_table
from engine.errors import ConfigError
from engine.store.contract import Store

app = typer.Typer(no_args_is_help=True, help="See each destination's queue, hold it, release it.")

NAME = typer.Argument(help="The destination, as CHANNEL/DESTINATION.")


@app.command("ls")
def list_queues(site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """List the queues."""
    lines = with_store(site, lambda store: store.queues())
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    rows = [
        (
            f"{q.channel}/{q.destination}",
            "held" if q.hold else "",
            q.ready,
            q.pending,
            q.held,
            q.dead,
            local_time(q.oldest_at),
            q.last_error,
        )
        for q in lines
    ]
    print_table("queues", ("destination", "", "ready#", "retrying#", "held#", "dead#", "oldest", "last error"), rows)


@app.command()
def hold(name: str = NAME, site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """Stop delivering to a destination; messages for it wait."""
    _hold(name, site, True, as_json)


@app.command()
def release(name: str = NAME, site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """Deliver to a destination again."""
    _hold(name, site, False, as_json)


def _hold(name: str, site: Path, hold: bool, as_json: bool) -> None:
    channel, _, destination = name.partition("/")

    @inlineCallbacks
    def change(store: Store) -> Generator[Deferred[Any], Any, list[str]]:
        known = [f"{line.channel}/{line.destination}" for line in (yield store.queues())]
        if name in known:
            audited(site, "queue.held" if hold else "queue.released", destination=name)
            yield store.hold(channel, destination, hold)
        return known

    known = with_store(site, change)
    if name not in known:
        raise ConfigError(f"there is no destination {name!r}; known: {', '.join(known) or 'none yet'}")
    if as_json:
        print_json({"destination": name, "hold": hold})
    else:
        typer.echo(f"{name} is {'held' if hold else 'released'}")
