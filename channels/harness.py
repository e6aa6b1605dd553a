"""Tests of a site's channels: message in, expected out.

SITE/tests/CHANNEL/NAME.hl7 (or .json) goes in. What must come out lies beside it:

    NAME.expected.json         what each destination gets, or why none does:
        {"verdict": "accepted", "status": "QUEUED", "destinations": {"platform": {…the mapped Bundle…}}}

A destination that gets the message as it came says ``"as received"``; HL7 text and other content is compared line by line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from channels.model import Site
from engine.channel import Channel
from engine.errors import ParseError
from engine.message import FHIR_JSON, HL7V2, Envelope, Verdict
from engine.store.contract import Routed

_TYPES = {".hl7": HL7V2, ".json": FHIR_JSON}


@dataclass(frozen=True)
class Outcome:
    """One test: its name, and where what came out differs, a line each; none when it passed."""

    name: str
    differences: tuple[str, ...]
    new: bool = False


def run(site: Site, *, update: bool = False) -> Iterator[Outcome]:
    """Run every test of a site; with `update` write what comes out as what is expected."""
    for channel in site.channels:
        folder = site.folder / "tests" / channel.name
        for file in sorted(folder.glob("*")) if folder.is_dir() else ():
            if file.suffix in _TYPES and not file.name.endswith(".expected.json"):
                yield _one(channel, file, update)


def _one(channel: Channel, file: Path, update: bool) -> Outcome:
    name = f"{channel.name}/{file.name}"
    expected = file.with_name(f"{file.stem}.expected.json")
    got = result_of(channel, file.read_bytes(), _TYPES[file.suffix])
    if update or not expected.exists():
        if update:
            expected.write_bytes(orjson.dumps(got, option=orjson.OPT_INDENT_2) + b"\n")
            return Outcome(name, (), new=True)
        return Outcome(name, (f"{expected.name} is missing; write it with: meridian test --update",))
    try:
        wanted = orjson.loads(expected.read_bytes())
    except orjson.JSONDecodeError as error:
        return Outcome(name, (f"{expected.name} is not JSON: {error}",))
    return Outcome(name, tuple(differences(wanted, got)))


def result_of(channel: Channel, body: bytes, content_type: str) -> dict[str, Any]:
    """What the channel makes of a message, without a store or a network."""
    envelope = _envelope(body, content_type)
    judgement = channel.program.judge(envelope)
    result: dict[str, Any] = {"verdict": judgement.verdict.value}
    if judgement.reason:
        result["reason"] = judgement.reason
    if judgement.verdict is not Verdict.ACCEPTED:
        return result
    plan = channel.program.plan(envelope)
    result["status"] = plan.status.value
    if plan.reason:
        result["reason"] = plan.reason
    if plan.routed:
        result["destinations"] = {routed.destination: _content(routed) for routed in plan.routed}
    return result


def _envelope(body: bytes, content_type: str) -> Envelope:
    if content_type != HL7V2:
        return Envelope(body, content_type, "Bundle")
    from engine.formats.hl7v2 import read_header

    try:
        header = read_header(body)
    except ParseError:
        return Envelope(body, content_type)
    return Envelope(body, content_type, header.message_type, header.control_id, header.sender, patient_ids=header.patient_ids)


def _content(routed: Routed) -> Any:
    if routed.body is None:
        return "as received"
    if routed.content_type == FHIR_JSON:
        return orjson.loads(routed.body)
    return routed.body.decode("utf-8", "backslashreplace").replace("\r", "\n").split("\n")


def differences(wanted: Any, got: Any, path: str = "") -> Iterator[str]:
    """Element by element: what is missing, what is too much, what is other."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for name in [*wanted, *(name for name in got if name not in wanted)]:
            where = f"{path}.{name}" if path else name
            if name not in got:
                yield f"{where}: missing, expected {_short(wanted[name])}"
            elif name not in wanted:
                yield f"{where}: not expected, got {_short(got[name])}"
            else:
                yield from differences(wanted[name], got[name], where)
    elif isinstance(wanted, list) and isinstance(got, list) and all(isinstance(x, dict) for x in [*wanted, *got]):
        for index in range(max(len(wanted), len(got))):
            where = f"{path}[{index}]"
            if index >= len(got):
                yield f"{where}: missing, expected {_short(wanted[index])}"
            elif index >= len(wanted):
                yield f"{where}: not expected, got {_short(got[index])}"
            else:
                yield from differences(wanted[index], got[index], where)
    elif isinstance(wanted, list) and isinstance(got, list):
        lines = difflib.unified_diff([str(x) for x in wanted], [str(x) for x in got], "expected", "got", lineterm="", n=0)
        yield from (f"{path}: {line}" for line in lines if line[:2] not in ("--", "++", "@@"))
    elif wanted != got:
        yield f"{path}: expected {_short(wanted)}, got {_short(got)}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
