"""The hospital platform's service (WS/T 846-2024): HIPMessageServer as the vendors have built it, an endpoint on the SOAP source.

style, styles/   what vendors do differently             (pure)
wsdl             the description made from a style       (pure)
service          a call: read, checked, answered         (pure, in threads)
schemas          the standard's schemas, from the site
documents        a registered document and its message   (pure)
examination      what `meridian check` and `doctor` look at
answers, relaying  MCCI_IN000002UV01; a destination's answer as ours (pure)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.soap.hip.options import SOURCE, for_the_source
from engine.errors import ConfigError
from engine.message import SOAP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.contracts import Context, Destination, Source
    from engine.examination import Finding, View
    from engine.message import Envelope, Judgement
    from engine.options import Settings, Spec


class HipAdapter:
    """engine.contracts.Adapter: ``hip``."""

    name = "hip"
    content_types: Sequence[str] = (SOAP,)
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = None

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing. In a channel's tests a query is taken: whether a destination answers it is not seen here."""
        from adapters.soap.hip.rehearsing import service
        from adapters.soap.rehearsal import rehearse

        options = for_the_source(options)
        return rehearse(options, service(options), body, peer)

    def examine_site(self, options: Settings, view: View) -> Iterable[Finding]:
        """engine.examination.Examining"""
        from adapters.soap.hip.examination import examine

        return examine(options)

    def source(self, options: Settings, context: Context) -> Source:
        from adapters.soap.hip.service import HipService
        from adapters.soap.source import SoapSource

        options = for_the_source(options)
        return SoapSource(options, context, HipService(options, context))

    def destination(self, options: Settings, context: Context) -> Destination:
        raise ConfigError("hip cannot be a destination: use soap")


adapter = HipAdapter()
