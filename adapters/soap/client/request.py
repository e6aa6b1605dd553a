"""Builds one request: the body from a template or from the content as it came, headers, attachments, signature. Runs in a thread.

What is signed is the infoset: an attachment is digested as the base64 that it stands for, piece by piece, so that it is never in memory
(XOP 1.0 clause 5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Final
from urllib.parse import unquote

from lxml import etree

from adapters.soap.client.content import Blob, Content
from adapters.soap.client.packaging import Held, Outgoing, outgoing
from adapters.soap.client.pinned import Description, Operation
from adapters.soap.client.template import Template
from adapters.soap.security.canonical import ContentOf
from engine.errors import ParseError, PermanentDelivery
from engine.formats.soap import FilePart, Part, SoapMessage, read
from engine.formats.soap.names import ANONYMOUS, ENVELOPES, WSA, XOP, namespace, qname
from engine.message import Excerpt

_INCLUDE: Final = qname(XOP, "Include")
_UNEXPECTED: Final = re.compile(r"got an unexpected keyword argument '([^']*)'")
_PREFIX: Final = {"1.1": "soap", "1.2": "env"}

Secure = Callable[[etree._Element, ContentOf], None]
"""Adds a Security header to an envelope of which nothing is changed any more."""


class Requests:
    """`body` is None where the content goes as it came. `addressed_to` is the address in wsa:To, "" for no WS-Addressing; content from
    `threshold` bytes on goes beside the envelope, None for none. `secure` may be set later."""

    def __init__(
        self,
        description: Description,
        operations: Sequence[Operation],
        version: str,
        *,
        body: Template | None,
        headers: Sequence[Template] = (),
        addressed_to: str = "",
        threshold: int | None = None,
        secure: Secure | None = None,
    ) -> None:
        self._description, self._operations, self._version = description, operations, version
        self._body, self._headers, self._to = body, headers, addressed_to
        self._threshold, self.secure = threshold, secure

    def build(self, content: Content) -> tuple[Outgoing, Operation]:
        """Raises PermanentDelivery."""
        held: list[Held] = []
        operation, envelope = self._envelope(content, held)
        self._add_headers(envelope, operation, content)
        held += self._marked(envelope, content)
        beside = []
        for one in held:
            if self._threshold is not None and one.blob.size >= self._threshold:
                one.refer()
                beside.append(one)
            else:
                one.inline()
        if self.secure is not None:
            parts = {one.content_id: one.blob for one in beside}
            self.secure(envelope, lambda element: parts[unquote(str(element.get("href")).removeprefix("cid:"))].pieces())
        action = operation.soap_action or (operation.action if self._to else "")
        return outgoing(self._version, action, envelope, beside), operation

    # --- body ------------------------------------------------------------------------------------

    def _envelope(self, content: Content, held: list[Held]) -> tuple[Operation, etree._Element]:
        if self._body is None:
            payload = self._as_it_came(content, held)
            return self._operation_for(payload), self._around(payload)
        filled = self._body.fill(content.value)
        if isinstance(filled, etree._Element):
            return self._operation_for(filled), self._around(filled)
        return self._operations[0], self.worded(filled)

    def worded(self, parameters: dict[str, Any]) -> etree._Element:
        """An envelope of the first operation by zeep. Raises PermanentDelivery."""
        from zeep.exceptions import Error

        operation = self._operations[0]
        try:
            with self._description.lock:
                return operation.bound.create(**parameters).content
        except Error as error:
            raise PermanentDelivery(f"the request is not what the WSDL asks for: {error}", location=operation.name) from None
        except TypeError as error:
            raise PermanentDelivery(f"the request is not what the WSDL asks for: {_in_words(error)}", location=operation.name) from None
        except (ValueError, AttributeError, LookupError):  # their texts repeat values
            raise PermanentDelivery("a value in the request is not of the type that the WSDL asks for", location=operation.name) from None

    def _around(self, payload: etree._Element) -> etree._Element:
        uri = ENVELOPES[self._version]
        root = etree.Element(qname(uri, "Envelope"), nsmap={_PREFIX[self._version]: uri})
        etree.SubElement(root, qname(uri, "Body")).append(payload)
        return root

    def _operation_for(self, payload: etree._Element) -> Operation:
        for operation in self._operations:
            if operation.root in ("", payload.tag):
                return operation
        wanted = ", ".join(operation.root for operation in self._operations)
        raise PermanentDelivery(f"the WSDL asks for the element {wanted} in the Body, and this is {payload.tag}"[:500])

    def _as_it_came(self, content: Content, held: list[Held]) -> etree._Element:
        if not content.is_soap:
            return content.element()
        try:
            message = read(content.body)
        except ParseError as error:
            raise PermanentDelivery(f"the SOAP message cannot be read: {error.text}", location=error.location) from None
        if message.payload is None:
            raise PermanentDelivery("the SOAP message has an empty Body")
        payload: etree._Element = deepcopy(message.payload)
        held += self._parts_of(payload, message, content.body)
        return payload

    @staticmethod
    def _parts_of(payload: etree._Element, message: SoapMessage, body: bytes) -> Iterator[Held]:
        file = body.file if isinstance(body, Excerpt) else None
        for element in list(payload.iter(_INCLUDE)):
            holder = element.getparent()
            part = message.content_of(holder)
            content: bytes | FilePart = FilePart(file, part.offset, part.size) if _in_file(file, part) else bytes(part.content)  # type: ignore[arg-type]
            yield Held(holder, Blob(content, part.content_type or "application/octet-stream"), part.content_id)

    def _marked(self, envelope: etree._Element, content: Content) -> Iterator[Held]:
        """Puts the whole content where a template has it; what is binary is held. Raises PermanentDelivery."""
        missed = set(content.markers)
        for element in list(envelope.iter()) if missed else ():
            marker = element.text or ""
            form = content.markers.get(marker)
            missed.discard(marker)
            if form == "text":
                element.text = content.text()
            elif form == "xml":
                element.text = None
                element.append(content.element())
            elif form is not None:
                yield Held(element, content.blob())
        if missed:
            raise PermanentDelivery("the WSDL has no element where the template has the content: it cannot be in an attribute")

    # --- headers ---------------------------------------------------------------------------------

    def _add_headers(self, envelope: etree._Element, operation: Operation, content: Content) -> None:
        blocks = [template.fill(content.value) for template in self._headers]
        if self._to:
            blocks += self._addressing(operation, content.message_id)
        if not blocks:
            return
        uri = namespace(str(envelope.tag))
        header = envelope.find(qname(uri, "Header"))
        if header is None:
            header = etree.Element(qname(uri, "Header"))
            envelope.insert(0, header)
        header.extend(blocks)

    def _addressing(self, operation: Operation, message_id: str) -> Iterator[etree._Element]:
        """WS-Addressing 1.0 core clause 3.2."""
        for name, text in (("Action", operation.action), ("MessageID", message_id), ("To", self._to)):
            yield _block(name, text)
        reply_to = etree.Element(qname(WSA, "ReplyTo"), nsmap={"wsa": WSA})
        reply_to.append(_block("Address", ANONYMOUS[WSA]))
        yield reply_to


def _in_words(error: TypeError) -> str:
    """zeep's complaint about parameters: `NAME() got an unexpected keyword argument 'X'. Signature: `…``."""
    words, _, signature = str(error).partition(". Signature:")
    unknown = _UNEXPECTED.search(words)
    if unknown is None:
        return words
    return f"it has no parameter {unknown[1]!r}; it has {signature.strip().strip('`') or 'none'}"


def _block(name: str, text: str) -> etree._Element:
    element = etree.Element(qname(WSA, name), nsmap={"wsa": WSA})
    element.text = text
    return element


def _in_file(file: Any, part: Part) -> bool:
    """Whether the part is as it lies there, and not decoded."""
    return file is not None and part.body is not None
