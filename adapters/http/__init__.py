"""Plain HTTP: webhooks and other interfaces that POST, in and out.

options         what a channel file may say of the source
media, places   what is sent, and where it says what it is      (pure)
authentication/ who may post; how requests are signed
reading         a request as an envelope                        (pure)
permission      what a registered party may post                (pure)
answers         verdicts as answers                             (pure)
source          the listener
rehearsal       the source without a server, for channel tests  (pure)
client/         the destination
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from adapters.http.client.options import DESTINATION
from adapters.http.media import content_types
from adapters.http.options import SOURCE

if TYPE_CHECKING:
    from engine.contracts import Context, Destination, Source
    from engine.message import Envelope, Judgement, Parcel
    from engine.options import Settings, Spec


class HttpAdapter:
    """engine.contracts.Adapter: ``http``."""

    name = "http"
    content_types: Sequence[str] = ()
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = DESTINATION

    def gives(self, options: Settings) -> Sequence[str]:
        """engine.contracts.GivingByOptions"""
        return content_types(options.content or ())

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing"""
        from adapters.http.rehearsal import rehearse

        return rehearse(options, body, peer)

    def content_paths(self, options: Settings) -> Iterable[tuple[int, str]]:
        """engine.contracts.LookingInto"""
        from adapters.http.client.request import content_paths

        return content_paths(options)

    def word(self, options: Settings, parcel: Parcel) -> str:
        """engine.contracts.Wording"""
        from adapters.http.client.wording import word

        return word(options, parcel)

    def source(self, options: Settings, context: Context) -> Source:
        from adapters.http.source import HttpSource

        return HttpSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.http.client.destination import HttpDestination

        return HttpDestination(options, context)


adapter = HttpAdapter()
