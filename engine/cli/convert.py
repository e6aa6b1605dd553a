"""``meridian convert``: one mapping over files, without a node."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import typer

from engine import registry
from engine.cli.output import print_json, print_table
from engine.contracts import Mapper
from engine.errors import ConfigError, MessageError


def command(
    files: list[str] = typer.Argument(None, help="Files to convert; - or none reads standard input."),
    mapping: str = typer.Option(..., "--mapping", "-m", help="The mapping, such as hl7v2-to-fhir."),
    out: Path = typer.Option(None, "--out", help="Write NAME.json for each NAME.* into this folder instead of printing."),
    site: Path = typer.Option(None, "--site", "-s", help="Use this site's own rows and tables."),
    explain: bool = typer.Option(False, "--explain", help="Print where each output element came from."),
    as_json: bool = typer.Option(False, "--json", help="Report as JSON (with --out or --explain)."),
) -> None:
    """Convert messages and print the result. Goes on past bad files, says what failed and why; exit code 1 if any did."""
    mapper = registry.mapping(mapping).compile(site / "mappings" if site else None)
    sources = files or ["-"]
    failures = _into(out, sources, mapper) if out else _print(sources, mapper, explain, as_json)
    if as_json and out:
        print_json({"converted": len(sources) - len(failures), "failed": failures})
    else:
        for failure in failures:
            typer.echo(f"{failure['file']}: {failure['code']}: {failure['reason']}", err=True)
        if out:
            typer.echo(f"{len(sources) - len(failures)} converted, {len(failures)} failed", err=True)
    raise typer.Exit(1 if failures else 0)


def _read(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}") from None


def _into(out: Path, sources: list[str], mapper: Mapper) -> list[dict[str, Any]]:
    out.mkdir(parents=True, exist_ok=True)
    targets = {source: out / f"{'stdin' if source == '-' else Path(source).stem}.json" for source in sources}
    if len(set(targets.values())) < len(targets):
        raise ConfigError("two of the files have the same name without their ending: their results would overwrite each other")
    failures = []
    for source, target in targets.items():
        try:
            target.write_bytes(mapper.map(_read(source)).body)
        except (MessageError, ConfigError) as error:
            failures.append(_failure(source, error))
    return failures


def _print(sources: list[str], mapper: Mapper, explain: bool, as_json: bool) -> list[dict[str, Any]]:
    failures = []
    for source in sources:
        try:
            if explain:
                _print_lineage(source, _read(source), mapper, as_json)
            else:
                typer.echo(mapper.map(_read(source)).body.decode())
        except (MessageError, ConfigError) as error:
            failures.append(_failure(source, error))
    return failures


def _print_lineage(source: str, body: bytes, mapper: Mapper, as_json: bool) -> None:
    rendition, lineage = mapper.explain(body)
    if as_json:
        print_json({"file": source, "bundle": orjson.Fragment(rendition.body), "lineage": [asdict(line) for line in lineage]})
    else:
        print_table(source, ("element", "from", "rule"), [(line.target, line.source, line.rule) for line in lineage])


def _failure(source: str, error: MessageError | ConfigError) -> dict[str, Any]:
    return {"file": source, "code": error.code, "reason": str(error)}
