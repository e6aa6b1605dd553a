"""``meridian ledger``: does everything that came in have an end, or a place where it waits?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from engine.cli.opened import with_store
from engine.cli.output import AS_JSON, SITE, print_json, print_table
from engine.store.contract import LedgerLine


def command(site: Path = SITE, as_json: bool = AS_JSON) -> None:
    """Print the custody ledger: received = delivered + filtered + dead-lettered + in flight. Exit code 1 where it does not close.

    A destination's line has what an operator had it sent once more beside what was received.
    """
    lines = with_store(site, lambda store: store.ledger())
    if as_json:
        print_json([{**asdict(line), "closes": line.closes} for line in lines])
    else:
        print_ledger("custody ledger", lines)
    raise typer.Exit(0 if all(line.closes for line in lines) else 1)


def print_ledger(title: str, lines: Sequence[LedgerLine]) -> None:
    """A channel's line, then one for each of its destinations; names what does not close."""
    columns = (
        "channel",
        "destination",
        "received#",
        "+ resent#",
        "= delivered#",
        "+ filtered#",
        "+ dead-lettered#",
        "+ in flight#",
        "closes",
    )
    rows = [(x.channel, x.destination, x.received, _resent(x), *_ends(x), "yes" if x.closes else "NO") for x in lines]
    print_table(title, columns, rows)
    for line in lines:
        for control_id in line.unaccounted:
            typer.echo(f"not accounted for in {line.channel}/{line.destination}: {control_id}")


def _resent(line: LedgerLine) -> object:
    """A channel counts each message once, however often it is sent."""
    return line.resent if line.destination else ""


def _ends(line: LedgerLine) -> tuple[int, int, int, int]:
    return line.delivered, line.filtered, line.dead_lettered, line.in_flight


def totals(lines: Sequence[LedgerLine]) -> dict[str, Any]:
    """The node's sums over its channels (not their destinations), and whether every line closes."""
    channels = [line for line in lines if not line.destination]
    names = ("received", "delivered", "filtered", "dead_lettered", "in_flight")
    return {**{name: sum(getattr(line, name) for line in channels) for name in names}, "closes": all(line.closes for line in lines)}
