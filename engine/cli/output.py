"""How commands print: a table for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

SITE = typer.Option(".", "--site", "-s", help="The site's folder.", metavar="SITE")
AS_JSON = typer.Option(False, "--json", help="Print one JSON document.")


def print_json(value: Any) -> None:
    """One JSON document on standard output; dataclasses and enums are written as their fields and values."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=_plain).decode())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; columns whose name ends in # are numbers. Piped into a file it is as wide as it needs."""
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.removesuffix("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def local_time(microseconds: int) -> str:
    """In the machine's own time zone, to the millisecond."""
    if not microseconds:
        return ""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")
