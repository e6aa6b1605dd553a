"""HL7 v2 over MLLP: source and destination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.mllp.destination import MllpDestination
from adapters.mllp.options import DESTINATION, SOURCE
from adapters.mllp.source import MllpSource
from engine.message import HL7V2

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings


class MllpAdapter:
    """engine.contracts.Adapter"""

    name = "mllp"
    content_types = (HL7V2,)
    source_options = SOURCE
    destination_options = DESTINATION

    def source(self, options: Settings, context: Context) -> MllpSource:
        return MllpSource(options, context)

    def destination(self, options: Settings, context: Context) -> MllpDestination:
        return MllpDestination(options, context)


adapter = MllpAdapter()
