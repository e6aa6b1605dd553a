"""What a body holds: a whole SOAP message, or the bare message of a service; and which service that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import ParseError, UnsupportedError, ValidationError
from engine.formats.hip import SERVICES, Kind, Service, call_of
from engine.formats.hip.header import Header, child, header_of
from engine.formats.hip.services import has_path, local_name
from engine.formats.soap import LIMITS, SoapMessage
from engine.formats.soap import read as read_soap
from engine.formats.xml import parse
from engine.message import Excerpt
from mappings.hl7v2_to_fhir.context import clean

_SOAP: Final = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?[^>]*\?>\s*|<!--.*?-->\s*)*+<(?:[A-Za-z_][\w.-]*:)?Envelope[\s>/]", re.DOTALL)
_PARTED: Final = re.compile(rb"\AContent-Type:", re.IGNORECASE)
_OUTPATIENT: Final = {"1": "OutPatientInfo", "2": "OutPatientInfo", "3": "InPatientInfo"}
"""What the class of a visit says of which service a message is, where no action does: PRPA_IN400001UV is several services'."""


@dataclass(frozen=True, slots=True)
class Message:
    """`soap` is the SOAP message around it, None for a bare one."""

    service: Service
    element: Any
    header: Header
    soap: SoapMessage | None


def read(body: bytes, charset: str, actions: Mapping[str, str]) -> Message:
    """`charset` is what the transport said, `actions` are a site's words for services. Raises ParseError, UnsupportedError (a query or
    another message), ValidationError (whose it is cannot be told)."""
    action, element = "", None
    soap: SoapMessage | None = None
    if _PARTED.match(body) or _SOAP.match(body[: 1 << 16]):
        soap = read_soap(body, charset=charset)
    else:
        element = parse(_whole(body), LIMITS, charset)
        if local_name(element) == "Envelope":  # in an encoding in which the pattern does not see it
            soap = read_soap(body, charset=charset)
    if soap is not None:
        call = call_of(soap, limits=LIMITS)
        action, element = call.action, call.element
    service = _service(actions.get(action, action), element)
    if service.kind is Kind.QUERY:
        raise UnsupportedError(
            f"{service.name} asks for data: a query has nothing that could be mapped", location=service.root, hl7_code="200"
        )
    header = header_of(element)
    return Message(service, element, Header(*(clean(getattr(header, name)) for name in Header.__slots__)), soap)


def _whole(body: bytes) -> bytes:
    """A bare message that is a file is small enough for memory, or refused."""
    if not isinstance(body, Excerpt):
        return body
    if body.file.stat().st_size > LIMITS.size:
        raise ParseError(f"the XML document has more than {LIMITS.size} bytes")
    return body.file.read_bytes()


def _service(action: str, element: Any) -> Service:
    """By the action where it is one of this message's; else by what only one service has in it."""
    root = local_name(element)
    candidates = [service for service in SERVICES.values() if service.root == root]
    if not candidates:
        raise UnsupportedError("this is no message of a service of WS/T 846", location="root element", hl7_code="200")
    if named := next((service for service in candidates if service.name == action), None):
        return named
    signed = [service for service in candidates if service.sign and has_path(element, service.sign)]
    if len(signed) == 1:
        return signed[0]
    plain = [service for service in candidates if not service.sign] or candidates
    if len(plain) == 1 or all(service.kind is Kind.QUERY for service in plain):
        return plain[0]
    event = child(element, "controlActProcess/subject/encounterEvent")
    code = child(event, "code") if event is not None else None
    stem = _OUTPATIENT.get((code.get("code") or "").lstrip("0"), "") if code is not None else ""
    told = next((service for service in plain if stem and service.name.startswith(stem)), None)
    if told is None:
        unknown = "the action is no service, and in no row of actions.csv" if action else "no action"
        raise ValidationError(f"{unknown}, and {root} is the message of several services", location=root, hl7_code="200")
    return told
