"""HL7 v2 messages, field by field by a table (tables/hl7v2.csv). Segments and fields that it does not name are left out.

The character set, the delimiters and what is kept stay as they came. Pseudonyms stand for the identifiers of CX, EI and EIP fields, each by
its assigning authority (v2.5.1 §2.A.14, §2.A.28), so they agree with those of DICOM and FHIR.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from importlib.resources import files
from typing import Final

from engine.deidentify import policy as p
from engine.deidentify.dates import shifted_digits
from engine.deidentify.policy import Person, Policy
from engine.deidentify.traces import REMOVED, Traces
from engine.errors import Quarantined
from engine.formats.hl7v2 import NULL, Message, Segment, Separators, decode

_NUMBER: Final = re.compile(r"[<>=\s]*[-+]?[\d.,]*(?:\s*[-^:/]\s*[-+]?[\d.,]+)*\s*")
_KEPT_BY: Final = {"place": p.INSTITUTION, "organisation": p.INSTITUTION, "device": p.DEVICE, "characteristic": p.CHARACTERISTICS}
_BY_TYPE: Final = {  # OBX-2 (table 0125)
    **dict.fromkeys(("NM", "SN", "SI"), "number"),
    **dict.fromkeys(("CE", "CWE", "CNE", "CF"), "code"),
    **dict.fromkeys(("DT", "TS", "DTM"), "date"),
    **dict.fromkeys(("ST", "TX", "FT"), "text"),
    **dict.fromkeys(("ID", "IS", "TM"), "keep"),
    "CX": "identifier",
    "EI": "entity",
}
_NO_DATE: Final = "19000101"
_NAMES: Final = ("PID-5", "PID-6", "PID-9", "NK1-2", "NK1-30", "MRG-7", "GT1-3", "GT1-4", "IN1-16")
_IDENTIFIERS: Final = (
    "PID-2",
    "PID-3",
    "PID-4",
    "PID-18",
    "PID-19",
    "PID-20",
    "PID-21",
    "PV1-5",
    "PV1-19",
    "PV1-50",
    "MRG-1",
    "MRG-2",
    "MRG-3",
    "MRG-4",
)
_IDENTIFIERS_TOO: Final = (
    "NK1-33",
    "NK1-37",
    "GT1-2",
    "GT1-12",
    "IN1-36",
    "IN1-49",
    "IN2-1",
    "IN2-2",
    "OBR-2",
    "OBR-3",
    "ORC-2",
    "ORC-3",
    "OBR-18",
    "OBR-20",
)
_ADDRESSES: Final = ("PID-11", "NK1-4", "NK1-32", "GT1-5", "IN1-19")
_TELEPHONES: Final = ("PID-13", "PID-14", "NK1-5", "NK1-6", "NK1-31", "GT1-6", "GT1-7")


@cache
def table() -> dict[str, dict[int, str]]:
    """Segment -> field -> rule."""
    text = files("engine.deidentify").joinpath("tables/hl7v2.csv").read_text(encoding="utf-8")
    found: dict[str, dict[int, str]] = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        found.setdefault(row["segment"], {})[int(row["field"])] = row["rule"]
    return found


def deidentify(body: bytes, policy: Policy, charset: str | None = None) -> bytes:
    """The message as it may leave. Raises ParseError, and Quarantined where it still holds what identifies the patient."""
    message = decode(body, charset=charset)
    traces = _gather(message)
    cleaner = _Cleaner(message.separators, policy, _person(message, policy), traces)
    segments = [(segment.name, cleaner.segment(segment)) for segment in message.segments if segment.name in table()]
    for name, text in segments:
        _verify(name, text, message.separators, traces, message.charset)
    return b"".join(text.encode(message.charset) + b"\r" for _, text in segments)


def _person(message: Message, policy: Policy) -> Person:
    """The first identifier of PID-3 (before version 2.3.1 of PID-2) of the first PID."""
    pid = message.first("PID")
    for number in (3, 2):
        for text in pid.repetitions(number) if pid else ():
            authority, value = _cx(text, message.separators, policy)
            if value:
                return policy.person(authority, value)
    return policy.person("", "")


def _cx(text: str, separators: Separators, policy: Policy) -> tuple[str, str]:
    """The authority and the value of a CX."""
    parts = separators.components(text)
    value = separators.unescape(parts[0]).strip()
    return _authority(separators.subcomponents(parts[3]) if len(parts) > 3 else [], separators, policy), "" if value == NULL else value


def _authority(hd: list[str], separators: Separators, policy: Policy) -> str:
    words = [separators.unescape(word) for word in hd]
    return policy.authorities.of_hd(*([*words, "", "", ""][:3]))


def _gather(message: Message) -> Traces:
    """What identifies the patient and the relatives, in the segments that leave and in those that do not."""
    traces, separators = Traces(), message.separators
    for segment in message.segments:
        for number in range(1, len(segment.fields)):
            place = f"{segment.name}-{number}"
            for text in segment.repetitions(number):
                parts = [separators.unescape(part) for one in separators.components(text) for part in separators.subcomponents(one)]
                if place in _NAMES:
                    traces.name(*parts[:3])
                elif place in _IDENTIFIERS or place in _IDENTIFIERS_TOO:
                    traces.identifier(parts[0])
                elif place == "PID-7":
                    traces.date(parts[0])
                elif place in _ADDRESSES:
                    traces.address(*parts[:3])
                elif place in _TELEPHONES:
                    for part in parts:
                        traces.telephone(part)
    return traces


def _verify(name: str, text: str, separators: Separators, traces: Traces, charset: str) -> None:
    for number, field in enumerate(text.split(separators.field)):
        if traces.within(separators.unescape(field.replace(separators.component, " "), charset)):
            place = number + 1 if name == "MSH" else number
            raise Quarantined("the result still holds what identifies the patient", location=f"{name}-{place}")


class _Cleaner:
    """For the segments of one message."""

    def __init__(self, separators: Separators, policy: Policy, person: Person, traces: Traces) -> None:
        self._separators, self._policy, self._person, self._traces = separators, policy, person, traces

    def segment(self, segment: Segment) -> str:
        """The whole segment as text. HL7's null stays: it tells nothing but to delete."""
        rules = table()[segment.name]
        first = 3 if segment.is_header else 1
        out = list(segment.fields)
        for number in range(first, len(out)):
            rule = rules.get(number, "remove")
            if rule == "value":
                rule = _BY_TYPE.get(segment.field(2), "remove")
            if out[number] not in ("", NULL) and rule != "keep":
                out[number] = self._field(segment, number, rule)
        del out[1 : 2 if segment.is_header else 1]
        return self._separators.field.join(out).rstrip(self._separators.field)

    def _field(self, segment: Segment, number: int, rule: str) -> str:
        repetitions = [self._one(text, rule) for text in segment.repetitions(number)]
        return self._separators.repetition.join(repetitions).rstrip(self._separators.repetition or None)

    def _one(self, text: str, rule: str) -> str:
        """One repetition, raw."""
        separators = self._separators
        match rule:
            case "patient" | "identifier":
                return self._identifier(text)
            case "entity":
                return self._entity(separators.components(text), separators.component)
            case "entities":
                parts = (self._entity(separators.subcomponents(one), separators.subcomponent) for one in separators.components(text))
                return separators.component.join(parts)
            case "patient name":
                return self._person.pseudonym
            case "date" | "stamp":
                return self._date(text) or (_NO_DATE if rule == "stamp" else "")
            case "text":
                return self._text(text)
            case "code":
                return self._code(text)
            case "number":
                return text if _NUMBER.fullmatch(text) else self._text(text)
        return text if self._policy.retains(_KEPT_BY.get(rule, "")) else ""

    def _identifier(self, text: str) -> str:
        """CX: pseudonym, authority and type stay; check digits, facility and dates go."""
        parts = self._separators.components(text)
        authority, value = _cx(text, self._separators, self._policy)
        if not value:
            return ""
        kept = [self._policy.pseudonyms.identifier(authority, value), "", "", *parts[3:5]]
        return self._separators.component.join(kept).rstrip(self._separators.component)

    def _entity(self, parts: list[str], joint: str) -> str:
        """EI: the entity identifier is replaced, its HD stays."""
        value = self._separators.unescape(parts[0]).strip()
        if not value or value == NULL:
            return ""
        authority = _authority(parts[1:4], self._separators, self._policy)
        return joint.join([self._policy.pseudonyms.identifier(authority, value), *parts[1:4]]).rstrip(joint)

    def _date(self, text: str) -> str:
        """Each component that may be one: a DR has two, a TS a degree of precision."""
        separators = self._separators
        parts = [self._person.date(one, shifted_digits) for one in separators.components(text)[:2]]
        return separators.component.join(parts).rstrip(separators.component)

    def _text(self, text: str) -> str:
        if not self._policy.retains(p.DESCRIPTORS):
            return self._separators.escape_text(REMOVED)
        plain = self._separators.unescape(text.replace(self._separators.component, " "))
        return self._separators.escape_text(self._traces.cleaned(plain))

    def _code(self, text: str) -> str:
        """CE, CWE: code, its words and system, twice; words without a code are free text, and so is the original text (CWE-9)."""
        parts = self._separators.components(text)[:8]
        for at in (0, 3):
            if at + 1 < len(parts) and not parts[at] and parts[at + 1]:
                parts[at + 1] = self._text(parts[at + 1])
        return self._separators.component.join(parts).rstrip(self._separators.component)
