"""What the sender hears: the channel's answer, problems as RFC 9457 says, acknowledgments of HL7 v2. Pure.

A verdict as a status: accepted as the channel says (202); refused 403; content at fault 422, not what its media type says 400, a key used
again for other content 422 (draft-ietf-httpapi-idempotency-key-header clause 2.6); the store cannot take it 503.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from engine import templates
from engine.errors import ParseError
from engine.formats.hl7v2 import acknowledge, read_header
from engine.http_answers import NO_CONTENT, REASONS, Answer, HttpRefusal, kept_form, read_kept
from engine.message import HL7V2, Ack, Envelope, Judgement, Verdict
from engine.options import TEXT, Faulty, Settings

HL7_OVER_HTTP: Final = "application/hl7-v2"
PROBLEM: Final = "application/problem+json"
LATER: Final = {"Retry-After": "5"}
UNREADABLE: Final = "100"
"""HL7 table 0357, as engine.errors.ParseError has it: content that is not of its format."""
REUSED: Final = "205"
_FACTS: Final = ("message.control_id", "message.type", "message.key")
_RELAYED: Final = frozenset({"content-type", "location", "etag", "retry-after"})


def problem(status: int, text: str, *, location: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """RFC 9457 clause 3.1; `location` is where in the content."""
    content = {"type": "about:blank", "title": REASONS.get(status, "Error"), "status": status, "detail": text}
    if location:
        content["location"] = location
    return Answer(status, [orjson.dumps(content)], PROBLEM, headers or {})


def refusal(refused: HttpRefusal) -> Answer:
    return problem(refused.status, refused.text, location=refused.location, headers=refused.headers)


@dataclass(frozen=True, slots=True)
class Template:
    """The body of an answer: YAML's tree, or text."""

    tree: Any

    def fill(self, value: Callable[[str], str | None]) -> bytes:
        if isinstance(self.tree, str):
            return (templates.text_of(self.tree, value) or "").encode()
        return orjson.dumps(_filled(self.tree, value))


def body_of(raw: Any) -> Template:
    """Raises Faulty."""
    tree = _plain(raw)
    for name in templates.names_in(_texts(tree), ()):
        if name not in _FACTS:
            raise Faulty(f"an answer cannot say ${{{name}}}", ", ".join(_FACTS))
    return Template(tree)


def _plain(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return {str(name): _plain(item) for name, item in raw.items()}
    if isinstance(raw, list):
        return [_plain(item) for item in raw]
    if raw is None or isinstance(raw, bool | int):
        return raw
    return float(raw) if isinstance(raw, float) else str(TEXT.read(raw))


def _texts(tree: Any) -> list[str]:
    if isinstance(tree, str):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [text for item in items for text in _texts(item)]


def _filled(tree: Any, value: Callable[[str], str | None]) -> Any:
    if isinstance(tree, str):
        return templates.text_of(tree, value)
    if isinstance(tree, list):
        return [_filled(item, value) for item in tree]
    return {name: _filled(item, value) for name, item in tree.items()} if isinstance(tree, dict) else tree


class Answers:
    """`options` are those of adapters.http.options.ANSWER; `new_id` and `clock` are for acknowledgments."""

    def __init__(self, options: Settings, new_id: Callable[[], str], clock: Callable[[], int]) -> None:
        self._options, self._new_id, self._clock = options, new_id, clock

    def reply(self, envelope: Envelope, judgement: Judgement, begin: bytes) -> bytes:
        """engine.contracts.Reply, in the form of engine.http_answers.kept_form. `begin` is what the content begins with."""
        answer = self._acknowledged(begin, judgement) if envelope.content_type == HL7V2 else self._worded(envelope, judgement)
        headers = {"content-type": answer.content_type} if answer.content_type else {}
        return kept_form(
            answer.status, {**headers, **answer.headers}, b"".join(piece for piece in answer.content if isinstance(piece, bytes))
        )

    def of(self, envelope: Envelope, ack: Ack) -> Answer:
        """What was committed, or what a destination has answered."""
        try:
            status, headers, body = read_kept(ack.answer)
        except ValueError:
            return self._of_destination(envelope, ack)
        said = {name.lower(): value for name, value in headers.items() if name.lower() in _RELAYED}
        kind = said.pop("content-type", "")
        status = status if 200 <= status < 600 else 502
        return Answer(status, [] if status in NO_CONTENT else [body], kind, said)

    def _of_destination(self, envelope: Envelope, ack: Ack) -> Answer:
        """The answer of one that does not speak HTTP: as it is, in the form that it begins like."""
        accepted = ack.judgement.verdict is Verdict.ACCEPTED
        status = self._options.status if accepted else self._status(ack.judgement)
        return Answer(status, [ack.answer], _looks(ack.answer)) if ack.answer else self._worded(envelope, ack.judgement)

    def _status(self, judgement: Judgement) -> int:
        if judgement.verdict is Verdict.ACCEPTED:
            return int(self._options.status)
        if judgement.verdict is Verdict.REFUSED:
            return int(self._options.refused)
        if judgement.verdict is Verdict.UNAVAILABLE:
            return 503
        return 400 if judgement.hl7_code == UNREADABLE else 422

    def _worded(self, envelope: Envelope, judgement: Judgement) -> Answer:
        status = self._status(judgement)
        if judgement.verdict is Verdict.ACCEPTED:
            return self._said(envelope, status)
        headers = LATER if status == 503 else {}
        if judgement.hl7_code == REUSED:
            return problem(status, "this idempotency key was used before for other content", headers=headers)
        if status < 400:
            return Answer(status, [orjson.dumps({"accepted": False, "detail": judgement.reason})], "application/json")
        return problem(status, judgement.reason or "refused", location=judgement.location, headers=headers)

    def _said(self, envelope: Envelope, status: int) -> Answer:
        template: Template | None = self._options.body
        if template is None or status in NO_CONTENT:
            return Answer(status)
        key = envelope.idempotency_key.partition("|")[2]
        facts = {"message.control_id": envelope.control_id, "message.type": envelope.message_type, "message.key": key}
        kind = self._options.content_type if isinstance(template.tree, str) else "application/json"
        return Answer(status, [template.fill(facts.get)], kind)

    def _acknowledged(self, begin: bytes, judgement: Judgement) -> Answer:
        """HAPI's HL7 over HTTP 1.0: an ACK whatever the verdict; 200 where it is positive."""
        try:
            header = read_header(begin)
        except ParseError:
            header = None
        now, control_id = self._clock(), self._new_id()
        ack = acknowledge(header, judgement, enhanced=header is not None and header.enhanced, control_id=control_id, now=now)
        status = 200 if judgement.verdict is Verdict.ACCEPTED else self._status(judgement)
        return Answer(status, [ack], HL7_OVER_HTTP, LATER if status == 503 else {})


def _looks(answer: bytes) -> str:
    begin = answer.lstrip()[:1]
    if answer.startswith(b"MSH"):
        return HL7_OVER_HTTP
    return {b"{": "application/json", b"[": "application/json", b"<": "application/xml"}.get(begin, "text/plain; charset=utf-8")
