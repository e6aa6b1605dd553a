"""IHE document sharing.

recipient      what a Provide and Register request says, and how it is answered (ITI-41)                  (pure)
book           the documents that were taken before
wsdl           the endpoint's description                                                                  (pure)
source         the endpoint ``xdr``: Document Recipient
destination    ``xdr``: Document Source
outgoing       the metadata of what it submits; from_fhir, from_cda, relay: where that comes from         (pure)
exchange       one SOAP request and its answer
consumer       the source ``xds``: Document Consumer (ITI-18, ITI-43); asking, seen, composing: its parts
options        what a channel file may say
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.soap.xdr.options import CONSUMER, DESTINATION, SOURCE
from engine.message import CDA, FHIR_JSON, SOAP

if TYPE_CHECKING:
    from engine.contracts import Context, Destination, Source
    from engine.message import Envelope, Judgement
    from engine.options import Settings, Spec


class XdrAdapter:
    """engine.contracts.Adapter: ``xdr``."""

    name = "xdr"
    content_types: Sequence[str] = (SOAP, FHIR_JSON, CDA)
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = DESTINATION

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing: every document is a new one."""
        from adapters.soap.rehearsal import rehearse
        from adapters.soap.xdr.recipient import DocumentRecipient, Forgetful

        return rehearse(options, DocumentRecipient(Forgetful(), options.metadata == "limited", options.cda), body, peer)

    def source(self, options: Settings, context: Context) -> Source:
        from adapters.soap.xdr.source import RecipientSource

        return RecipientSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.soap.xdr.destination import DocumentSource

        return DocumentSource(options, context)


class XdsAdapter:
    """engine.contracts.Adapter: ``xds``."""

    name = "xds"
    content_types: Sequence[str] = (SOAP,)
    source_options: Spec | None = CONSUMER
    destination_options: Spec | None = None

    def source(self, options: Settings, context: Context) -> Source:
        from adapters.soap.xdr.consumer import DocumentConsumer

        return DocumentConsumer(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        raise NotImplementedError("xds is a source")


adapter = XdrAdapter()
xds_adapter = XdsAdapter()
