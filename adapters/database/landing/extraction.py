"""A resource as rows of the landing schema's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from adapters.database.landing.kinds import named
from adapters.database.landing.layout import Column, Layout, Table
from adapters.database.landing.paths import items, values

Row = dict[str, Any]


def rows(layout: Layout, resource: Mapping[str, Any], zone: tzinfo) -> Iterator[tuple[Table, list[Row]]]:
    """For each table that this type of resource has rows in: its rows, the resource's own first; what comes out of the content only."""
    own, parts = layout.of(str(resource["resourceType"]))
    yield own, [row(own, resource, (), zone)]
    for table in parts:
        yield table, list(part_rows(table, resource, zone))


def part_rows(table: Table, resource: Mapping[str, Any], zone: tzinfo) -> Iterator[Row]:
    """Rows of a table for parts of a resource, numbered from 1."""
    if table.where is not None and not table.where.fits(resource):
        return
    for number, (item, around) in enumerate(items(table.path, resource), 1):
        yield {"number": number, **row(table, item, around, zone)}


def row(table: Table, item: Any, around: Sequence[Any], zone: tzinfo) -> Row:
    """The columns of one item; all of them, NULL where it says nothing."""
    made: Row = {}
    for column in table.columns:
        parts = column.kind.parts
        found = values(column.path, item, around) if _may_have(column, item) else ()
        read = column.kind.read(found, zone) if found else (None,) * len(parts)
        for part, value in zip(parts, read, strict=True):
            made[named(column.name, part)] = value
    return made


def _may_have(column: Column, item: Any) -> bool:
    """Most elements of most resources are not there: one look is enough for those."""
    return column.begins is None or (isinstance(item, dict) and not column.begins.isdisjoint(item))
