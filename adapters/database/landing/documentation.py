"""The landing schema as Markdown, made of the same two files as the DDL: ``python -m adapters.database.landing.documentation``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from adapters.database.landing.kinds import Form
from adapters.database.landing.layout import Layout, Table, shipped
from adapters.database.landing.migration import views
from adapters.database.landing.schema import Schema


def documentation(layout: Layout) -> str:
    """Every table with its columns and where in the resource each comes from, the books, the views."""
    schema = Schema(layout)
    parts = [f"# Landing schema, version {layout.version}"]
    parts += [_table(table) for table in layout.tables]
    for book in (schema.messages, schema.resources, schema.versions):
        rows = [(column.name, column.info["form"], "", column.comment or "") for column in book.c]
        parts.append(f"## {book.name}\n\n{book.comment}\n\n{_markdown(rows)}")
    parts.append("## Views\n\n" + "\n".join(f"- `{name}`: {doc}" for name, doc, _ in views()))
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    whose = "all resources" if table.of_any else f"`{table.resource}`"
    where = f", one row for each `{table.source}`" if table.source else ""
    return f"## {table.name}\n\n{table.doc} Of {whose}{where}.\n\n{_markdown(_rows(table))}"


def _rows(table: Table) -> Iterator[tuple[str, Form, str, str]]:
    for column in table.columns:
        for name, form, doc in column.sql():
            yield name, form, column.source, doc


def _markdown(rows: Iterable[tuple[str, Form, str, str]]) -> str:
    lines = ["| column | type | element | meaning |", "|---|---|---|---|"]
    for name, form, source, doc in rows:
        cells = (f"`{name}`", form.value, f"`{source}`" if source else "", doc)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(documentation(shipped()))
