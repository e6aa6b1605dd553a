"""Laboratory instruments by ASTM E1381/E1394 (CLSI LIS01-A2, LIS02-A2), over TCP and serial lines: source and destination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.astm.destination import AstmDestination
from adapters.astm.intake import Reader
from adapters.astm.options import DESTINATION, SOURCE
from adapters.astm.source import AstmSource
from engine.message import ASTM

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.message import Envelope, Judgement
    from engine.options import Settings


class AstmAdapter:
    """engine.contracts.Adapter"""

    name = "astm"
    content_types = (ASTM,)
    source_options = SOURCE
    destination_options = DESTINATION

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing: `body` is a message's records, without frames."""
        return Reader(options, lambda: 0).read(body.replace(b"\r\n", b"\r").replace(b"\n", b"\r"), peer, "")

    def source(self, options: Settings, context: Context) -> AstmSource:
        return AstmSource(options, context)

    def destination(self, options: Settings, context: Context) -> AstmDestination:
        return AstmDestination(options, context)


adapter = AstmAdapter()
