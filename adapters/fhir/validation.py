"""The checks that a channel asks for before the commit: the structure of R4, and the models of fhir.resources (R4B, which reads R4).
The models are slow (milliseconds), and structure takes the time of its size: `quick` says what the reactor thread may do itself.

The issues say where and what kind, never the value: they are stored as the reason of a refusal and may be logged.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError as ModelError

from adapters.fhir.outcome import FhirRefusal, Issue
from engine.formats.fhir_r4.structure import faults

MOST_ISSUES: Final = 50
_QUICK: Final = {"none": 256 << 10, "structure": 32 << 10, "fhir.resources": 0}
"""Bytes, by the option `validate`."""

# pydantic's error types, worded; the rest of them is told by its own name.
_WORDING: Final = {
    "missing": ("required", "a required element is missing"),
    "extra_forbidden": ("structure", "this element is not part of the resource"),
    "value_error": ("value", "the value is not allowed here"),
    "assertion_error": ("invariant", "a rule of the resource is broken"),
    "list_type": ("structure", "this must be a list"),
    "string_type": ("structure", "this must be a string"),
    "bool_type": ("structure", "this must be true or false"),
    "model_type": ("structure", "this must be an object"),
}


class Invalid(FhirRefusal):
    """422 with all issues."""

    def __init__(self, issues: list[Issue]) -> None:
        first = issues[0]
        super().__init__(422, first.text, issue=first.code, location=first.expression)
        self.issues = issues


def quick(level: str, size: int) -> bool:
    """Whether parsing and checking `size` bytes takes no longer than a few milliseconds."""
    return size <= _QUICK[level]


def check(level: str, content: dict[str, Any], resource: bytes) -> None:
    """`level` is the option `validate`, `content` the parsed `resource`. Raises Invalid with the places at fault."""
    if level == "none":
        return
    found = faults(content)
    if found:
        raise Invalid([Issue(fault.code, fault.text, "error", fault.expression) for fault in found])
    if level == "fhir.resources":
        validate(content["resourceType"], resource)


def validate(resource_type: str, resource: bytes) -> None:
    """By the models. Raises Invalid with the places at fault."""
    from fhir.resources.R4B import get_fhir_model_class

    try:
        model: Any = get_fhir_model_class(resource_type)
    except (KeyError, LookupError) as error:
        raise Invalid([Issue("not-supported", "there is no model to check this type with", "error", resource_type)]) from error
    try:
        model.model_validate_json(resource)
    except ModelError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise Invalid([_issue(resource_type, fault) for fault in faults[:MOST_ISSUES]]) from error


def _issue(resource_type: str, fault: Any) -> Issue:
    code, text = _WORDING.get(fault["type"], ("invalid", f"the content is not valid here ({fault['type']})"))
    return Issue(code, text, "error", _expression(resource_type, fault["loc"]))


def _expression(resource_type: str, location: tuple[str | int, ...]) -> str:
    """``Bundle.entry[3].resource.status`` from pydantic's path."""
    text = resource_type
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text
