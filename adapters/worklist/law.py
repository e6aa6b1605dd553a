"""IHE Laboratory Analytical Workflow: an analyzer's query (LAB-27) and the work order that follows it (LAB-28). HL7 v2.5.1, UTF-8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from adapters.worklist.orders import Order
from engine.errors import ValidationError
from engine.formats import hl7v2
from engine.formats.hl7v2.separators import STANDARD

_ALL: Final = "WOS_ALL"
_MSH: Final = "MSH|^~\\&|{sender}|{receiver}|{stamp}||{kind}|{control_id}|P|2.5.1|||NE|AL||UNICODE UTF-8|||{profile}^IHE"


def question(body: bytes, fallback: str) -> dict[str, Any]:
    """What a QBP^Q11 asks for, fit to be kept: its header's names, and the specimen (QPD-3; "" for all of them, QPD-1 is WOS_ALL).
    Raises ParseError, and ValidationError where it names neither."""
    message = hl7v2.decode(body, fallback=fallback)
    specimen = (message.get("QPD-3.1.1") or "").strip()  # without its kind: ``S1&BARCODE``
    everything = (message.get("QPD-1.1") or "").upper() == _ALL
    if not specimen and not everything:
        raise ValidationError("the query names no specimen", location="QPD-3", hl7_code="101")
    return {
        "specimen": "" if everything else specimen,
        "analyzer": [message.get("MSH-3") or "", message.get("MSH-4") or ""],
        "manager": [message.get("MSH-5") or "", message.get("MSH-6") or ""],
        "control_id": message.get("MSH-10") or "",
        "tag": message.get("QPD-2") or "",
        "name": message.get("QPD-1") or "",
        "qpd": (message.first("QPD") or message.segments[0]).text,
    }


def response(asked: Mapping[str, Any], known: bool, stamp: str, control_id: str) -> bytes:
    """RSP^K11: the query is understood. The work itself comes as LAB-28."""
    lines = (
        _header(asked, "RSP^K11^RSP_K11", "LAB-27", stamp, control_id).replace("|NE|AL|", "|NE|NE|"),
        f"MSA|AA|{_text(asked['control_id'])}",
        f"QAK|{asked['tag']}|{'OK' if known else 'NF'}|{asked['name']}",
        asked["qpd"],
    )
    return "".join(f"{line}\r" for line in lines).encode()


def work_order(asked: Mapping[str, Any], wanted: Sequence[tuple[Order, str]], stamp: str, control_id: str) -> bytes:
    """OML^O33 for one specimen; without work a negative one, whose ORC-1 is DC."""
    lines = [_header(asked, "OML^O33^OML_O33", "LAB-28", stamp, control_id)]
    lines += _positive(asked["specimen"], wanted, stamp) if wanted else _negative(asked["specimen"], stamp)
    return "".join(f"{line}\r" for line in lines).encode()


def _positive(specimen: str, wanted: Sequence[tuple[Order, str]], stamp: str) -> Iterator[str]:
    first = wanted[0][0]
    patient = first.patient
    number = f"{_text(patient.number)}^^^{_text(patient.authority)}"
    yield _segment(
        "PID", {1: "1", 3: number, 5: f"{_text(patient.family)}^{_text(patient.given)}^^^^^L", 7: _text(patient.born), 8: patient.sex}
    )
    yield _segment(
        "SPM", {1: "1", 2: _text(specimen), 4: f"{_text(first.specimen_type)}^^HL70487", 11: "P^^HL70369", 17: _text(first.collected)}
    )
    yield _segment("SAC", {3: _text(specimen)})
    steps = Counter((order.number, order.code) for order, _ in wanted)
    for index, (order, code) in enumerate(wanted, 1):  # a panel becomes several steps, each with a number of its own
        awos = _text(order.number if steps[order.number, order.code] == 1 else f"{order.number}-{index}")
        yield _segment("ORC", {1: "NW", 4: _text(order.number), 9: stamp})
        yield _segment("TQ1", {9: f"{order.priority or 'R'}^^HL70485"})
        yield _segment(
            "OBR", {2: awos, 4: f"{_text(code)}^{_text(order.name)}^{'99LAB' if code != order.code else _text(order.system) or '99LAB'}"}
        )


def _negative(specimen: str, stamp: str) -> Iterator[str]:
    yield _segment("SPM", {1: "1", 2: _text(specimen), 4: '""', 11: "U^^HL70369"})
    yield _segment("SAC", {3: _text(specimen)})
    yield _segment("ORC", {1: "DC", 9: stamp})


def _header(asked: Mapping[str, Any], kind: str, profile: str, stamp: str, control_id: str) -> str:
    return _MSH.format(
        sender="|".join(asked["manager"]),
        receiver="|".join(asked["analyzer"]),
        stamp=stamp,
        kind=kind,
        control_id=control_id,
        profile=profile,
    )


def _segment(name: str, fields: Mapping[int, str]) -> str:
    return "|".join((name, *(fields.get(number, "") for number in range(1, max(fields) + 1))))


def _text(text: str) -> str:
    return STANDARD.escape_text(text)
