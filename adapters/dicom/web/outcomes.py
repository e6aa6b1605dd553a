"""What became of the instances of a store request: the response data set (PS3.18 clause 10.5.3, annex I.2). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from adapters.dicom.web.media import DICOM_JSON, DICOM_XML
from adapters.dicom.web.native_model import native_model
from engine.http_answers import Answer
from engine.message import Judgement, Verdict

# Failure reasons (PS3.18 table I.2-2, PS3.7 annex C)
OUT_OF_RESOURCES: Final = 0xA700
CANNOT_UNDERSTAND: Final = 0xC000
OTHER_STUDY: Final = 0xC409
"""Within "cannot understand": the instance is of another study than the one that the request is for."""
NOT_AUTHORIZED: Final = 0x0124
PROCESSING_FAILURE: Final = 0x0110

_REASONS: Final = {
    Verdict.REFUSED: NOT_AUTHORIZED,
    Verdict.INVALID: CANNOT_UNDERSTAND,
    Verdict.UNAVAILABLE: OUT_OF_RESOURCES,
}
MOST_REFUSALS: Final = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """One part of the request. `reason` 0: stored. UIDs are "" where the part could not be read that far; `text` says what was wrong."""

    sop_class: str = ""
    sop_uid: str = ""
    study: str = ""
    series: str = ""
    reason: int = 0
    text: str = ""


def failure_reason(judgement: Judgement) -> int:
    """0 where the message was taken."""
    return _REASONS.get(judgement.verdict, 0)


def response(outcomes: Sequence[Outcome], base: str) -> dict[str, Any]:
    """The store response as DICOM JSON. `base` is the address of the service where what was stored can be retrieved, "" where not."""
    stored = [one for one in outcomes if not one.reason]
    failed = [one for one in outcomes if one.reason and one.sop_uid]
    others = [one for one in outcomes if one.reason and not one.sop_uid]
    studies = {one.study for one in stored}
    found: dict[str, Any] = {"00081190": {"vr": "UR"}}
    if base and len(studies) == 1 and "" not in studies:
        found["00081190"] = _element("UR", f"{base}/studies/{studies.pop()}")
    if stored:
        found["00081199"] = _sequence([{**_reference(one), **_retrieve(one, base)} for one in stored])
    if failed:
        found["00081198"] = _sequence([{**_reference(one), "00081197": _element("US", one.reason)} for one in failed])
    if others:
        found["0008119A"] = _sequence([{"00081197": _element("US", one.reason)} for one in others])
    return found


def answer(outcomes: Sequence[Outcome], base: str, media: str, *, closes: bool = False) -> Answer:
    """200 all stored, 202 some, 409 none, 503 none because there is no room now, 400 nothing that could be read (table 10.5.3-1)."""
    failed = [one for one in outcomes if one.reason]
    headers = {"Connection": "close"} if closes else {}
    if said := "; ".join(dict.fromkeys(one.text for one in failed[:MOST_REFUSALS] if one.text)):
        headers["Warning"] = f'299 meridian "{said[:1000]}"'
    status = _status(outcomes, failed)
    if status == 503:
        headers["Retry-After"] = "5"
    data_set = response(outcomes, base)
    content = native_model(data_set) if media == DICOM_XML else orjson.dumps(data_set)
    return Answer(status, [content], media if media == DICOM_XML else DICOM_JSON, headers)


def _status(outcomes: Sequence[Outcome], failed: Sequence[Outcome]) -> int:
    if not failed and outcomes:
        return 200
    if len(failed) < len(outcomes):
        return 202
    if any(one.reason == OUT_OF_RESOURCES for one in failed):
        return 503
    return 409 if any(one.sop_uid for one in failed) else 400


def _reference(one: Outcome) -> dict[str, Any]:
    return {"00081150": _element("UI", one.sop_class), "00081155": _element("UI", one.sop_uid)}


def _retrieve(one: Outcome, base: str) -> Mapping[str, Any]:
    if not (base and one.study and one.series):
        return {}
    return {"00081190": _element("UR", f"{base}/studies/{one.study}/series/{one.series}/instances/{one.sop_uid}")}


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}
