"""Base64 as XML carries it: with white space (xsd:base64Binary), and nothing else that does not belong."""

from __future__ import annotations

import binascii
from base64 import b64decode

from adapters.soap.security.refusal import Code, Refusal


def decoded(text: str, fault: Code, what: str) -> bytes:
    """Raises Refusal with `fault` where `what` is empty or no base64."""
    try:
        content = b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise Refusal(fault, f"{what} is no base64")
    return content
