"""What the source makes of a body, without a server: for a channel's tests. Nobody's token or signature is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.http.media import Medium, guessed
from adapters.http.reading import Arrived, Reading

if TYPE_CHECKING:
    from engine.message import Envelope, Judgement
    from engine.options import Settings


def rehearse(options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
    """As it would be posted to `base`, with no header fields of its own."""
    content_type = guessed(body, options.content)
    arrived = Arrived("POST", "", "", {}, Medium(content_type, content_type), peer, peer, "", 0)
    return Reading(options, arrived, body).envelope()
