"""Answers in FHIR's terms: OperationOutcome (R4 2.36.1). Source and repository destination give each other answers in the form of
engine.http_answers.kept_form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from engine.http_answers import REASONS, HttpRefusal, kept_form, read_kept

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
        return kept_form(self.status, self.headers, self.body)

    @classmethod
    def decode(cls, stored: bytes) -> Answer:
        """The answer that `encode` wrote. Raises ValueError where the bytes are something else."""
        status, headers, body = read_kept(stored)
        return cls(status, body, headers)


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


class NotAllowed(FhirRefusal):
    """The party is known, and may not do this."""

    def __init__(self, text: str, *, location: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(403, text, location=location, headers=headers)


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
