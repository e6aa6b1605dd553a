"""A kept ITI-41 message as it goes on: its payload as it came, its attachments out of the store's file, never whole in memory."""

from __future__ import annotations

from pathlib import Path

from adapters.soap.xdr.outgoing import Outgoing
from engine.errors import MessageError, PermanentDelivery
from engine.formats.soap import Attachment, FilePart, Part, read
from engine.formats.xds.reading import read_submission


def relay(body: bytes, file: Path | None) -> Outgoing:
    """`body` may be an Excerpt; `file` is where the message lies, None for one in memory. Headers are left out: they were for us, and who
    signed them did not sign what we say. Raises PermanentDelivery for what is no such message."""
    try:
        message = read(body)
        if message.payload is None:
            raise PermanentDelivery("the message has no payload", location="Body")
        submission = read_submission(message.payload)
    except MessageError as error:
        raise PermanentDelivery(f"this is no ITI-41 message: {error.text}", location=error.location) from None
    return Outgoing(submission.set.unique_id, message.payload, [_attachment(part, file) for part in message.parts.values()])


def _attachment(part: Part, file: Path | None) -> Attachment:
    in_file = file is not None and part.body is not None  # one in base64 was decoded
    content = FilePart(file, part.offset, part.size) if in_file and file is not None else bytes(part.content)
    return Attachment(part.content_id, part.content_type, content)
