"""The WSDL of the Document Recipient: ITI-41 in our own words, complete in one file. The metadata's own schemas are OASIS' and IHE's."""

from __future__ import annotations

from importlib.resources import files
from xml.sax.saxutils import quoteattr


def document(address: str) -> bytes:
    """With `address` as that of the endpoint."""
    text = files("adapters.soap.xdr").joinpath("service.wsdl").read_text("utf-8")
    return text.replace('"ADDRESS"', quoteattr(address)).encode()


def schema(name: str) -> bytes | None:
    """There is none apart."""
    return None
