"""Tests of a site's channels: message in, expected out.

SITE/tests/CHANNEL/NAME.hl7 (or .astm, .json, .dcm; .xml for SOAP, .mtom for SOAP with attachments in the form in which it is kept; .csv,
.txt, .ndjson, .pdf, .zip where messages come in files) goes in; line ends of .hl7 and .astm files become the CR that ends segments and
records, as `meridian send` does it.
What must come out lies beside it, in NAME.expected.json:

    {"verdict": "accepted", "status": "QUEUED", "destinations": {"platform": {…the mapped Bundle…}}}

A destination that puts the message into words of its own (`soap`) shows its request; one that gets it as it came says
``"as received"``; HL7 text and other content is compared line by line. With ``"from": "county-laboratory"`` the message comes over a
connection that has proven to be that party. The message passes the channel's source first (character set, senders, FHIR structure), so
that a test sees what a sender would hear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from channels.differences import differences
from channels.model import Site
from engine import registry
from engine.channel import Channel, Outlet
from engine.contracts import Rehearsing, RehearsingFiles, Wording
from engine.deidentify.content import deidentify
from engine.deidentify.policy import Service
from engine.errors import DeliveryError, MessageError
from engine.identity import party_uri
from engine.message import ASTM, DICOM, FHIR_JSON, FILE, HL7V2, SOAP, Envelope, Judgement, Parcel, Status, Verdict
from engine.store.contract import Routed

_FILES: Final = (".csv", ".txt", ".ndjson", ".pdf", ".zip")
_TYPES: Final = {
    ".hl7": HL7V2,
    ".astm": ASTM,
    ".json": FHIR_JSON,
    ".dcm": DICOM,
    ".xml": SOAP,
    ".mtom": SOAP,
    **dict.fromkeys(_FILES, FILE),
}
_OF_LINES: Final = (HL7V2, ASTM)
_EXPECTED: Final = ".expected.json"


@dataclass(frozen=True)
class Outcome:
    """One test: its name, and where what came out differs, a line each; none when it passed. `new`: the expectation was written,
    and `result` says in a word what it expects."""

    name: str
    differences: tuple[str, ...]
    new: bool = False
    result: str = ""


def run(site: Site, *, update: bool = False) -> Iterator[Outcome]:
    """Run every test of a site; with `update` write what comes out as what is expected."""
    folder = site.folder / "tests"
    for channel in site.channels:
        for file in sorted((folder / channel.name).glob("*")):
            if file.suffix in _TYPES and not file.name.endswith(_EXPECTED):
                yield _one(channel, file, update)
    yield from _astray(folder, site)


def _astray(folder: Path, site: Site) -> Iterator[Outcome]:
    """What looks like a test and would never run."""
    known = {channel.name for channel in site.channels}
    for inside in sorted(folder.iterdir()) if folder.is_dir() else ():
        if inside.is_dir() and inside.name not in known | set(site.disabled):
            channels = ", ".join(sorted(known)) or "none"
            yield Outcome(inside.name, (f"tests/{inside.name}: there is no channel {inside.name!r}; known: {channels}",))
        for file in sorted(inside.glob(f"*{_EXPECTED}")) if inside.name in known else ():
            stem = file.name.removesuffix(_EXPECTED)
            if not any((inside / f"{stem}{suffix}").exists() for suffix in _TYPES):
                yield Outcome(
                    f"{inside.name}/{stem}", (f"{file.name} is here, but no message {', '.join(stem + suffix for suffix in _TYPES)}",)
                )


def _one(channel: Channel, file: Path, update: bool) -> Outcome:
    name = f"{channel.name}/{file.name}"
    expected = file.with_name(f"{file.stem}{_EXPECTED}")
    try:
        wanted = orjson.loads(expected.read_bytes()) if expected.exists() else None
        if wanted is not None and not isinstance(wanted, dict):
            return Outcome(name, (f"{expected.name} must be one JSON object",))
        sender = party_uri(wanted["from"]) if wanted and wanted.get("from") else ""
    except orjson.JSONDecodeError as error:
        return Outcome(name, (f"{expected.name} is not JSON: line {error.lineno}: {error.msg}",))
    except ValueError as error:
        return Outcome(name, (f"{expected.name}: from: {error}",))
    got = result_of(channel, _body(file), sender, file.name)
    if sender and wanted:
        got = {"from": wanted["from"], **got}
    if update:
        return _update(name, expected, wanted, got)
    if wanted is not None and "reason" not in wanted:  # the words of a refusal may change; who wants them compared writes them
        got.pop("reason", None)
    if wanted is None:
        return Outcome(name, (f"{expected.name} is missing ({_word(got)}); write it with: meridian test --update",))
    return Outcome(name, tuple(differences(wanted, got)))


def _update(name: str, expected: Path, wanted: dict[str, Any] | None, got: dict[str, Any]) -> Outcome:
    """A failure is never taken for what is wanted by itself: somebody must have written that it is."""
    explicit = wanted is not None and (wanted.get("verdict"), wanted.get("status")) == (got["verdict"], got.get("status"))
    if _failed(got) and not explicit:
        ask = {key: got[key] for key in ("verdict", "status") if key in got}
        text = f"{_word(got)}; not written. If that is what must come out, put {orjson.dumps(ask).decode()} into {expected.name} first"
        return Outcome(name, (text,))
    if wanted == got:
        return Outcome(name, ())
    expected.write_bytes(orjson.dumps(got, option=orjson.OPT_INDENT_2) + b"\n")
    return Outcome(name, (), new=True, result=_word(got))


def _failed(got: dict[str, Any]) -> bool:
    return got["verdict"] == Verdict.INVALID or got.get("status") == Status.ERROR


def _word(got: dict[str, Any]) -> str:
    """What came out, in a line."""
    state = str(got.get("status", got["verdict"]))
    if "destinations" in got:
        return f"{state} for {', '.join(got['destinations'])}"
    return f"{state}: {got['reason']}" if got.get("reason") else state


def _body(file: Path) -> bytes:
    content = file.read_bytes()
    return content.replace(b"\r\n", b"\r").replace(b"\n", b"\r") if _TYPES[file.suffix] in _OF_LINES else content


def result_of(channel: Channel, body: bytes, peer: str = "", name: str = "") -> dict[str, Any]:
    """What the channel makes of a message, without a store or a network. `peer` is a party URI, `name` that of a file in which it comes."""
    envelope, judgement = _envelope(channel, body, peer, name)
    judgement = judgement or channel.program.judge(envelope)
    result: dict[str, Any] = {"verdict": judgement.verdict.value}
    if judgement.reason:
        result["reason"] = f"{judgement.location}: {judgement.reason}" if judgement.location else judgement.reason
    if judgement.verdict is not Verdict.ACCEPTED:
        return result
    plan = channel.program.plan(envelope)
    result["status"] = plan.status.value
    if plan.reason:
        result["reason"] = plan.reason
    if plan.routed:
        outlets = {outlet.name: outlet for outlet in channel.outlets}
        result["destinations"] = {routed.destination: _sent(outlets[routed.destination], routed, envelope) for routed in plan.routed}
    return result


def _envelope(channel: Channel, body: bytes, peer: str, name: str) -> tuple[Envelope, Judgement | None]:
    adapter = registry.adapter(channel.source)
    if isinstance(adapter, RehearsingFiles):
        return adapter.rehearse_file(channel.source_options, name, body)
    if isinstance(adapter, Rehearsing):
        return adapter.rehearse(channel.source_options, body, peer)
    return Envelope(body, adapter.content_types[0] if adapter.content_types else "", peer=peer), None


def _sent(outlet: Outlet, routed: Routed, envelope: Envelope) -> Any:
    """What the destination would get; of what is de-identified, the result."""
    if outlet.deidentify is None:
        return _content(outlet, routed, envelope)
    body, kind = (envelope.body, envelope.content_type) if routed.body is None else (routed.body, routed.content_type)
    assert isinstance(body, bytes)
    try:
        made = replace(routed, body=deidentify(body, kind, Service(outlet.deidentify).policy())[0], content_type=kind)
    except MessageError as error:
        return f"quarantined: {error}"
    return _content(outlet, made, envelope)


def _content(outlet: Outlet, routed: Routed, envelope: Envelope) -> Any:
    adapter = registry.adapter(outlet.adapter)
    if isinstance(adapter, Wording):
        return _worded(adapter, outlet, routed, envelope)
    if routed.body is None:
        return "as received"
    if routed.content_type == FHIR_JSON:
        return orjson.loads(routed.body)
    return routed.body.decode("utf-8", "backslashreplace").replace("\r", "\n").split("\n")


def _worded(adapter: Wording, outlet: Outlet, routed: Routed, envelope: Envelope) -> Any:
    """What a destination would say, a line each."""
    body, kind = (envelope.body, envelope.content_type) if routed.body is None else (routed.body, routed.content_type)
    key = f"test/{outlet.name}"
    parcel = Parcel(
        1,
        1,
        body,
        kind,
        routed.message_type or envelope.message_type,
        envelope.control_id,
        key,
        routed.order_key,
        received_at=envelope.received_at,
    )
    try:
        return adapter.word(outlet.options, parcel).split("\n")
    except DeliveryError as error:
        return f"dead letter: {error}"
