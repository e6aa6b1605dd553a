"""What a client must know of a message that it sends, without a socket: which answer will be its own, and whether one will come."""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import ParseError
from engine.formats.hl7v2 import read_header
from engine.formats.hl7v2.acknowledgment import wanted


class Outgoing(NamedTuple):
    """`control_id` is MSH-10 (an acknowledgment repeats it in MSA-2); `asks`: whether a positive answer is to come (MSH-15, MSH-16)."""

    control_id: str
    asks: bool


def read_outgoing(body: bytes, control_id: str) -> Outgoing:
    """On the hot path, so only as much is read as is needed. `control_id` stands in where the body shows none."""
    msh = body[: body.find(b"\r")]
    if msh[:3] == b"MSH" and msh.isascii():
        fields = msh[4:].decode("ascii").split(chr(msh[3]), 15)  # fields[n] is MSH-(n + 2)
        own = fields[8] if len(fields) > 8 else ""
        accept = fields[13] if len(fields) > 13 else ""
        application = fields[14] if len(fields) > 14 else ""
    else:
        try:
            header = read_header(body)
        except ParseError:
            return Outgoing(control_id, True)
        own, accept, application = header.control_id, header.accept_ack, header.application_ack
    original_mode = not (accept or application)
    return Outgoing(own or control_id, original_mode or wanted(accept, True) or wanted(application, True))
