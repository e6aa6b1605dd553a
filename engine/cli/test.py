"""``meridian test``: a site's message-in, expected-out files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

import typer

from channels import harness, load
from engine.cli.output import AS_JSON, print_json

_MOST_LINES: Final = 40
"""Of one test: a whole other Bundle says no more in a thousand lines."""


def command(
    site: Path = typer.Argument(Path("."), help="The site's folder."),
    update: bool = typer.Option(False, "--update", help="Write what comes out as what is expected; look at it before you keep it."),
    as_json: bool = AS_JSON,
) -> None:
    """Run the tests of a site's channels. Exit code 1 when one fails or there is none."""
    outcomes = list(harness.run(load(site, secrets=False), update=update))
    failed = [outcome for outcome in outcomes if outcome.differences]
    if as_json:
        print_json({"passed": len(outcomes) - len(failed), "failed": len(failed), "tests": [asdict(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            _print(outcome)
        typer.echo(
            f"{len(outcomes) - len(failed)} passed, {len(failed)} failed"
            if outcomes
            else "no tests: put messages into tests/CHANNEL/NAME.hl7 or .json, then: meridian test --update"
        )
    raise typer.Exit(1 if failed or not outcomes else 0)


def _print(outcome: harness.Outcome) -> None:
    state = "FAILED" if outcome.differences else "written" if outcome.new else "passed"
    typer.echo(f"{state}  {outcome.name}" + (f"  ({outcome.result})" if outcome.result else ""))
    for line in outcome.differences[:_MOST_LINES]:
        typer.echo(f"    {line}")
    if len(outcome.differences) > _MOST_LINES:
        typer.echo(f"    ... and {len(outcome.differences) - _MOST_LINES} more; --json has them all")
