"""Databases: a source that polls tables, a destination that runs statements, capture of changes, and the platform's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.database.polling import checking, rehearsal
from adapters.database.polling.options import SOURCE
from adapters.database.polling.source import DatabaseSource
from adapters.database.statements.checking import check as check_statements
from adapters.database.statements.destination import DatabaseDestination
from adapters.database.statements.options import DESTINATION, content_paths
from engine.message import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.database.findings import Finding, Preview
    from engine.contracts import Context, Destination, Source
    from engine.message import Envelope, Judgement
    from engine.options import Settings, Spec


class DatabaseAdapter:
    """engine.contracts.Adapter: rows are polled, and written by statements."""

    name = "database"
    content_types = (ROWS,)
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = DESTINATION

    def source(self, options: Settings, context: Context) -> Source:
        return DatabaseSource(options, context)

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing: a record as its message."""
        return rehearsal.rehearse(options, body, peer)

    def check(self, options: Settings, context: Context, checkpoints: dict[str, str]) -> list[Finding]:
        """For `meridian db check`: its source against the real database. Changes nothing."""
        return checking.check(options, context, checkpoints)

    def check_destination(self, options: Settings, context: Context) -> list[Finding]:
        """The same for its destination."""
        return check_statements(options, context)

    def preview(self, options: Settings, context: Context, checkpoints: dict[str, str]) -> Preview:
        """For `meridian db preview`. Raises MeridianError."""
        return checking.preview(options, context, checkpoints)

    def destination(self, options: Settings, context: Context) -> Destination:
        return DatabaseDestination(options, context)

    def content_paths(self, options: Settings) -> Iterable[tuple[int, str]]:
        return content_paths(options)


adapter = DatabaseAdapter()
