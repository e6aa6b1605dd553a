"""What is said of a line, and of all of them: OperationOutcome (R4 2.36.1), each one line of the answer (ndjson). Pure.

Line number, sequence number and result stand in extensions of the OperationOutcome, so that no program has to read the words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from adapters.fhir.offline.asked import Journal
from adapters.fhir.outcome import Answer, Issue, issue_element
from engine.message import Ack, Verdict

EXTENSION: Final = "urn:meridian:fhir:upload:"
"""Before ``line``, ``sequence``, ``result`` and, in the last OperationOutcome, what `Summary` says."""


class Result(StrEnum):
    """What became of a line."""

    KEPT = "kept"  # committed now
    REPEATED = "repeated"  # the same was kept before: nothing was done
    REFUSED = "refused"  # its own content is at fault, or the channel does not take it
    CONFLICT = "conflict"  # its number was used before, for other content
    UNAVAILABLE = "unavailable"  # not kept: send it again later


GOOD: Final = frozenset({Result.KEPT, Result.REPEATED})
_MOST_ISSUES: Final = 20
_SAID: Final = {
    Result.KEPT: Issue("informational", "kept", "information"),
    Result.REPEATED: Issue("informational", "kept before", "information"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a journal has come: every number up to `complete` is settled, `highest` is the highest of all that are; `missing` are the
    first ranges between them that have not come."""

    complete: int = 0
    highest: int = 0
    missing: Sequence[tuple[int, int]] = ()


@dataclass(slots=True)
class Summary:
    """All of an upload, for its last line."""

    journal: Journal
    results: Counter[Result] = field(default_factory=Counter)
    issues: list[Issue] = field(default_factory=list)

    def line(self, standing: Standing | None) -> bytes:
        """The last OperationOutcome; `standing` None where it cannot be told."""
        counted = {result: self.results[result] for result in Result}
        text = ", ".join(f"{count} {result}" for result, count in counted.items() if count) or "no lines"
        facts: list[Any] = [_extension("result", "valueCode", "summary")]
        facts += [_extension(result, "valueDecimal", count) for result, count in counted.items()]
        issues = []
        if standing is not None:
            text = f"{text}; settled up to {standing.complete}, and {standing.highest} is the highest"
            facts += [_extension(name, "valueDecimal", getattr(standing, name)) for name in ("complete", "highest")]
            facts += [_extension("missing", "valueString", ranges([one])) for one in standing.missing]
            if standing.missing:
                issues.append(Issue("incomplete", f"these numbers have not come: {ranges(standing.missing)}", "warning"))
        return _outcome(facts, [Issue("informational", text, "information"), *issues, *self.issues])


def line(number: int, sequence: int, result: Result, issues: Sequence[Issue]) -> bytes:
    """The OperationOutcome of one line; `sequence` 0 where it has none."""
    facts = [_extension("line", "valueDecimal", number)]
    if sequence:
        facts.append(_extension("sequence", "valueDecimal", sequence))
    facts.append(_extension("result", "valueCode", result))
    said = _SAID.get(result)
    return _outcome(facts, [*([said] if said else []), *issues])


def issues_of(ack: Ack) -> Sequence[Issue]:
    """Why a line was refused, as whoever refused it has said: the channel, or a destination that the channel answers from."""
    judgement = ack.judgement
    try:
        issues = orjson.loads(Answer.decode(ack.answer).body)["issue"][:_MOST_ISSUES]
        found = [Issue(str(one["code"]), str(one.get("diagnostics", "")), "error", _place(one)) for one in issues]
    except (ValueError, TypeError, KeyError, AttributeError):
        found = []
    code = "forbidden" if judgement.verdict is Verdict.REFUSED else "processing"
    return found or [Issue(code, judgement.reason or "refused", "error", judgement.location)]


def _place(issue: dict[str, Any]) -> str:
    expressions = issue.get("expression")
    return str(expressions[0]) if isinstance(expressions, list) and expressions else ""


def standing_parameters(journal: Journal, standing: Standing) -> bytes:
    """The answer to a question where to go on: Parameters (R4 2.37)."""
    parameters: list[dict[str, Any]] = [{"name": "device", "valueString": journal.device}]
    parameters += [{"name": name, "valueDecimal": getattr(standing, name)} for name in ("complete", "highest")]
    parameters.append({"name": "next", "valueDecimal": standing.complete + 1})
    for low, high in standing.missing:
        parts = [{"name": "first", "valueDecimal": low}, {"name": "last", "valueDecimal": high}]
        parameters.append({"name": "missing", "part": parts})
    return orjson.dumps({"resourceType": "Parameters", "parameter": parameters})


def ranges(missing: Sequence[tuple[int, int]]) -> str:
    """``4-7, 9``."""
    return ", ".join(f"{low}-{high}" if high > low else f"{low}" for low, high in missing)


def _extension(name: str, kind: str, value: object) -> dict[str, Any]:
    return {"url": EXTENSION + name, kind: value}


def _outcome(facts: Sequence[Any], issues: Sequence[Issue]) -> bytes:
    made = {"resourceType": "OperationOutcome", "extension": facts, "issue": [issue_element(issue) for issue in issues]}
    return orjson.dumps(made) + b"\n"
