"""``meridian audit``: search the audit log, prove that it is whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from channels.model import data_folder
from engine import audit
from engine.cli.output import AS_JSON, SITE, local_time, print_json, print_table
from engine.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Search the audit log, and prove that it is whole.")


@app.command()
def search(
    site: Path = SITE,
    event: str = typer.Option("", help="Beginning of the event's name, such as tls."),
    fact: str = typer.Option("", help="Text in any of its facts, such as a party or an address."),
    limit: int = typer.Option(50, min=1),
    as_json: bool = AS_JSON,
) -> None:
    """Find audit records, newest first. Exit code 1 when there is none."""
    found = audit.search(data_folder(site) / "audit", event=event, fact=fact, limit=limit)
    if as_json:
        print_json([asdict(record) for record in found])
    else:
        rows = [(r.seq, local_time(r.at), r.event, ", ".join(f"{k}={v}" for k, v in r.facts.items() if v)) for r in found]
        print_table("audit", ("seq#", "time", "event", "facts"), rows)
    raise typer.Exit(0 if found else 1)


@app.command()
def verify(
    site: Path = SITE,
    head: list[Path] = typer.Option([], help="A copy of data/audit/head.json that was kept elsewhere; can be given several times."),
    as_json: bool = AS_JSON,
) -> None:
    """Check the chain: edited, removed, inserted or reordered records, and a cut-off end. Exit code 1 when anything is wrong.

    Who can rewrite the log and its head.json alike is found only with --head."""
    folder = data_folder(site) / "audit"
    try:
        faults = audit.verify(folder, tuple(head))
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
    if as_json:
        print_json({"records": sum(1 for _ in audit.records(folder)), "faults": faults})
    else:
        typer.echo("\n".join(faults) or f"whole: {sum(1 for _ in audit.records(folder))} records")
    raise typer.Exit(1 if faults else 0)
