"""SOAP 1.1 and 1.2 over HTTP, with MTOM, WS-Addressing and WS-Security.

service            what an endpoint's service is                                        (pure)
binding            what the head of a request says                                      (pure)
reading, answers   from a body to what is kept; from what is committed to an answer     (pure, in threads)
incoming           a body on its way in
source             the listener
options            what all endpoints have in common
imports            a WSDL with what it imports, out of files          (pure, but for files)
rehearsal          a source without a server, for channel tests
generic/           the endpoint ``soap``: a service out of a WSDL
security/          WS-Security of what comes and of what goes
client/            the destination ``soap``: zeep with the WSDL in the site
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.soap.client.options import DESTINATION
from adapters.soap.generic.options import SOURCE
from engine.message import SOAP

if TYPE_CHECKING:
    from engine.contracts import Context, Destination, Source
    from engine.message import Envelope, Judgement, Parcel
    from engine.options import Settings, Spec


class SoapAdapter:
    """engine.contracts.Adapter: ``soap``."""

    name = "soap"
    content_types: Sequence[str] = (SOAP,)
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = DESTINATION

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing"""
        from adapters.soap.generic.service import GenericService
        from adapters.soap.rehearsal import rehearse

        return rehearse(options, GenericService(options, lambda: "1", lambda: 0), body, peer)

    def word(self, options: Settings, parcel: Parcel) -> str:
        """engine.contracts.Wording"""
        from adapters.soap.client.wording import word

        return word(options, parcel)

    def source(self, options: Settings, context: Context) -> Source:
        from adapters.soap.generic.service import GenericService
        from adapters.soap.source import SoapSource

        return SoapSource(options, context, GenericService(options, context.new_id, context.clock))

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.soap.client.destination import SoapDestination

        return SoapDestination(options, context)


adapter = SoapAdapter()
