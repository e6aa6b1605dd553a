"""``meridian convert``: one mapping over files, without a node."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson
import typer

from engine import registry
from engine.cli.output import print_json, print_table
from engine.cli.tabular import Per, Tabular, of_file, of_whole_files
from engine.contracts import Gathered, Gathering, Mapper
from engine.errors import ConfigError, MessageError
from engine.message import WHOLE, Excerpt


def command(
    files: list[str] = typer.Argument(None, help="Files or folders to convert; - or none reads standard input."),
    mapping: str = typer.Option(
        ..., "--mapping", "-m", help="The mapping, such as hl7v2-to-fhir; or a file of rules for rows and JSON: RULES.yaml."
    ),
    out: Path = typer.Option(None, "--out", help="Write NAME.json for each NAME.* into this folder instead of printing."),
    site: Path = typer.Option(None, "--site", "-s", help="Use this site's own rows and tables."),
    explain: bool = typer.Option(False, "--explain", help="Print where each output element came from."),
    as_json: bool = typer.Option(False, "--json", help="Report as JSON (with --out or --explain)."),
    encoding: str = typer.Option("", "--encoding", help="Of tabular files; default: UTF-8, or GB18030 where it cannot be that."),
    delimiter: str = typer.Option("", "--delimiter", help="Of tabular files; default: what their heading has most of."),
    per: Per = typer.Option(Per.ROW, "--per", help="Of tabular files: a Bundle for each row, or one for each file."),
) -> None:
    """Convert messages and print the result. Goes on past bad files, says what failed and why; exit code 1 if any did.

    Of a folder every file is taken, those of its folders too; a mapping may make one result of several of them (a study of its images).
    """
    mapper, tabular = _compiled(mapping, site / "mappings" if site else None)
    found = _inputs(files or ["-"], mapper)
    files_of = Tabular(encoding, delimiter)
    if tabular and per is Per.FILE and not explain:
        converted, failures = _whole_files(out, list(found), files_of, mapper)
        _report(out, converted, failures, as_json)
    inputs = [row for one in found for row in of_file(one, files_of)] if tabular else list(found)
    failures = _into(out, inputs, mapper) if out else _print(inputs, mapper, explain, as_json)
    _report(out, len(inputs) - len(failures), failures, as_json)


def _report(out: Path | None, converted: int, failures: list[dict[str, Any]], as_json: bool) -> NoReturn:
    if as_json and out:
        print_json({"converted": converted, "failed": failures})
    else:
        for failure in failures:
            typer.echo(f"{failure['file']}: {failure['code']}: {failure['reason']}", err=True)
        if out:
            typer.echo(f"{converted} converted, {len(failures)} failed", err=True)
    raise typer.Exit(1 if failures else 0)


def _compiled(mapping: str, site_mappings: Path | None) -> tuple[Mapper, bool]:
    """And whether it takes the rows of tabular files."""
    if mapping.endswith((".yaml", ".yml")):
        return registry.mapping(ROWS_MAPPING).compile_file(Path(mapping), site_mappings), True  # type: ignore[attr-defined]
    return registry.mapping(mapping).compile(site_mappings), mapping == ROWS_MAPPING


def _inputs(sources: list[str], mapper: Mapper) -> Iterator[Gathered]:
    """What is to be converted, in the order given; the files of a folder in the order of their names."""
    for source in sources:
        if source == "-":
            yield Gathered("stdin", source, sys.stdin.buffer.read)
        elif not Path(source).is_dir():
            yield Gathered(Path(source).stem, source, partial(_read, Path(source), mapper))
        elif isinstance(mapper, Gathering):
            yield from mapper.gather(_walk(Path(source)))
        else:
            yield from (Gathered(file.stem, str(file), partial(_read, file, mapper)) for file in _walk(Path(source)))


def _walk(folder: Path) -> Iterable[Path]:
    """The files below a folder, but hidden ones."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith("."))


def _read(file: Path, mapper: Mapper) -> bytes:
    """A file; of one too big for memory the beginning, where the mapping reads no more."""
    try:
        if not getattr(mapper, "headers", False) or file.stat().st_size <= WHOLE:
            return file.read_bytes()
        with file.open("rb") as opened:
            digest = file_digest(opened, "sha256").hexdigest()
            opened.seek(0)
            return Excerpt(opened.read(WHOLE), digest, file)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None


ROWS_MAPPING: Final = "rows-to-fhir"


def _whole_files(out: Path | None, inputs: list[Gathered], tabular: Tabular, mapper: Mapper) -> tuple[int, list[dict[str, Any]]]:
    """One Bundle for each file, without the rows that failed; how many there are, and what failed."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _check_names(inputs)
    converted, failures = 0, []
    for one, body, failed in of_whole_files(inputs, tabular, mapper):
        failures += [_failure(row, error) for row, error in failed]
        if not body:
            continue
        converted += 1
        if out is not None:
            (out / f"{one.name}.json").write_bytes(body)
        else:
            typer.echo(body.decode())
    return converted, failures


def _check_names(inputs: list[Gathered]) -> None:
    if len({one.name for one in inputs}) < len(inputs):
        raise ConfigError("two of the files have the same name without their ending: their results would overwrite each other")


def _into(out: Path, inputs: list[Gathered], mapper: Mapper) -> list[dict[str, Any]]:
    out.mkdir(parents=True, exist_ok=True)
    _check_names(inputs)
    failures = []
    for one in inputs:
        try:
            (out / f"{one.name}.json").write_bytes(mapper.map(one.read()).body)
        except (MessageError, ConfigError) as error:
            failures.append(_failure(one, error))
    return failures


def _print(inputs: list[Gathered], mapper: Mapper, explain: bool, as_json: bool) -> list[dict[str, Any]]:
    failures = []
    for one in inputs:
        try:
            if explain:
                _print_lineage(one.source, one.read(), mapper, as_json)
            else:
                typer.echo(mapper.map(one.read()).body.decode())
        except (MessageError, ConfigError) as error:
            failures.append(_failure(one, error))
    return failures


def _print_lineage(source: str, body: bytes, mapper: Mapper, as_json: bool) -> None:
    rendition, lineage = mapper.explain(body)
    if as_json:
        print_json({"file": source, "bundle": orjson.Fragment(rendition.body), "lineage": [asdict(line) for line in lineage]})
    else:
        print_table(source, ("element", "from", "rule"), [(line.target, line.source, line.rule) for line in lineage])


def _failure(one: Gathered, error: MessageError | ConfigError) -> dict[str, Any]:
    return {"file": one.source, "code": error.code, "reason": str(error)}
