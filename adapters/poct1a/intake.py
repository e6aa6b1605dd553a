"""From a message and its device's hello to an envelope; no socket."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final
from xml.etree.ElementTree import Element

from adapters.poct1a.conversation import Device
from engine.formats.poct1a import value
from engine.message import POCT1A, Envelope

_HEADER: Final = re.compile(rb"<HDR[\s>].*?</HDR\s*>", re.DOTALL)


def envelope_of(hello: bytes, document: bytes, root: Element, device: Device, peer: str, remote: str, now: int) -> Envelope:
    """The same content from the same device is the same message: one that did not hear our acknowledgment sends it again with another
    control id and creation time, so the header does not count."""
    digest = blake2b(_HEADER.sub(b"", document, count=1), digest_size=16)
    patients = tuple(dict.fromkeys(found.get("V") or "" for found in root.iter("PT.patient_id")))
    return Envelope(
        hello + b"\n" + document,
        POCT1A,
        root.tag,
        value(root.find("HDR"), "HDR.control_id"),
        device.sender,
        peer,
        remote,
        now,
        tuple(filter(None, patients)),
        f"{peer or device.sender}|{digest.hexdigest()}",
        digest.digest(),
        {"serial": device.serial, "vendor": device.vendor, "model": device.model},
    )


def unread(content: bytes, peer: str, remote: str, now: int) -> Envelope:
    """What is no message."""
    return Envelope(content, POCT1A, peer=peer, remote=remote, received_at=now)
