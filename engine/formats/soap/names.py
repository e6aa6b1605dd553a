"""The namespaces and media types of SOAP and its extensions."""

from __future__ import annotations

import re
from typing import Final

SOAP11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP12: Final = "http://www.w3.org/2003/05/soap-envelope"
ENVELOPES: Final = {"1.1": SOAP11, "1.2": SOAP12}
VERSIONS: Final = {namespace: version for version, namespace in ENVELOPES.items()}

WSA: Final = "http://www.w3.org/2005/08/addressing"
WSA_2004: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
ANONYMOUS: Final = {WSA: f"{WSA}/anonymous", WSA_2004: f"{WSA_2004}/role/anonymous"}
NONE: Final = f"{WSA}/none"

XOP: Final = "http://www.w3.org/2004/08/xop/include"
XMIME: Final = "http://www.w3.org/2005/05/xmlmime"
XML: Final = "http://www.w3.org/XML/1998/namespace"

TEXT_XML: Final = "text/xml"
SOAP_XML: Final = "application/soap+xml"
XOP_XML: Final = "application/xop+xml"
RELATED: Final = "multipart/related"
MEDIA: Final = {"1.1": TEXT_XML, "1.2": SOAP_XML}


def qname(namespace: str, local: str) -> str:
    """A name as lxml writes it."""
    return f"{{{namespace}}}{local}"


def local(tag: str) -> str:
    """The local part of such a name."""
    return tag.rpartition("}")[2]


def namespace(tag: str) -> str:
    """Its namespace, "" where it has none."""
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""


_ILLEGAL: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def legal(text: str) -> str:
    """Without the characters that XML cannot have (XML 1.0 clause 2.2)."""
    return _ILLEGAL.sub("", text)
