"""``meridian test``: a site's message-in, expected-out files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from channels import harness, load
from engine.cli.output import AS_JSON, print_json


def command(
    site: Path = typer.Argument(Path("."), help="The site's folder."),
    update: bool = typer.Option(False, "--update", help="Write what comes out as what is expected; look at it before you keep it."),
    as_json: bool = AS_JSON,
) -> None:
    """Run the tests of a site's channels. Exit code 1 when one fails or there is none."""
    outcomes = list(harness.run(load(site), update=update))
    failed = [outcome for outcome in outcomes if outcome.differences]
    if as_json:
        print_json({"passed": len(outcomes) - len(failed), "failed": len(failed), "tests": [asdict(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            typer.echo(f"{'FAILED' if outcome.differences else 'written' if outcome.new else 'passed'}  {outcome.name}")
            for line in outcome.differences:
                typer.echo(f"    {line}")
        typer.echo(
            f"{len(outcomes) - len(failed)} passed, {len(failed)} failed" if outcomes else "no tests: put messages into tests/CHANNEL/"
        )
    raise typer.Exit(1 if failed or not outcomes else 0)
