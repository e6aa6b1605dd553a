"""Change capture: what a database's own log says of a table, each change once and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.database.capture import checking
from adapters.database.capture.options import SOURCE
from adapters.database.capture.source import CaptureSource
from engine.message import ROWS

if TYPE_CHECKING:
    from adapters.database.findings import Finding
    from engine.contracts import Context, Destination, Source
    from engine.options import Settings, Spec


class CaptureAdapter:
    """engine.contracts.Adapter: a source."""

    name = "database_capture"
    content_types = (ROWS,)
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = None

    def source(self, options: Settings, context: Context) -> Source:
        return CaptureSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        raise NotImplementedError

    def check(self, options: Settings, context: Context, checkpoints: dict[str, str]) -> list[Finding]:
        """For `meridian db check`: log, rights, tables. Changes nothing."""
        return checking.check(options, context, checkpoints)

    def create(self, options: Settings, context: Context) -> list[Finding]:
        """For `meridian db check --create`: publication and slot, where they are missing."""
        return checking.create(options, context)


adapter = CaptureAdapter()
