"""Laboratory results as HL7 v2, one of each number: control id R1, order O1, patient P1 of seven, potassium 4.1."""

from __future__ import annotations

PATIENTS = 7


def result(number: int) -> bytes:
    return (
        f"MSH|^~\\&|LIS|LAB|MERIDIAN|H|20261102091500+0800||ORU^R01^ORU_R01|R{number}|P|2.5.1||||||UNICODE UTF-8\r"
        f"PID|1||P{number % PATIENTS}^^^H^MR||Lin^Mei||19710304|F\r"
        f"PV1|1|O\r"
        f"ORC|RE|O{number}^HIS|F{number}^LIS\r"
        f"OBR|1|O{number}^HIS|F{number}^LIS|K^Potassium^L|||20261102083000+0800|||||||||||||||20261102091200+0800||CH|F\r"
        f"OBX|1|NM|2823-3^Potassium^LN||{value(number)}|mmol/L|3.5-5.1|N|||F|||20261102083000+0800\r"
    ).encode()


def value(number: int) -> str:
    """Different for each."""
    return f"4.{number}"
