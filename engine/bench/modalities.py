"""Modalities under load, a process of its own: ``python -m engine.bench.modalities '{"port": 11112, "connections": 8, "kind": "ct"}'``.

Each association sends an instance with C-STORE, waits for its response, sends the next: what a modality does. Bare sockets, one thread
each, and instances that are encoded once (only their SOP Instance UID differs), so that it is the receiver that is measured. Prints what
engine.bench.generator prints, and

    bytes           of one instance's data set
    mb_per_second   of the data sets that were answered 0000H
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from array import array
from dataclasses import dataclass
from typing import Any, Final

from adapters.dicom.upper import dimse, messages, pdu
from adapters.dicom.upper.negotiation import EXPLICIT_LE
from adapters.dicom.upper.requestor import Proposal
from engine.bench.generator import PATIENCE, Load, report
from engine.bench.loopback import only_loopback

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
ULTRASOUND: Final = "1.2.840.10008.5.1.4.1.1.3.1"
_UID: Final = "1.2.826.0.1.3680043.10.1357.1{:011d}"
_KINDS: Final = {"ct": (CT, 512, 512, 1), "multi-frame": (ULTRASOUND, 640, 480, 162)}
"""SOP class, rows, columns, frames; two bytes a pixel: 0.5 MB and 100 MB."""


@dataclass(frozen=True, slots=True)
class ImageLoad(Load):
    """`connections` are associations; `kind` is one of _KINDS."""

    kind: str = "ct"
    called: str = "ANY"


def _element(tag: int, vr: str, value: bytes) -> bytes:
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return head + (struct.pack("<xxL", len(value)) if vr == "OW" else struct.pack("<H", len(value))) + value


def data_set(kind: str, instance: str) -> bytes:
    """An image of noise that repeats, with what a storage SCP's index reads."""
    sop_class, rows, columns, frames = _KINDS[kind]
    number = struct.Struct("<H").pack
    pixels = bytes(range(256)) * (rows * columns * frames * 2 // 256)
    texts = [
        (0x00080005, "CS", b"ISO_IR 100"),
        (0x00080008, "CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        (0x00080016, "UI", sop_class.encode()),
        (0x00080018, "UI", instance.encode()),
        (0x00080020, "DA", b"20261123"),
        (0x00080030, "TM", b"081500"),
        (0x00080050, "SH", b"BENCH1"),
        (0x00080060, "CS", b"CT" if kind == "ct" else b"US"),
        (0x00100010, "PN", b"Bench^One"),
        (0x00100020, "LO", b"B0000001"),
        (0x0020000D, "UI", b"1.2.826.0.1.3680043.10.1357.2"),
        (0x0020000E, "UI", b"1.2.826.0.1.3680043.10.1357.3"),
        (0x00280002, "US", number(1)),
        (0x00280004, "CS", b"MONOCHROME2"),
        (0x00280008, "IS", str(frames).encode()),
        (0x00280010, "US", number(rows)),
        (0x00280011, "US", number(columns)),
        (0x00280100, "US", number(16)),
        (0x00280101, "US", number(16)),
        (0x00280102, "US", number(15)),
        (0x00280103, "US", number(0)),
        (0x7FE00010, "OW", pixels),
    ]
    return b"".join(_element(*one) for one in texts)


class Instances:
    """Messages for one peer: what differs between them in front, and the rest, which all share."""

    def __init__(self, kind: str, max_length: int) -> None:
        self._uid = _UID.format(0).encode()
        sop_class = _KINDS[kind][0]
        content = data_set(kind, _UID.format(0))
        command = dimse.request(dimse.Field.C_STORE, sop_class, _UID.format(0), MessageID=1, CommandDataSetType=dimse.DATA_SET)
        parts = messages.fragment(1, dimse.encode(command), max_length, is_command=True)
        parts += messages.fragment(1, content, max_length, is_command=False)
        whole = b"".join(parts)
        self.bytes = len(content)
        end = whole.rindex(self._uid, 0, 4096) + len(self._uid)
        self._front, self._rest = whole[:end], memoryview(whole)[end:]

    def message(self, number: int) -> tuple[bytes, memoryview]:
        return self._front.replace(self._uid, _UID.format(number).encode()), self._rest


class _Sender(threading.Thread):
    """One association."""

    def __init__(self, load: ImageLoad, shared: Modalities) -> None:
        super().__init__(daemon=True)
        self._shared = shared
        self._socket = socket.create_connection((only_loopback(load.host), load.port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sop_class = _KINDS[load.kind][0]
        self._socket.sendall(pdu.encode(Proposal("BENCH", load.called, [(sop_class, [EXPLICIT_LE])]).request()))
        accept = pdu.decode(*self._read())
        if not isinstance(accept, pdu.AssociateAccept) or accept.results[0].result:
            raise OSError(f"no association: {accept}")
        self.max_length = accept.max_length or 131072

    def run(self) -> None:
        shared = self._shared
        with self._socket, contextlib.suppress(OSError):
            while (number := shared.take()) is not None:
                front, rest = shared.instances.message(number)
                began = time.monotonic()
                self._socket.sendall(front)
                self._socket.sendall(rest)
                kind, content = self._read()
                if kind != pdu.P_DATA:
                    raise OSError("the association was aborted")
                shared.done(time.monotonic() - began, dimse.decode(content[6:]).status)
            self._socket.sendall(pdu.encode(pdu.ReleaseRequest()))
            self._read()

    def _read(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            more = self._socket.recv(size - len(content))
            if not more:
                raise OSError("the connection has ended")
            content += more
        return content


class Modalities:
    """One run of a load. Raises OSError where nobody listens, or nobody takes it."""

    def __init__(self, load: ImageLoad) -> None:
        self._load = load
        self._next, self._last = load.first, load.first + load.messages
        self._guard = threading.Lock()
        self._latencies = array("d")
        self._refused = 0
        self._until = self._ended = 0.0
        self._senders = [_Sender(load, self) for _ in range(load.connections)]
        self.instances = Instances(load.kind, min(one.max_length for one in self._senders))

    def run(self) -> dict[str, Any]:
        """Send, wait, report."""
        began = self._ended = time.monotonic()
        self._until = began + self._load.seconds
        for one in self._senders:
            one.start()
        for one in self._senders:
            one.join()
        sent = self._next - self._load.first
        unanswered = sent - len(self._latencies) - self._refused
        told = report(self._load, self._latencies, self._refused, unanswered, sent, began, self._ended)
        size = self.instances.bytes
        return {**told, "bytes": size, "mb_per_second": round(told["per_second"] * size / 1e6, 1)}

    def take(self) -> int | None:
        """The next instance's number, None when it is over."""
        with self._guard:
            if self._next >= self._last or time.monotonic() >= self._until:
                return None
            self._next += 1
            return self._next - 1

    def done(self, took: float, status: int) -> None:
        with self._guard:
            self._ended = time.monotonic()
            if status == dimse.Status.SUCCESS:
                self._latencies.append(took)
            else:
                self._refused += 1


if __name__ == "__main__":
    print(json.dumps(Modalities(ImageLoad(**json.loads(sys.argv[1]))).run()), flush=True)
