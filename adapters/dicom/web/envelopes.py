"""An instance of a store request and its envelope: pure, no socket."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from adapters.dicom.instances import Facts, read_file_facts
from adapters.dicom.web.part10 import FileReading
from engine.errors import ParseError
from engine.message import Judgement, Verdict

_UID: Final = re.compile(r"(?=.{1,64}$)[0-9]+(?:\.[0-9]+)*")
_UNREADABLE: Final = Judgement(Verdict.INVALID, "the data set cannot be read", "100")
_NO_IDENTITY: Final = Judgement(Verdict.INVALID, "there is no SOP Class or Instance UID", "101", "(0008,0018)")
_OTHER_STUDY: Final = Judgement(Verdict.REFUSED, "the instance is of another study than the request", "204", "(0020,000D)")


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is known of an instance without its body; `fault` says what keeps it from being taken, `digest` is that of its data set."""

    facts: Facts = Facts()  # noqa: RUF009  it is frozen
    digest: bytes = b""
    fault: Judgement | None = None

    @property
    def study(self) -> str:
        """Study Instance UID, "" where there is none that is one."""
        return _uid(self.facts.study_uid)

    @property
    def series(self) -> str:
        """Series Instance UID, likewise."""
        return _uid(self.facts.series_uid)

    @property
    def other_study(self) -> bool:
        """It is refused because of the study that the request is for."""
        return self.fault is _OTHER_STUDY


def arrived(reading: FileReading, study: str) -> Arrived:
    """What a part that is complete says of itself; `study` is the one that the request is for, "" any (PS3.18 10.5.2)."""
    try:
        digest = reading.finish()
    except ParseError as error:
        return Arrived(fault=Judgement(Verdict.INVALID, error.text, error.hl7_code, error.location))
    facts = read_file_facts(bytes(reading.head))
    if not facts.readable:
        return Arrived(digest=digest, fault=_UNREADABLE)
    if not facts.sop_class or not _uid(facts.sop_instance):
        return Arrived(replace(facts, sop_instance=""), digest, _NO_IDENTITY)
    return Arrived(facts, digest, _OTHER_STUDY if study and facts.study_uid != study else None)


def _uid(text: str) -> str:
    return text if _UID.fullmatch(text) else ""
