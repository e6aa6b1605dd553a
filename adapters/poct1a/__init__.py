"""Point-of-care devices by POCT1-A2 (CLSI POCT01): source over TCP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.poct1a.conversation import Device, device_of
from adapters.poct1a.intake import envelope_of, unread
from adapters.poct1a.options import SOURCE
from adapters.poct1a.source import Poct1aSource
from engine.errors import ConfigError, ParseError
from engine.formats.poct1a import parse, split
from engine.message import POCT1A, Judgement, Verdict

if TYPE_CHECKING:
    from engine.contracts import Context, Destination
    from engine.message import Envelope
    from engine.options import Settings


class Poct1aAdapter:
    """engine.contracts.Adapter"""

    name = "poct1a"
    content_types = (POCT1A,)
    source_options = SOURCE
    destination_options = None

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing: `body` is a message, with its device's HEL.R01 before it or without."""
        hello, document = split(body)
        try:
            root = parse(document)
            device = device_of(parse(hello)) if hello else Device()
        except ParseError as error:
            return unread(body, peer, "", 0), Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location)
        return envelope_of(hello, document, root, device, peer, "", 0), None

    def source(self, options: Settings, context: Context) -> Poct1aSource:
        return Poct1aSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        raise ConfigError("poct1a cannot be a destination")


adapter = Poct1aAdapter()
