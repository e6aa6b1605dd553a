"""A point-of-care device as POCT1-A2 has it: its documents, and a scripted one on a socket. Shares no line with adapters.poct1a."""

from __future__ import annotations

import re
import socket
from typing import Any
from xml.etree import ElementTree

HELLO = (
    '<HEL.R01><HDR><HDR.message_type V="HEL.R01"/><HDR.control_id V="{number}"/><HDR.version_id V="POCT1"/>'
    '<HDR.creation_dttm V="2026-11-24T08:00:00+08:00"/></HDR><DEV><DEV.device_id V="0000"/><DEV.vendor_id V="ACME"/>'
    '<DEV.model_id V="Glu-1"/><DEV.serial_id V="{serial}"/><DCP><DCP.application_timeout V="30"/></DCP></DEV></HEL.R01>'
)
STATUS = (
    '<DST.R01><HDR><HDR.control_id V="{number}"/><HDR.creation_dttm V="2026-11-24T08:00:01+08:00"/></HDR>'
    '<DST><DST.status_dttm V="2026-11-24T08:00:01+08:00"/><DST.new_observations_qty V="1"/><DST.condition_cd V="R"/></DST></DST.R01>'
)
SERVICE = (
    '<SVC><SVC.role_cd V="OBS"/><SVC.observation_dttm V="2026-11-24T07:55:00+08:00"/>'
    '<PT><PT.patient_id V="{patient}"/><PT.name V="王小明"><FAM V="王"/><GIV V="小明"/></PT.name><PT.gender_cd V="M"/>'
    '<OBS><OBS.observation_id V="2345-7" SN="LN" DN="Glucose"/><OBS.value V="{value}" U="mg/dL"/><OBS.method_cd V="M"/>'
    '<OBS.status_cd V="A"/><OBS.interpretation_cd V="N"/><OBS.normal_lo-hi_limit V="[70;110]" U="mg/dL"/>'
    '<NTE><NTE.text V="fingerstick"/></NTE></OBS></PT><OPR><OPR.operator_id V="nurse7"/></OPR></SVC>'
)
CONTROL = (
    '<SVC><SVC.role_cd V="LQC"/><SVC.observation_dttm V="2026-11-24T07:50:00+08:00"/><CTC><CTC.name V="Level 1"/>'
    '<CTC.lot_number V="L77"/><OBS><OBS.observation_id V="GLU"/><OBS.value V="42" U="mg/dL"/><OBS.status_cd V="A"/></OBS></CTC></SVC>'
)
END_OF_TOPIC = '<EOT.R01><HDR><HDR.control_id V="{number}"/></HDR><EOT><EOT.topic_cd V="OBS"/></EOT></EOT.R01>'
END = '<END.R01><HDR><HDR.control_id V="{number}"/></HDR><TRM><TRM.reason_cd V="NRM"/></TRM></END.R01>'
KEEP_ALIVE = '<KPA.R01><HDR><HDR.control_id V="{number}"/></HDR></KPA.R01>'
ACK = '<ACK.R01><HDR><HDR.control_id V="{number}"/></HDR><ACK><ACK.type_cd V="{code}"/><ACK.ack_control_id V="{of}"/></ACK></ACK.R01>'


def hello(number: int = 1, serial: str = "S77") -> bytes:
    return HELLO.format(number=number, serial=serial).encode()


def observations(number: int = 3, *services: str, kind: str = "OBS.R01") -> bytes:
    """With one glucose where no services are given."""
    header = f'<HDR><HDR.control_id V="{number}"/><HDR.creation_dttm V="2026-11-24T08:00:0{number % 10}+08:00"/></HDR>'
    return f"<{kind}>{header}{''.join(services) or SERVICE.format(patient='P1', value='95')}</{kind}>".encode()


class Device:
    """Blocking."""

    def __init__(self, port: int, serial: str = "S77") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._serial, self._number, self._buffer = serial, 0, b""

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, document: str, **words: Any) -> int:
        self._number += 1
        self.socket.sendall(document.format(number=self._number, **words).encode())
        return self._number

    def send(self, document: bytes) -> None:
        self.socket.sendall(document)

    def heard(self) -> ElementTree.Element:
        """The next document."""
        while not (found := re.match(rb"\s*<([A-Z]{3}\.R\d\d)>.*?</\1>", self._buffer, re.DOTALL)):
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
        self._buffer = self._buffer[found.end() :]
        return ElementTree.fromstring(found[0])

    def introduce(self) -> None:
        """Hello and status; ends when the observations are asked for."""
        self.say(HELLO, serial=self._serial)
        assert ack(self.heard()) == "AA"
        self.say(STATUS)
        assert ack(self.heard()) == "AA"
        assert self.heard().tag == "REQ.R01"


def ack(document: ElementTree.Element) -> str:
    """ACK.type_cd."""
    assert document.tag == "ACK.R01", document.tag
    return document.find("ACK/ACK.type_cd").get("V") or ""  # type: ignore[union-attr]
