"""The call around a message: HIPMessageServer(action, message) of WS/T 846.1, in the ways vendors have built it.

The message travels as a string (escaped or CDATA, some within a second CDATA that is text itself), as a child element, or in base64
(also as an attachment, XOP). `Layout` says how one endpoint has it; `ANY` finds out, for whom reads what an endpoint has kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from engine.errors import ParseError
from engine.formats.hip.services import SERVICES, local_name
from engine.formats.soap import LIMITS
from engine.formats.xml import Limits, parse

if TYPE_CHECKING:
    from engine.formats.soap import SoapMessage

_INTERACTION: Final = re.compile(r"[A-Z]{4}_[IM][NT]\d{6}[A-Z]{2}\d{0,2}")
"""HL7 v3: the artifact name of an interaction (or message type), with its realm and version."""
_INCLUDE: Final = "{http://www.w3.org/2004/08/xop/include}Include"
_BASE64: Final = re.compile(r"\s*(?:77u/)?P[D-H][A-Za-z0-9+/\s]{60}")
"""Base64 of a text that begins with "<", after a byte order mark or without; no name of a service is that long."""
_CDATA: Final = re.compile(r"\A<!\[CDATA\[(.*)\]\]>\Z", re.DOTALL)


class Carried(StrEnum):
    """How the message travels in its parameter."""

    STRING = "string"
    INLINE = "inline"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the parameters as an endpoint has them, without namespaces; "" for any. `carried` None: whatever it is."""

    action: str = ""
    message: str = ""
    carried: Carried | None = None


ANY: Final = Layout()


@dataclass(frozen=True, slots=True)
class Call:
    """What was called: the action's word ("" where there is none) and the root element of the message."""

    action: str
    element: Any


def call_of(message: SoapMessage, layout: Layout = ANY, limits: Limits = LIMITS) -> Call:
    """The call in the body of `message`. Raises ParseError, in English and Chinese, where there is no readable message."""
    payload = message.payload
    if payload is None:
        raise ParseError("the SOAP body is empty SOAP消息体为空")
    if is_interaction(payload):
        return Call(_action_header(message), payload)  # document/literal of the bare message: the action stands in the transport
    parameter = _parameter(payload, layout)
    action = _action(payload, parameter, layout) or _action_header(message)
    return Call(action, _element(message, parameter, layout.carried, limits))


def is_interaction(element: Any) -> bool:
    """Whether an element is named as an interaction of HL7 v3 is."""
    return bool(_INTERACTION.fullmatch(local_name(element)))


def _action_header(message: SoapMessage) -> str:
    """wsa:Action where it is the name of a service (the last step of its URI)."""
    word = re.split(r"[/:#]", message.addressing.action or "")[-1]
    return word if word in SERVICES else ""


def _parameter(payload: Any, layout: Layout) -> Any:
    """The parameter that holds the message."""
    below = list(_below(payload))
    if layout.message:
        found = next((child for child in below if local_name(child) == layout.message), None)
        if found is None:
            raise ParseError(f"the parameter {layout.message!r} is missing 缺少参数 {layout.message}")
        return found
    found = next((child for child in below if _looks(child)), None)
    if found is None:
        raise ParseError("no parameter holds an HL7 v3 message 没有HL7 V3消息")
    return found


def _below(payload: Any) -> Iterator[Any]:
    """The parameters, and theirs where a vendor has put one element around all (``<input>``)."""
    for child in payload.iterchildren():
        yield child
        if not is_interaction(child):
            yield from child.iterchildren()


def _looks(parameter: Any) -> bool:
    if any(is_interaction(child) or child.tag == _INCLUDE for child in parameter.iterchildren()):
        return True
    text = (parameter.text or "").strip()
    return len(parameter) == 0 and (text.startswith("<") or bool(_BASE64.match(text)))


def _action(payload: Any, parameter: Any, layout: Layout) -> str:
    """The other parameter: by its name, or the first one that holds only a word."""
    others = [child for child in _below(payload) if child is not parameter and len(child) == 0 and child.getparent() is not parameter]
    named = [child for child in others if local_name(child) == layout.action] if layout.action else others
    return next(((child.text or "").strip() for child in named), "")


def _element(message: SoapMessage, parameter: Any, carried: Carried | None, limits: Limits) -> Any:
    inline = next((child for child in parameter.iterchildren() if child.tag != _INCLUDE), None)
    if inline is not None and carried in {None, Carried.INLINE}:
        return inline
    text = _unwrapped(parameter.text or "")
    if not text and len(parameter) == 0:
        raise ParseError("the message is empty 消息为空")
    if carried is Carried.INLINE:
        raise ParseError("the message is not an element of its parameter 消息不是参数的子元素")
    if carried is Carried.STRING or (carried is None and text.startswith("<")):
        if inline is not None:
            raise ParseError("the message is an element, its parameter is a string 消息应为字符串")
        return _parsed(text.encode("utf-8"), "utf-8", limits)
    part = message.content_of(parameter)
    if part.size > limits.size:  # it may be a file's, of gigabytes
        raise ParseError(f"the message has more than {limits.size} bytes 消息过大")
    return _parsed(bytes(part.content), "", limits)


def _unwrapped(text: str) -> str:
    """Without the blanks around it, and without a CDATA section that was escaped once more."""
    text = text.strip("\ufeff \t\r\n")
    doubled = _CDATA.match(text)
    return doubled.group(1).strip() if doubled else text


def _parsed(body: bytes, charset: str, limits: Limits) -> Any:
    """`charset` is known where the text was already characters: what its declaration says does not hold any more."""
    try:
        return parse(body, limits, charset)
    except ParseError as error:
        raise ParseError(f"the message is not readable 消息无法解析: {error.text}", location=error.location) from None
