"""What the laboratory is to measure: keeps orders, answers instruments that ask for them (host query), sends them out as work orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.worklist.destination import WorklistDestination
from adapters.worklist.options import DESTINATION, SOURCE
from adapters.worklist.source import WorkOrderSource
from engine.message import ASTM, HL7V2

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings


class WorklistAdapter:
    """engine.contracts.Adapter"""

    name = "worklist"
    content_types = (HL7V2, ASTM)
    source_options = SOURCE
    destination_options = DESTINATION

    def source(self, options: Settings, context: Context) -> WorkOrderSource:
        return WorkOrderSource(options, context)

    def destination(self, options: Settings, context: Context) -> WorklistDestination:
        return WorklistDestination(options, context)


adapter = WorklistAdapter()
