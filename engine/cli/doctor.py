"""``meridian doctor``: looks at a site and at what is around it, says what is wrong and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import typer

from engine.cli.examinations import examinations
from engine.cli.output import AS_JSON, print_json
from engine.cli.patient import Patient
from engine.errors import ConfigError
from engine.examination import Finding, Level


def command(
    site: Path = typer.Argument(Path("."), help="The site's folder."),
    connect: bool = typer.Option(False, "--connect", help="Also connect to the systems that the site sends to (nothing is sent)."),
    as_json: bool = AS_JSON,
) -> None:
    """Look at a site: configuration, certificates, store, disk, ports, schemas, clock, names. Exit code 1 when something fails."""
    if not (site / "meridian.yaml").exists():
        raise ConfigError(f"{site}: there is no meridian.yaml here; make a site with: meridian init FOLDER")
    patient = Patient(site, connect)
    found = [finding for examination in examinations for finding in examination(patient)]
    failed = any(finding.level is Level.FAIL for finding in found)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in found]})
    else:
        _show(found)
    raise typer.Exit(1 if failed else 0)


def _show(found: Iterable[Finding]) -> None:
    """One line each, and one more for what to do."""
    counted: Counter[Level] = Counter()
    for finding in found:
        counted[finding.level] += 1
        typer.echo(f"{finding.level:<5}{finding.subject}: {finding.text}")
        if finding.advice:
            typer.echo(f"     -> {finding.advice}")
    typer.echo(f"{counted[Level.OK]} OK, {counted[Level.WARN]} WARN, {counted[Level.FAIL]} FAIL")
