"""HL7 v2 over MLLP: source and destination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.mllp.destination import MllpDestination
from adapters.mllp.intake import Reader
from adapters.mllp.options import DESTINATION, SOURCE
from adapters.mllp.source import MllpSource
from engine.message import HL7V2

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.message import Envelope, Judgement
    from engine.options import Settings


class MllpAdapter:
    """engine.contracts.Adapter"""

    name = "mllp"
    content_types = (HL7V2,)
    source_options = SOURCE
    destination_options = DESTINATION

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing"""
        received = Reader(options, lambda: 0, lambda: "REHEARSAL").read(body, peer, "")
        return received.envelope, received.invalid

    def source(self, options: Settings, context: Context) -> MllpSource:
        return MllpSource(options, context)

    def destination(self, options: Settings, context: Context) -> MllpDestination:
        return MllpDestination(options, context)


adapter = MllpAdapter()
