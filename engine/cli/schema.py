"""``meridian schema``: JSON Schemas for editors, and the options as a manual."""

from __future__ import annotations

from pathlib import Path

import orjson
import typer

from channels.manual import manual, schemas


def command(
    out: Path | None = typer.Option(None, help="Write meridian.schema.json and channel.schema.json into this folder."),
    as_manual: bool = typer.Option(False, "--manual", help="Print every option as Markdown tables instead."),
) -> None:
    """Print the JSON Schema of meridian.yaml and of channel files."""
    if as_manual:
        typer.echo(manual())
        return
    for name, schema in schemas().items():
        text = orjson.dumps(schema, option=orjson.OPT_INDENT_2)
        if out is None:
            typer.echo(text.decode())
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}.schema.json").write_bytes(text + b"\n")
