"""A request as it goes onto the wire: the envelope alone, or an XOP package of it and its attachments (MTOM). Pure but for their files.

Sources: SOAP 1.1 clause 6.1.1 (SOAPAction); SOAP 1.2 part 2 clause 7.1.4 and RFC 3902 (action); XOP 1.0 clause 3 (packages).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from lxml import etree

from adapters.soap.client.content import Blob
from engine.formats.soap import Attachment, Package, content_type, include, package
from engine.formats.soap.names import MEDIA, RELATED


@dataclass(frozen=True, slots=True)
class Held:
    """Binary content of `element`: in base64 within it, or beside the envelope as the part `content_id`."""

    element: etree._Element
    blob: Blob
    content_id: str = field(default_factory=lambda: f"{secrets.token_hex(12)}@meridian")

    def inline(self) -> None:
        """Raises PermanentDelivery where it is too big."""
        text = self.blob.base64()
        self._clear()
        self.element.text = text

    def refer(self) -> None:
        self._clear()
        self.element.append(include(self.content_id))

    def _clear(self) -> None:
        self.element.text = None
        for child in list(self.element):
            self.element.remove(child)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A finished request. `headers` are HTTP's."""

    headers: dict[str, str]
    package: Package


def outgoing(version: str, soap_action: str, envelope: etree._Element, parts: Sequence[Held]) -> Outgoing:
    """Each of `parts` has been referred to in the envelope."""
    written: bytes = etree.tostring(envelope, encoding="UTF-8", xml_declaration=True)
    if parts:
        attachments = [Attachment(one.content_id, one.blob.content_type, one.blob.content) for one in parts]
        made = package(version, written, attachments, secrets.token_hex(16), soap_action)  # not to be guessed by who makes the content
    else:
        made = Package(content_type(version, soap_action), [written])
    headers = {"Content-Type": made.content_type, "Content-Length": str(made.length), "Accept": f"{MEDIA[version]}, {RELATED}"}
    headers["Accept-Encoding"] = "gzip"
    if version == "1.1":
        headers["SOAPAction"] = f'"{soap_action}"'
    return Outgoing(headers, made)
