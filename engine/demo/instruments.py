"""Instruments that report by themselves over ASTM (LIS01-A2, LIS02-A2): what they say, and how they say it on the line.

A foreign hand on purpose, as everything of the demo: it shares no line with adapters.astm.
"""

from __future__ import annotations

import os
import random
import tty
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from engine.demo.laboratory import Analyte, measure
from engine.demo.people import Person

STX, ETX, EOT, ENQ, ACK, ETB = b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x17"
_FRAME: Final = 240
_TRIES: Final = 7


@dataclass(frozen=True, slots=True)
class Model:
    """An instrument: its name, version and serial number (H-5), its character set, and what it measures."""

    name: str
    version: str
    serial: str
    codec: str
    specimen: str
    analytes: tuple[Analyte, ...]


COAGULATION: Final = Model(
    "COAG",
    "3.1",
    "C0417",
    "utf-8",
    "PLAS",
    (
        Analyte("5902-2", "Prothrombin time", "PT", "凝血酶原时间", "s", 9.4, 12.5),
        Analyte("6301-6", "INR", "INR", "国际标准化比值", "{INR}", 0.8, 1.2, 2),
        Analyte("14979-9", "aPTT", "APTT", "活化部分凝血活酶时间", "s", 25.1, 36.5),
        Analyte("3255-7", "Fibrinogen", "FIB", "纤维蛋白原", "g/L", 2, 4, 2),
    ),
)
BLOOD_GAS: Final = Model(
    "BGA",
    "7.0",
    "B2290",
    "gb18030",
    "BLDA",
    (
        Analyte("2744-1", "pH of Arterial blood", "pH", "酸碱度", "[pH]", 7.35, 7.45, 2),
        Analyte("2019-8", "pCO2 of Arterial blood", "pCO2", "二氧化碳分压", "mm[Hg]", 35, 45),
        Analyte("2703-7", "pO2 of Arterial blood", "pO2", "氧分压", "mm[Hg]", 80, 100),
        Analyte("2518-9", "Lactate of Arterial blood", "Lac", "乳酸", "mmol/L", 0.5, 1.6),
    ),
)
MODELS: Final = (COAGULATION, BLOOD_GAS)


def records(chance: random.Random, model: Model, somebody: Person, specimen: str, at: datetime, control_id: str) -> bytes:
    """One specimen's results as a message from H to L."""
    tests = "\\".join(f"^^^{analyte.local}" for analyte in model.analytes)
    lines = [
        f"H|\\^&|{control_id}||{model.name}^{model.version}^{model.serial}|||||LIS||P|LIS2-A2|{at:%Y%m%d%H%M%S}",
        f"P|1|{somebody.record_number}|||{somebody.family}^{somebody.given}||{somebody.born:%Y%m%d}|{somebody.sex}",
        f"O|1|{specimen}||{tests}|R||{at:%Y%m%d%H%M%S}||||||||{model.specimen}",
    ]
    for number, analyte in enumerate(model.analytes, 1):
        measured = measure(chance, analyte, somebody.sex)
        low, _, high = measured.interval.partition("-")
        flag = measured.flag or "N"
        lines.append(
            f"R|{number}|^^^{analyte.local}|{measured.value}|{analyte.unit}|{low}^{high}|{flag}||F||{model.name}||{at:%Y%m%d%H%M%S}|{model.serial}"
        )
        if len(measured.flag) == 2:
            lines.append("C|1|I|危急值，已复查|I")
    return "".join(f"{line}\r" for line in (*lines, "L|1|N")).encode(model.codec)


def frames(message: bytes) -> Iterator[bytes]:
    """A frame for each record, several for a long one."""
    number = 0
    for record in message.splitlines(keepends=True):
        for begin in range(0, len(record), _FRAME):
            number = (number + 1) % 8
            end = ETX if begin + _FRAME >= len(record) else ETB
            counted = b"%d%b%b" % (number, record[begin : begin + _FRAME], end)
            yield STX + counted + b"%02X\r\n" % (sum(counted) % 256)


class InstrumentLine(Protocol):
    """The sending end of one line, one transfer at a time. A message without its record L is one that the instrument breaks off."""

    transport: Any

    def __init__(self) -> None:
        self._waiting: Deferred[bytes] | None = None
        self._parts: Sequence[bytes] = ()
        self._next = self._tries = 0
        self._whole = self._lost = False

    def ask(self, body: bytes) -> Deferred[bytes]:
        """Send one message; fires with ``ACK`` when all of it was taken, ``NAK`` when not, ``EOT`` when it was broken off."""
        if self._lost:
            return fail(ConnectionLost())
        self._parts, self._next, self._tries = (ENQ, *frames(body)), 0, 0
        self._whole = body.rpartition(b"\r")[0].rpartition(b"\r")[2][:1] == b"L"
        self._waiting = Deferred()
        self.transport.write(ENQ)
        return self._waiting

    def dataReceived(self, data: bytes) -> None:
        for at in range(len(data)):
            self._answered(data[at : at + 1])

    def _answered(self, answer: bytes) -> None:
        if self._waiting is None:
            return
        if answer == ACK:
            self._next, self._tries = self._next + 1, 0
        else:
            self._tries += 1
        if self._next == len(self._parts) or self._tries == _TRIES:
            self.transport.write(EOT)
            waiting, self._waiting = self._waiting, None
            waiting.callback((b"ACK" if self._whole else b"EOT") if self._next == len(self._parts) else b"NAK")
        else:
            self.transport.write(self._parts[self._next])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(ConnectionLost())

    def close(self) -> None:
        self.transport.loseConnection()

    def abort(self) -> None:
        if not self._lost:
            self.transport.abortConnection()


@implementer(IStreamClientEndpoint)
class SerialCable:
    """A pseudo-terminal in place of a serial cable: the node opens `device`, the instrument has the other end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.device = os.ttyname(self._slave)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Once only."""
        protocol = protocolFactory.buildProtocol(None)
        _CableEnd(self._master, self._slave, protocol, self._reactor)
        return succeed(protocol)


class _CableEnd(FileDescriptor):
    """The instrument's end, as a transport. The other end stays open with it, so that the cable lasts when the node closes the port."""

    def __init__(self, master: int, slave: int, protocol: Any, reactor: Any) -> None:
        super().__init__(reactor)
        self._master, self._slave, self._protocol = master, slave, protocol
        fdesc.setNonBlocking(master)
        self.connected = 1
        protocol.makeConnection(self)
        self.startReading()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        return self._master

    def doRead(self) -> Any:
        return fdesc.readFromFD(self._master, self._protocol.dataReceived)

    def writeSomeData(self, data: bytes) -> Any:
        return fdesc.writeToFD(self._master, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        os.close(self._master)
        os.close(self._slave)
        self._protocol.connectionLost(reason)

    def abortConnection(self) -> None:
        self.loseConnection()  # type: ignore[no-untyped-call]
