"""What an upload, or a question about one, asks for: the terminal's journal, and where in it the body begins. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.requests import Route, preference
from engine.http_answers import Sender

NDJSON: Final = frozenset({"application/fhir+ndjson", "application/x-ndjson", "application/ndjson"})
MOST_NUMBER: Final = (1 << 53) - 1
"""Sequence numbers are 1 and up; above this not every JSON reader is exact (RFC 8259 clause 6)."""
_DEVICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_CHARSET: Final = re.compile(r'charset\s*=\s*"?([^\s;"]+)')
_NAMES: Final = frozenset({"device", "first", "_format"})


@dataclass(frozen=True, slots=True)
class Journal:
    """Whose numbers: the party that the connection has proven ("" = none), and the name that the terminal gives itself."""

    party: str
    device: str

    @property
    def order_key(self) -> str:
        """Lines of one journal leave in their order (engine.message.ORDER_KEY)."""
        return f"journal:{self.party}|{self.device}"


@dataclass(frozen=True, slots=True)
class Asked:
    """`first` is the number of the first line, 0 where each line says its own; `brief`: lines that were kept are not reported one by
    one; `clock` is the terminal's own time as its Date header says it, "" for none."""

    journal: Journal
    first: int
    brief: bool
    clock: str


def journal_of(found: Route, sender: Sender) -> Journal:
    """Raises FhirRefusal 400."""
    parameters = found.parameters()
    if unknown := next((name for name, _ in parameters if name not in _NAMES), None):
        raise FhirRefusal(400, f"$upload has the parameters device and first, not {unknown[:40]!r}", issue="not-supported")
    devices = [value for name, value in parameters if name == "device"]
    if len(devices) != 1 or not _DEVICE.fullmatch(devices[0]):
        text = "the parameter device must name the terminal once: up to 64 letters, digits, dots, colons, hyphens, underscores"
        raise FhirRefusal(400, text, issue="required")
    return Journal(_proven(sender), devices[0])


def read(found: Route, headers: Mapping[str, str], sender: Sender) -> Asked:
    """What a POST asks for. Raises FhirRefusal 400, 415."""
    _check_media(headers.get("content-type", ""))
    journal = journal_of(found, sender)
    firsts = [value for name, value in found.parameters() if name == "first"]
    if len(firsts) > 1 or not all(_NUMBER.fullmatch(value) and int(value) <= MOST_NUMBER for value in firsts):
        raise FhirRefusal(400, "the parameter first must be the number of the first line, 1 or more", issue="value")
    return Asked(journal, int(firsts[0]) if firsts else 0, preference(headers, "return") == "minimal", _date(headers.get("date", "")))


def behind(clock: str, now: int) -> int | None:
    """How many seconds a terminal's clock is behind `now` (microseconds UTC), None where it does not say."""
    return round(now / 1e6 - parsedate_to_datetime(clock).timestamp()) if clock else None


def _date(said: str) -> str:
    """An HTTP date (RFC 9110 clause 5.6.7), "" where it is none: a clock is told, not relied on."""
    try:
        parsedate_to_datetime(said).timestamp()
    except (ValueError, TypeError, OverflowError):
        return ""
    return said[:40]


def _check_media(said: str) -> None:
    """Raises FhirRefusal 415."""
    kind, _, parameters = said.lower().partition(";")
    charset = _CHARSET.search(parameters)
    if kind.strip() not in NDJSON:
        raise FhirRefusal(415, "the body must be application/fhir+ndjson or application/x-ndjson")
    if charset is not None and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise FhirRefusal(415, "the body must be in UTF-8 (RFC 8259 8.1)")
    if "fhirversion" in parameters and "4.0" not in parameters:
        raise FhirRefusal(415, "this server speaks FHIR version 4.0")


def _proven(sender: Sender) -> str:
    """A host is no proof, and a terminal that comes back from the road has another address."""
    return "" if sender.who == sender.remote.rpartition(":")[0] else sender.who
