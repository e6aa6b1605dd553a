"""``meridian demo``: a county hospital, a province platform, a simulated morning, and both custody ledgers closed."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from twisted.internet.defer import Deferred, inlineCallbacks

from engine.cli.ledger import print_ledger, totals
from engine.cli.opened import now, reactor, run
from engine.cli.output import print_json
from engine.demo.show import SOURCES, Outcome, Show
from engine.demo.simulator import Answer
from engine.demo.sites import Landscape
from engine.store.contract import LedgerLine


def command(
    end: bool = typer.Option(False, "--exit", help="End when the morning is over; exit code 0 only when all of it arrived."),
    as_json: bool = typer.Option(False, "--json", help="With --exit: print one JSON object instead of the table."),
    patients: int = typer.Option(12, min=5, max=2000, help="How many patients the morning has."),
    folder: Path = typer.Option(None, help="Where to make the two sites; default: a temporary folder that is removed."),
) -> None:
    """Show the main job on this machine: two real nodes, mutual TLS, a simulated morning, ledgers that close."""
    with tempfile.TemporaryDirectory(prefix="meridian-demo-") as scratch:
        landscape = Landscape((folder or Path(scratch)).resolve(), reactor)
        landscape.write()
        console = Console(quiet=as_json)
        outcome = run(lambda: _play(landscape, patients, console, end))
        if as_json:
            print_json(report(outcome))
    raise typer.Exit(0 if outcome.ok else 1)


@inlineCallbacks
def _play(landscape: Landscape, patients: int, console: Console, end: bool) -> Generator[Deferred[Any], Any, Outcome]:
    console.print(f"made a private certificate authority and two sites in {landscape.folder}")
    live = Live(console=console, auto_refresh=False, transient=False)
    show = Show(
        landscape,
        reactor=reactor,
        clock=now,
        patients=patients,
        look=lambda ledgers, answers: live.update(_table(ledgers, answers), refresh=True),
    )
    try:
        yield show.start()
        console.print("both nodes are ready; the morning begins")
        with live:
            outcome = yield show.play()
        if not console.quiet:
            _conclude(outcome, console)
        if not end:
            _say_what_next(landscape, console)
            yield _interrupted()
    finally:
        yield show.stop()
    finished: Outcome = outcome
    return finished


def _table(ledgers: dict[str, list[LedgerLine]], answers: list[Answer]) -> Table:
    """One line for each channel of both nodes, as it stands now."""
    table = Table(title=f"{len(answers)} messages answered", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("channel")
    for column in ("received", "delivered", "filtered", "dead-lettered", "in flight"):
        table.add_column(column, justify="right")
    for node, lines in ledgers.items():
        table.add_row(node, style="bold")
        for line in lines:
            if not line.destination:
                counts = (line.received, line.delivered, line.filtered, line.dead_lettered, line.in_flight)
                table.add_row(f"  {line.channel} ({SOURCES[line.channel]})", *map(str, counts))
    return table


def _conclude(outcome: Outcome, console: Console) -> None:
    if not console.is_terminal:  # where the table ends without one
        console.print()
    console.print()
    for node, lines in outcome.ledgers.items():
        print_ledger(f"custody ledger of {node}", lines)
        console.print()
    sent = outcome.sent
    assert sent is not None
    answered = ", ".join(f"{count} {code or 'unanswered'}" for code, count in sorted(sent.codes.items()))
    console.print(f"sent {sent.sent}: {answered}")
    for control_id in (*sent.unanswered, *sent.unexpected):
        console.print(f"not answered as it should be: {control_id or 'a message without a control id'}")
    for control_id in outcome.missing:
        console.print(f"not exactly once on the platform: {control_id}")
    landed = outcome.landed
    console.print(f"landed in the platform's tables: {landed['patient']} patients, {landed['observation']} observations")
    console.print(
        "every accepted message is on the platform exactly once; both ledgers close" if outcome.ok else "[bold]NOT in order[/bold]"
    )


def _say_what_next(landscape: Landscape, console: Console) -> None:
    hospital, platform = landscape.hospital.site, landscape.platform.site
    console.print("\nBoth nodes go on until Ctrl-C. Try, in another terminal:")
    for line in (
        f"meridian messages search --site {hospital} --status ERROR",
        f"meridian messages show 1 --site {hospital}",
        f"meridian ledger --site {platform}",
        f"meridian audit verify --site {platform}",
        f"curl -s http://127.0.0.1:{landscape.hospital.http_port}/metrics",
    ):
        console.print(f"  {line}", soft_wrap=True)


def _interrupted() -> Deferred[None]:
    """Fires at Ctrl-C or SIGTERM."""
    done: Deferred[None] = Deferred()

    def fire() -> None:
        if not done.called:
            done.callback(None)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: reactor.callFromThread(fire))
    return done


def report(outcome: Outcome) -> dict[str, Any]:
    """What --json prints."""
    nodes = [
        {
            "name": node,
            "ledger": totals(lines),
            "channels": [
                {"name": line.channel, "source": SOURCES[line.channel], "received": line.received, "delivered": line.delivered}
                for line in lines
                if not line.destination
            ],
        }
        for node, lines in outcome.ledgers.items()
    ]
    sent = asdict(outcome.sent) if outcome.sent else None
    return {"ok": outcome.ok, "nodes": nodes, "sent": sent, "not_exactly_once": outcome.missing, "landed": outcome.landed}
