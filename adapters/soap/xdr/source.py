"""The source `xdr`: a Document Recipient (IHE ITI-41) on the SOAP source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.soap.source import SoapSource
from adapters.soap.xdr.book import DocumentBook
from adapters.soap.xdr.recipient import DocumentRecipient

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings


class RecipientSource(SoapSource):
    """engine.contracts.Source"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._book = DocumentBook(context.data / options.documents)
        service = DocumentRecipient(self._book, options.metadata == "limited", options.cda)
        super().__init__(options, context, service)

    def _stopped(self, result: Any) -> None:
        self._book.close()
        super()._stopped(result)
