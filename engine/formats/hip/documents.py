"""The document inside DocumentRegister (WS/T 846.6): base64 in ``storageCode/originalText/@value``, described by ``clinicalDocument``."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from engine.errors import ParseError
from engine.formats.hip.header import Identifier, attribute, child, identifiers, patients_of

REGISTER = "DocumentRegister"
_WHERE = "controlActProcess/subject/clinicalDocument"
_CONTENT = "storageCode/originalText"


@dataclass(frozen=True, slots=True)
class Registered:
    """What the message says of its document. `time` is as written; `format` is what ``storageCode/translation`` says."""

    ids: tuple[Identifier, ...]
    code: str
    code_system: str
    name: str
    time: str
    version: str
    confidentiality: str
    format: str
    patients: tuple[Identifier, ...]
    content: str

    def decoded(self) -> bytes:
        """The document. Raises ParseError, in English and Chinese."""
        try:
            return base64.b64decode("".join(self.content.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ParseError("the document is not base64 文档不是base64编码", location=f"{_WHERE}/{_CONTENT}") from None


def registered(element: Any) -> Registered:
    """Of a DocumentRegister message. Raises ParseError where it has no document."""
    described = child(element, _WHERE)
    content = child(described, _CONTENT) if described is not None else None
    text = (content.get("value") or content.text or "") if content is not None else ""
    if described is None or not text.strip():
        raise ParseError("the message holds no document 消息中没有文档", location=f"{_WHERE}/{_CONTENT}")
    translation = child(described, "storageCode/translation")
    return Registered(
        ids=tuple(one for one in identifiers(described) if one.extension or one.root),
        code=attribute(described, "code", "code"),
        code_system=attribute(described, "code", "codeSystem"),
        name=attribute(described, "code/displayName", "value"),
        time=attribute(described, "effectiveTime", "value"),
        version=attribute(described, "versionNumber", "value"),
        confidentiality=attribute(described, "confidentialityCode", "code"),
        format="" if translation is None else (translation.get("value") or translation.get("code") or translation.text or "").strip(),
        patients=patients_of(described),
        content=text,
    )
