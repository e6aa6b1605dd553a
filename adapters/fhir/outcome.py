"""Answers in FHIR's terms: OperationOutcome (R4 2.36.1) and the form in which an answer travels through the store.

The channel stores one byte string as the answer to a message. For HTTP that must carry status, headers and body, so it is
written as one line of JSON, ``{"status": 201, "headers": {"ETag": "W/\\"1\\""}}``, a line feed, and the body exactly as it is.
Source and repository destination both speak this form, and no one else has to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from engine.http_answers import REASONS, HttpRefusal

# IssueType (R4 valueset-issue-type) that goes with a status where nothing more exact is known.
_ISSUE_TYPES: Final = {
    400: "invalid", 401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 406: "not-supported", 408: "timeout",
    409: "conflict", 410: "deleted", 412: "conflict", 413: "too-long", 415: "not-supported", 422: "processing", 429: "throttled",
    501: "not-supported", 503: "transient",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Issue:
    """One OperationOutcome.issue. `expression` is a FHIRPath (``Bundle.entry[3].resource.status``)."""

    code: str
    text: str
    severity: str = "error"
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: what the sender hears, and what is stored."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        return orjson.dumps({"status": self.status, "headers": dict(self.headers)}) + b"\n" + self.body

    @classmethod
    def decode(cls, stored: bytes) -> Answer:
        """The answer that `encode` wrote. Raises ValueError where the bytes are something else."""
        head, _, body = stored.partition(b"\n")
        facts = orjson.loads(head)
        if not isinstance(facts, dict) or not isinstance(facts.get("status"), int):
            raise ValueError("not a stored answer")
        return cls(facts["status"], body, facts.get("headers", {}))


class Outcome(NamedTuple):
    """What became of one Bundle in the repository; `answer` is an encoded Answer. `text` "" = applied."""

    answer: bytes
    text: str = ""
    location: str = ""


class FhirRefusal(HttpRefusal):
    """An interaction that is not carried out, with the HTTP status to answer and its issues (never payload)."""

    code = "message.fhir"

    def __init__(self, status: int, text: str, *, issue: str = "", location: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, text, location=location, headers=headers)
        self.issues: Sequence[Issue] = [Issue(issue or _ISSUE_TYPES.get(status, "exception"), text, "error", location)]

    def answer(self) -> Answer:
        return Answer(self.status, operation_outcome(self.issues), self.headers)


def operation_outcome(issues: Sequence[Issue]) -> bytes:
    """An OperationOutcome resource as JSON."""
    return orjson.dumps({"resourceType": "OperationOutcome", "issue": [issue_element(issue) for issue in issues]})


def issue_element(issue: Issue) -> dict[str, object]:
    """OperationOutcome.issue."""
    element: dict[str, object] = {"severity": issue.severity, "code": issue.code, "diagnostics": issue.text}
    if issue.expression:
        element["expression"] = [issue.expression]
    return element


def status_line(status: int) -> str:
    """``201 Created``: Bundle.entry.response.status (R4 2.36.4)."""
    return f"{status} {REASONS[status]}" if status in REASONS else str(status)
