"""Namespaces and URIs of WSS: SOAP Message Security 1.1, X.509 Token Profile 1.1, UsernameToken Profile 1.1, XML Signature 1.1."""

from __future__ import annotations

from typing import Final

_WSS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
WSSE: Final = _WSS + "wssecurity-secext-1.0.xsd"
WSU: Final = _WSS + "wssecurity-utility-1.0.xsd"
DS: Final = "http://www.w3.org/2000/09/xmldsig#"
EXCLUSIVE_C14N: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED: Final = DS + "enveloped-signature"
XOP_INCLUDE: Final = "{http://www.w3.org/2004/08/xop/include}Include"
ADDRESSING: Final = ("http://www.w3.org/2005/08/addressing", "http://schemas.xmlsoap.org/ws/2004/08/addressing")

SOAP_11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12: Final = "http://www.w3.org/2003/05/soap-envelope"
ROLE: Final = {SOAP_11: f"{{{SOAP_11}}}actor", SOAP_12: f"{{{SOAP_12}}}role"}
ULTIMATE_RECEIVER: Final = SOAP_12 + "/role/ultimateReceiver"

BASE64: Final = _WSS + "soap-message-security-1.0#Base64Binary"
X509V3: Final = _WSS + "x509-token-profile-1.0#X509v3"
KEY_IDENTIFIERS: Final = (
    _WSS + "x509-token-profile-1.0#X509SubjectKeyIdentifier",
    _WSS + "x509-token-profile-1.0#X509v3SubjectKeyIdentifier",
)
THUMBPRINT: Final = "http://docs.oasis-open.org/wss/oasis-wss-soap-message-security-1.1#ThumbprintSHA1"
PASSWORD_TEXT: Final = _WSS + "username-token-profile-1.0#PasswordText"
PASSWORD_DIGEST: Final = _WSS + "username-token-profile-1.0#PasswordDigest"


def wsse(name: str) -> str:
    return f"{{{WSSE}}}{name}"


def wsu(name: str) -> str:
    return f"{{{WSU}}}{name}"


def ds(name: str) -> str:
    return f"{{{DS}}}{name}"
