"""SOAP 1.1 and 1.2 over HTTP.

service    what an endpoint's service is    (pure)
security   WS-Security
client     the destination: zeep with the WSDL in the site
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.soap.client.options import DESTINATION

if TYPE_CHECKING:
    from engine.contracts import Context, Destination, Source
    from engine.options import Settings, Spec


class SoapAdapter:
    """engine.contracts.Adapter: ``soap``."""

    name = "soap"
    content_types: Sequence[str] = ()
    source_options: Spec | None = None
    destination_options: Spec | None = DESTINATION

    def source(self, options: Settings, context: Context) -> Source:
        raise NotImplementedError("soap is a destination")

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.soap.client.destination import SoapDestination

        return SoapDestination(options, context)


adapter = SoapAdapter()
