"""What a source makes of a body, without a server: for a channel's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.soap.binding import Binding
from adapters.soap.reading import Arrived, Rules, envelope, reading
from engine.formats.xml import Limits
from engine.message import SOAP, Envelope, Judgement, Verdict

if TYPE_CHECKING:
    from adapters.soap.service import Service
    from engine.options import Settings


def rehearse(options: Settings, service: Service, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
    """`body` is in the form in which messages are kept. Nobody's signature is looked at: `peer` is who it would have proven."""
    rules = Rules(tuple(options.versions), Limits(size=options.most_envelope, depth=options.most_depth))
    arrived = Arrived(Binding(""), peer)
    found = reading(body, arrived, rules, service, None)
    if found.examined is not None:
        return envelope(body, found, arrived), found.examined.judgement
    assert found.fault is not None
    fault = found.fault
    return Envelope(body, SOAP, peer=peer), Judgement(Verdict.INVALID, fault.text, fault.hl7_code, fault.location)
