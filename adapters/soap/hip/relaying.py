"""What a destination answered, as the answer of this endpoint: an HL7 v3 message, alone or in the SOAP answer of a platform. Pure."""

from __future__ import annotations

from typing import Any

from engine.errors import MessageError
from engine.formats import soap
from engine.formats.hip import call_of
from engine.formats.hip.calls import is_interaction
from engine.formats.xml import parse


def interaction(answer: bytes) -> Any:
    """The root element of the message, None where there is none."""
    try:
        root = parse(answer)
        if is_interaction(root):
            return root
        return call_of(soap.read(answer)).element
    except MessageError:
        return None


def encloses(answer: bytes, tag: str) -> bool:
    """Whether it is a SOAP envelope around an element of that name."""
    try:
        payload = soap.read(answer).payload
    except MessageError:
        return False
    return payload is not None and payload.tag == tag
