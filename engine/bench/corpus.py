"""The messages that are sent: an ORU^R01 of 1.9 KB with ten OBX, and an ADT^A01. Everything in them is invented.

They are cut once into what stands before and after the control id, so that making the next frame costs one concatenation.
"""

from __future__ import annotations

from typing import Final

PATIENTS: Final = 1000
"""How many different patients the messages are about: with a queue ordered by patient, what may be under way at once depends on it."""

CONTROL_ID_WIDTH: Final = 12
_CONTROL_ID: Final = "#" * CONTROL_ID_WIDTH

_ANALYTES: Final = (
    ("6690-2^白细胞计数^LN^WBC^Leukocytes^L", "6.12", "10*9/L", "3.50-9.50"),
    ("789-8^红细胞计数^LN^RBC^Erythrocytes^L", "4.71", "10*12/L", "4.30-5.80"),
    ("718-7^血红蛋白^LN^HGB^Hemoglobin^L", "142", "g/L", "130-175"),
    ("4544-3^红细胞压积^LN^HCT^Hematocrit^L", "42.6", "%", "40.0-50.0"),
    ("787-2^平均红细胞体积^LN^MCV^MCV^L", "90.4", "fL", "82.0-100.0"),
    ("785-6^平均红细胞血红蛋白量^LN^MCH^MCH^L", "30.1", "pg", "27.0-34.0"),
    ("786-4^平均红细胞血红蛋白浓度^LN^MCHC^MCHC^L", "333", "g/L", "316-354"),
    ("777-3^血小板计数^LN^PLT^Platelets^L", "231", "10*9/L", "125-350"),
    ("770-8^中性粒细胞百分比^LN^NEUT^Neutrophils^L", "58.2", "%", "40.0-75.0"),
    ("736-9^淋巴细胞百分比^LN^LYMPH^Lymphocytes^L", "31.7", "%", "20.0-50.0"),
)


def _pid(patient: int) -> str:
    return (
        f"PID|1||B{patient:07d}^^^COUNTYHOSP^MR||测^试{patient:04d}^^^^^L^I||19700101|F|||"
        f"青禾路{patient}号^^虚构县^^000000^CN^H||000{patient:08d}^PRN^CP"
    )


def _msh(message_type: str) -> str:
    return f"MSH|^~\\&|LIS|COUNTYHOSP|MERIDIAN|COUNTYHOSP|20261123080000+0800||{message_type}|{_CONTROL_ID}|P|2.5|||||CHN|UNICODE UTF-8"


def oru(patient: int) -> str:
    """A blood count: ten numeric results."""
    at, order = "20261123081500+0800", f"P{patient:07d}^EMR|F{patient:07d}^LIS"
    results = [
        f"OBX|{index}|NM|{code}||{value}|{unit}^^UCUM|{interval}|N|||F|||{at}||T0042^李^检验师"
        for index, (code, value, unit, interval) in enumerate(_ANALYTES, start=1)
    ]
    head = (
        _msh("ORU^R01^ORU_R01"),
        _pid(patient),
        f"PV1|1|I|IM^03^2^COUNTYHOSP||||D0101^林^医生||||||||||||V{patient:07d}^^^COUNTYHOSP^VN",
        f"ORC|RE|{order}||CM||||{at}|||D0101^林^医生",
        f"OBR|1|{order}|58410-2^血常规^LN^XCG^CBC panel^L|||20261123080500+0800|||||||||D0101^林^医生||||||{at}||HM|F",
    )
    return "".join(f"{segment}\r" for segment in (*head, *results))


def adt(patient: int) -> str:
    """An admission."""
    segments = (
        _msh("ADT^A01^ADT_A01"),
        "EVN|A01|20261123080000+0800|||R0003^值班^员",
        _pid(patient),
        "NK1|1|测^家属^^^^^L^I|SPO^配偶^HL70063||00000000000^PRN^CP",
        f"PV1|1|I|IM^03^2^COUNTYHOSP||||D0101^林^医生||||||||||||V{patient:07d}^^^COUNTYHOSP^VN" + "|" * 25 + "20261123080000+0800",
        "DG1|1||J18.9^肺炎^I10||20261123080000+0800|A",
    )
    return "".join(f"{segment}\r" for segment in segments)


class Frames:
    """MLLP frames with unique control ids: frame `number` is about patient `number` modulo PATIENTS."""

    def __init__(self) -> None:
        self._parts = []
        for patient in range(PATIENTS):
            head, _, tail = oru(patient).encode().partition(_CONTROL_ID.encode())
            self._parts.append((b"\x0b" + head, tail + b"\x1c\r"))

    def frame(self, number: int) -> bytes:
        """`number` from 0 up to the width of a control id."""
        head, tail = self._parts[number % PATIENTS]
        return b"%b%b%b" % (head, control_id(number), tail)


def control_id(number: int) -> bytes:
    """``B00000000042``"""
    return b"B%011d" % number


def numbered(text: str, number: int) -> bytes:
    """A message of this module with its control id."""
    return text.encode().replace(_CONTROL_ID.encode(), control_id(number), 1)
