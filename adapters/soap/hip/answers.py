"""The answer of the hospital platform: MCCI_IN000002UV01 (WS/T 846.1) with AA or AE, the message it answers, and why; and how a style
carries it. Pure.

There is no AR: whoever is not served hears AE too. `acceptAckCode` does not change anything here: an HTTP request is answered whatever
it says (NE is meant for a transport that can be silent), and a sender who wants no answer need not read it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from adapters.soap.hip.style import Style
from engine.formats.hip import Header
from engine.formats.hip.header import DEVICE_ID, INTERACTION_ID, MESSAGE_ID
from engine.message import Judgement, Verdict

HL7: Final = "urn:hl7-org:v3"
ACKNOWLEDGEMENT: Final = "MCCI_IN000002UV01"
DONE: Final = "accepted 处理成功"
UNAVAILABLE: Final = "cannot be kept now, send it again 暂时无法接收，请稍后重发"
USED_BEFORE: Final = "205"
"""HL7 table 0357, as engine.pipeline has it of an idempotency key; its location there is one of HL7 v2."""
_MOST_TEXT: Final = 2000


@dataclass(frozen=True, slots=True)
class Acknowledging:
    """What an answer says of itself: `id`, `created` (YYYYMMDDhhmmss), and the device that answers."""

    id: str
    created: str
    device: str


def acknowledgement(said: Acknowledging, request: Header, judgement: Judgement, done: str = DONE) -> Any:
    """The element of an answer to the message with header `request`."""
    accepted = judgement.verdict is Verdict.ACCEPTED
    root = etree.Element(f"{{{HL7}}}{ACKNOWLEDGEMENT}", {"ITSVersion": "XML_1.0"}, nsmap={None: HL7})
    _add(root, "id", root=MESSAGE_ID, extension=said.id)
    _add(root, "creationTime", value=said.created)
    _add(root, "interactionId", root=INTERACTION_ID, extension=ACKNOWLEDGEMENT)
    _add(root, "processingCode", code=request.processing_code or "P")
    _add(root, "processingModeCode")
    _add(root, "acceptAckCode", code="NE")
    _device(root, "receiver", "RCV", request.sender)
    _device(root, "sender", "SND", said.device or request.receiver)
    acknowledged = _add(root, "acknowledgement", typeCode="AA" if accepted else "AE")
    _add(_add(acknowledged, "targetMessage"), "id", root=request.id_root or MESSAGE_ID, extension=request.id)
    _add(_add(acknowledged, "acknowledgementDetail"), "text", value=done if accepted else _reason(judgement))
    return root


def _reason(judgement: Judgement) -> str:
    if judgement.verdict is Verdict.UNAVAILABLE:
        return UNAVAILABLE
    if judgement.hl7_code == USED_BEFORE:
        return "the message id was used before for another message 消息流水号已被其他消息使用 [id/@extension]"
    reason = judgement.reason or "refused 拒绝接收"
    where = f" [{judgement.location}]" if judgement.location and judgement.location not in reason else ""
    return f"{reason}{where}"[:_MOST_TEXT]


def _add(parent: Any, name: str, **attributes: str) -> Any:
    return etree.SubElement(parent, f"{{{HL7}}}{name}", attributes)


def _device(root: Any, role: str, type_code: str, device: str) -> None:
    found = _add(_add(root, role, typeCode=type_code), "device", classCode="DEV", determinerCode="INSTANCE")
    _add(_add(found, "id"), "item", root=DEVICE_ID, extension=device)


def response(style: Style, answer: Any) -> Any:
    """The payload of the SOAP answer: `answer` (an element) in the style's result."""
    root = etree.Element(f"{{{style.namespace}}}{style.response}", nsmap={None if style.qualified else "hip": style.namespace})
    result = etree.SubElement(root, f"{{{style.namespace}}}{style.result}" if _qualified(style) else style.result)
    if style.answer_as == "inline":
        result.append(answer)
        return root
    written = etree.tostring(answer, encoding="UTF-8", xml_declaration=style.answer_as == "base64")
    if style.answer_as == "base64":
        result.text = base64.b64encode(written).decode("ascii")
    else:
        text = written.decode("utf-8")
        result.text = etree.CDATA(text) if style.answer_as == "cdata" and "]]>" not in text else text
    return root


def _qualified(style: Style) -> bool:
    """Parts of an RPC answer are in no namespace (WS-I BP R2735)."""
    return style.qualified and style.binding == "document"
