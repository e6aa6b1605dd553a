"""WS-Addressing 1.0 (core and SOAP binding), and the member submission of August 2004 that older stacks still send.

A message has each header once, and an Action where it has any (SOAP binding clause 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lxml import etree

from engine.errors import ParseError
from engine.formats.soap.names import ANONYMOUS, NONE, WSA, WSA_2004, local, namespace, qname

ONCE: Final = ("To", "From", "ReplyTo", "FaultTo", "Action", "MessageID")
UNDERSTOOD: Final = (*ONCE, "RelatesTo")
FAULT_ACTION: Final = f"{WSA}/fault"
SOAP_FAULT_ACTION: Final = f"{WSA}/soap/fault"
_LONGEST: Final = 2048


class AddressingError(ParseError):
    """The headers break WS-Addressing. `subcode` and `subsubcode` are its names for that (SOAP binding clause 6.4), `header` that of the
    header at fault."""

    code = "message.addressing"

    def __init__(self, text: str, *, subcode: str, subsubcode: str = "", header: str = "") -> None:
        super().__init__(text, location=local(header))
        self.subcode, self.subsubcode, self.header = subcode, subsubcode, header


@dataclass(frozen=True, slots=True)
class Addressing:
    """What a message says; "" where it says nothing. `reply_to` and `fault_to` are addresses."""

    action: str = ""
    message_id: str = ""
    to: str = ""
    reply_to: str = ""
    fault_to: str = ""
    relates_to: str = ""
    namespace: str = ""

    @property
    def expected(self) -> bool:
        """Somebody reads the answer's headers, because the request had such."""
        return bool(self.namespace)

    @property
    def answers_here(self) -> bool:
        """The answer goes back on the connection that the message came by."""
        return self.reply_to in ("", ANONYMOUS.get(self.namespace, ""))

    @property
    def answers_nowhere(self) -> bool:
        """No answer is wanted."""
        return self.reply_to == NONE


def read_addressing(header: etree._Element | None) -> Addressing:
    """Raises AddressingError."""
    blocks = [child for child in header if namespace(child.tag) in (WSA, WSA_2004)] if header is not None else []
    used = {namespace(child.tag) for child in blocks if local(child.tag) in UNDERSTOOD}
    if not used:
        return Addressing()
    if len(used) > 1:
        raise AddressingError("the message has headers of two versions of WS-Addressing", subcode="InvalidAddressingHeader")
    (uri,) = used
    for name in ONCE:
        if sum(child.tag == qname(uri, name) for child in blocks) > 1:
            raise AddressingError(
                f"the header {name} is there twice",
                subcode="InvalidAddressingHeader",
                subsubcode="InvalidCardinality",
                header=qname(uri, name),
            )
    found = Addressing(
        action=_text(header, uri, "Action"),
        message_id=_text(header, uri, "MessageID"),
        to=_text(header, uri, "To"),
        reply_to=_address(header, uri, "ReplyTo"),
        fault_to=_address(header, uri, "FaultTo"),
        relates_to=_text(header, uri, "RelatesTo"),
        namespace=uri,
    )
    if not found.action:
        raise AddressingError("the header Action is missing", subcode="MessageAddressingHeaderRequired", header=qname(uri, "Action"))
    return found


def reply_headers(request: Addressing, action: str, message_id: str = "") -> list[etree._Element]:
    """The headers of an answer: Action, RelatesTo and, where wanted, a MessageID (core clause 3.4); none where the request had none."""
    if not request.expected:
        return []
    said = [("Action", action), ("MessageID", message_id), ("RelatesTo", request.message_id)]
    return [_block(request.namespace, name, text) for name, text in said if text]


def _block(uri: str, name: str, text: str) -> etree._Element:
    element = etree.Element(qname(uri, name), nsmap={"wsa": uri})
    element.text = text
    return element


def _text(header: etree._Element | None, uri: str, name: str) -> str:
    element = header.find(qname(uri, name)) if header is not None else None
    text = (element.text or "").strip() if element is not None else ""
    if len(text) > _LONGEST or (element is not None and len(element)):
        raise AddressingError(f"the header {name} is no address", subcode="InvalidAddressingHeader", header=qname(uri, name))
    return text


def _address(header: etree._Element | None, uri: str, name: str) -> str:
    endpoint = header.find(qname(uri, name)) if header is not None else None
    if endpoint is None:
        return ""
    address = _text(endpoint, uri, "Address")
    if not address:
        raise AddressingError(
            f"the header {name} has no Address",
            subcode="InvalidAddressingHeader",
            subsubcode="MissingAddressInEPR",
            header=qname(uri, name),
        )
    return address
