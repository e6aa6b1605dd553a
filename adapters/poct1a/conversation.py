"""The data manager's side of a conversation with a point-of-care device (POCT1-A2, device messaging layer). Pure.

           HEL.R01      DST.R01                OBS.R01, R02, EVS.R01   EOT.R01           ACK.R01   KPA.R01  END.R01    other
  WAITING  AA, GREETED  AE, no hello yet       AE                      AE                –         AE       AA, ENDED  AE
  GREETED  AA, anew     AA, [set time], ask    KEEP, then AA or AE     AA, [continuous]  ours go   AA       AA, ENDED  AE
                        for what is new                                or END            on
  ENDED    –            –                      –                       –                 –         –        –          –

One message of ours at a time waits for its ACK; the request (REQ, ROBS) is answered by the observations themselves. In continuous mode the
device sends what it has when it has it. ESC.R01 takes back the message of ours that it names. Every observation is acknowledged only when
it is kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

from engine.formats.poct1a import HELLO, value

KEPT: Final = ("OBS.R01", "OBS.R02", "EVS.R01")
APPLICATION_TIMEOUT: Final = 60.0
"""Seconds of silence after which a conversation is over, where the device states none (DCP.application_timeout)."""
_CONTINUOUS: Final = "START_CONTINUOUS"


class State(Enum):
    WAITING = auto()
    GREETED = auto()
    ENDED = auto()


class Say(NamedTuple):
    """To be sent."""

    document: bytes


class Keep(NamedTuple):
    """To be kept; `Conversation.kept` is to be told what became of it, in the order of these steps."""

    control_id: str


class End(NamedTuple):
    """Close, once what was said is sent."""


class Fault(NamedTuple):
    """Something to count: ``unexpected`` or ``refused``."""

    kind: str


Step = Say | Keep | End | Fault


@dataclass(frozen=True, slots=True)
class Device:
    """Who it is that speaks, from its HEL.R01."""

    vendor: str = ""
    model: str = ""
    serial: str = ""
    patience: float = APPLICATION_TIMEOUT

    @property
    def sender(self) -> str:
        return "^".join((self.vendor, self.model, self.serial)).rstrip("^")


def device_of(hello: Element) -> Device:
    dev = hello.find("DEV")
    timeout = value(dev.find("DCP") if dev is not None else None, "DCP.application_timeout") or value(
        hello.find("DCP"), "DCP.application_timeout"
    )
    patience = float(timeout) if timeout.isascii() and timeout.isdigit() and 0 < int(timeout) < 86400 else APPLICATION_TIMEOUT
    serial = value(dev, "DEV.serial_id") or value(dev, "DEV.device_id")
    return Device(value(dev, "DEV.vendor_id"), value(dev, "DEV.model_id") or value(dev, "DEV.device_name"), serial, patience)


class Conversation:
    """`now` gives the time as POCT1-A writes it (ISO 8601 with an offset)."""

    def __init__(self, *, continuous: bool, set_time: bool) -> None:
        self._continuous, self._set_time = continuous, set_time
        self.state = State.WAITING
        self.device = Device()
        self._number = 0
        self._ours: deque[tuple[str, str]] = deque()
        self._awaits = ""
        self._streaming = self._ending = False
        self._now = ""

    def heard(self, root: Element, now: str) -> list[Step]:
        """A message has come."""
        self._now = now
        if self.state is State.ENDED:
            return []
        control_id = value(root.find("HDR"), "HDR.control_id")
        kind = root.tag
        if kind == "ACK.R01":
            return self._acknowledged(root)
        if kind == HELLO:
            self.state, self.device = State.GREETED, device_of(root)
            self._ours.clear()
            self._awaits, self._streaming, self._ending = "", False, False
            return [self._ack(control_id)]
        if kind == "END.R01":
            self.state = State.ENDED
            return [self._ack(control_id), End()]
        if self.state is State.WAITING:
            return [Fault("unexpected"), self._ack(control_id, "the conversation begins with HEL.R01")]
        return self._in_conversation(kind, root, control_id)

    def kept(self, control_id: str, reason: str, now: str) -> list[Step]:
        """What became of a message; `reason` is empty when it is on disk and taken."""
        self._now = now
        steps: list[Step] = [Fault("refused")] if reason else []
        return [*steps, self._ack(control_id, reason)]

    def refuse(self, control_id: str, reason: str, now: str) -> list[Step]:
        """A document that cannot be read."""
        self._now = now
        return [Fault("unexpected"), self._ack(control_id, reason)]

    def _in_conversation(self, kind: str, root: Element, control_id: str) -> list[Step]:
        if kind in KEPT:
            return [Keep(control_id)]
        if kind == "DST.R01":
            return [self._ack(control_id), *self._after_status()]
        if kind == "EOT.R01":
            return [self._ack(control_id), *self._after_topic()]
        if kind == "KPA.R01":
            return [self._ack(control_id)]
        if kind == "ESC.R01":
            self._awaits = ""
            return self._next()
        return [Fault("unexpected"), self._ack(control_id, f"{kind[:40]} is not expected here")]

    def _after_status(self) -> list[Step]:
        if self._streaming:
            return []
        if self._set_time:
            self._ours.append(("DTV.R02", f'<DTV><DTV.command_cd V="SET_TIME"/><TM><TM.dttm V={quoteattr(self._now)}/></TM></DTV>'))
        self._ours.append(("REQ.R01", '<REQ><REQ.request_cd V="ROBS"/></REQ>'))
        return self._next()

    def _after_topic(self) -> list[Step]:
        if self._streaming:
            return []
        if self._continuous:
            self._streaming = True
            self._ours.append(("DTV.R01", f'<DTV><DTV.command_cd V="{_CONTINUOUS}"/></DTV>'))
            return self._next()
        self._ours.append(("END.R01", '<TRM><TRM.reason_cd V="NRM"/></TRM>'))
        return self._next()

    def _acknowledged(self, root: Element) -> list[Step]:
        ack = root.find("ACK")
        if not self._awaits or value(ack, "ACK.ack_control_id") != self._awaits:
            return []
        self._awaits = ""
        if self.state is State.GREETED and self._ending:
            self.state = State.ENDED
            return [End()]
        refused: list[Step] = [Fault("refused")] if value(ack, "ACK.type_cd") != "AA" else []
        return [*refused, *self._next()]

    def _next(self) -> list[Step]:
        """The next of our own messages, if none waits for its ACK."""
        if self._awaits or not self._ours:
            return []
        kind, content = self._ours.popleft()
        document = self._document(kind, content)
        if kind != "REQ.R01":  # which is answered by what was asked for
            self._awaits = str(self._number)
        self._ending = kind == "END.R01"
        return [Say(document), *self._next()]

    def _ack(self, control_id: str, error: str = "") -> Say:
        note = f"<ACK.note_txt V={quoteattr(error)}/>" if error else ""
        content = f'<ACK><ACK.type_cd V="{"AE" if error else "AA"}"/><ACK.ack_control_id V={quoteattr(control_id)}/>{note}</ACK>'
        return Say(self._document("ACK.R01", content))

    def _document(self, kind: str, content: str) -> bytes:
        self._number += 1
        header = (
            f'<HDR><HDR.message_type V="{kind}"/><HDR.control_id V="{self._number}"/><HDR.version_id V="POCT1"/>'
            f"<HDR.creation_dttm V={quoteattr(self._now)}/></HDR>"
        )
        return f"<{kind}>{header}{content}</{kind}>".encode()
