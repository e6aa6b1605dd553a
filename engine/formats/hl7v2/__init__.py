"""HL7 v2 in ER7 form (delimiters): decode, address, change, encode; headers, acknowledgments, batches, conformance."""

from engine.formats.hl7v2.acknowledgment import Acknowledgement, acknowledge
from engine.formats.hl7v2.header import Header, read_header
from engine.formats.hl7v2.message import NULL, Message, Segment, codec, decode
from engine.formats.hl7v2.paths import Path, parse_path
from engine.formats.hl7v2.separators import Separators

__all__ = [
    "NULL",
    "Acknowledgement",
    "Header",
    "Message",
    "Path",
    "Segment",
    "Separators",
    "acknowledge",
    "codec",
    "decode",
    "parse_path",
    "read_header",
]
