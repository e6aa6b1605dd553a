"""A multi-frame object far larger than what a node may hold in memory. MERIDIAN_DICOM_MB=2100 makes it one of 2 GB, by hand."""

from __future__ import annotations

import os
import struct
from hashlib import sha256
from pathlib import Path

from adapters.dicom.upper import dimse, messages
from engine.bench.modalities import ImageLoad, _Sender
from tests.support.dicom import data_set
from tests.support.dicom_site import DicomSite

MEGABYTES = int(os.environ.get("MERIDIAN_DICOM_MB", "300"))
ROOM = 80 << 20
"""Bytes that a node may take for it: what waits for the disk (8 MB at most), buffers, and what the allocator keeps."""
UID = "1.2.826.0.1.3680043.10.1357.77"
CT = "1.2.840.10008.5.1.4.1.1.2"


def test_memory_does_not_depend_on_the_size_of_images(tmp_path: Path) -> None:
    """The node's resident memory while the object comes; then the file, bit by bit."""
    site = DicomSite(tmp_path)
    begins = data_set(UID, pixels=b"")[:-4] + struct.pack("<L", MEGABYTES << 20)
    piece = os.urandom(1 << 20)
    whole = sha256(begins)
    with site.running() as node:
        sender = _Sender(ImageLoad(site.dicom), None)  # type: ignore[arg-type]
        wire, length = sender._socket, sender.max_length
        command = dimse.request(dimse.Field.C_STORE, CT, UID, MessageID=1, CommandDataSetType=dimse.DATA_SET)
        before = most = node.resident_bytes
        wire.sendall(b"".join(messages.fragment(1, dimse.encode(command), length, is_command=True)))
        wire.sendall(b"".join(messages.fragment(1, begins, length, is_command=False, is_last=False)))
        framed = b"".join(messages.fragment(1, piece, length, is_command=False, is_last=False))
        last = b"".join(messages.fragment(1, piece, length, is_command=False))
        for number in range(MEGABYTES):
            wire.sendall(framed if number < MEGABYTES - 1 else last)
            whole.update(piece)
            if number % 10 == 0:
                most = max(most, node.resident_bytes)
        _, content = sender._read()
        most = max(most, node.resident_bytes)
        wire.close()
    assert dimse.decode(content[6:]).status == 0
    print(f"{MEGABYTES} MB received; resident before {before >> 20} MB, at most {most >> 20} MB")
    assert most - before < ROOM
    (path,) = [file for file in (tmp_path / "data" / "bodies").glob("??/*") if file.is_file()]
    stored = sha256()
    with path.open("rb") as file:
        file.seek(path.stat().st_size - len(begins) - (MEGABYTES << 20))
        while part := file.read(1 << 20):
            stored.update(part)
    assert stored.digest() == whole.digest()
