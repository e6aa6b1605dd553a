"""WS-Security for the client's requests, with what goes wrong in the words of a delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml import etree

from adapters.soap.client.request import Secure
from adapters.soap.security import outgoing
from adapters.soap.security.canonical import ContentOf
from adapters.soap.security.refusal import Refusal
from engine.errors import ConfigError, PermanentDelivery, TransientDelivery

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings


def secure(options: Settings, context: Context) -> Secure:
    """Raises ConfigError. A key or password that is gone later is an operator's matter, and the messages wait for it."""
    made = outgoing(options, context)

    def add(envelope: etree._Element, content_of: ContentOf) -> None:
        try:
            made.secure(envelope, content_of)
        except ConfigError as error:
            raise TransientDelivery(f"the request cannot be signed: {error}", whole_destination=True) from None
        except Refusal as refusal:
            raise PermanentDelivery(f"the request cannot be signed: {refusal.text}") from None

    return add
