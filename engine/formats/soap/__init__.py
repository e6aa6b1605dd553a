"""SOAP 1.1 and 1.2 messages, with attachments as MTOM/XOP has them, with WS-Addressing; no socket.

names, media    namespaces; media types with their parameters
parts           multipart messages, cut without copying: attachments are views of a file
message         an envelope with its header, body, references to parts
addressing      WS-Addressing headers, read and answered
faults          faults of both versions
writing         envelopes, and MTOM packages out of files
codec           paths for filters and routes

How one is kept (engine.message.SOAP): plain XML as the HTTP body came; a multipart one with the line ``Content-Type: …`` and an empty line
before it.
"""

from __future__ import annotations

from engine.formats.soap.addressing import Addressing, AddressingError, reply_headers
from engine.formats.soap.codec import SoapCodec, SoapDocument, codec, value_at
from engine.formats.soap.faults import (
    MUST_UNDERSTAND,
    RECEIVER,
    SENDER,
    VERSION_MISMATCH,
    SoapFault,
    addressing_fault,
    must_understand,
    read_fault,
    version_mismatch,
)
from engine.formats.soap.message import LIMITS, SoapMessage, UnknownVersion, canonical_form, content_digest, read
from engine.formats.soap.parts import Part, Parts, kept_form
from engine.formats.soap.writing import Attachment, FilePart, Package, content_type, envelope, fault_envelope, include, package

__all__ = [
    "LIMITS",
    "MUST_UNDERSTAND",
    "RECEIVER",
    "SENDER",
    "VERSION_MISMATCH",
    "Addressing",
    "AddressingError",
    "Attachment",
    "FilePart",
    "Package",
    "Part",
    "Parts",
    "SoapCodec",
    "SoapDocument",
    "SoapFault",
    "SoapMessage",
    "UnknownVersion",
    "addressing_fault",
    "canonical_form",
    "codec",
    "content_digest",
    "content_type",
    "envelope",
    "fault_envelope",
    "include",
    "kept_form",
    "must_understand",
    "package",
    "read",
    "read_fault",
    "reply_headers",
    "value_at",
    "version_mismatch",
]
