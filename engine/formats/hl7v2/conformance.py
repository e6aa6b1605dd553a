"""Strict validation with hl7apy, where a channel asks for it: about 170 messages/s, so never on the hot path."""

from __future__ import annotations

from functools import cache

from engine.errors import ValidationError
from engine.formats.hl7v2.message import decode

_PAYLOAD_FREE = 160


def validate(body: bytes, *, level: str = "strict", charset: str | None = None) -> None:
    """Check structure, cardinality, required fields and data types against the standard's own version of the message.

    `level` is ``strict`` or ``tolerant`` (unknown elements pass). Raises ParseError where it cannot be read, ValidationError with the
    location and a table 0357 code where it does not conform. Z segments are no fault.
    """
    from hl7apy.consts import VALIDATION_LEVEL
    from hl7apy.exceptions import HL7apyException
    from hl7apy.parser import parse_message

    message = decode(body, charset=charset)
    text = "\r".join(segment.text for segment in message.segments if not segment.name.startswith("Z"))
    strictness = VALIDATION_LEVEL.STRICT if level == "strict" else VALIDATION_LEVEL.TOLERANT
    try:
        parse_message(text, validation_level=strictness, find_groups=True).validate()
    except HL7apyException as error:
        raise _fault(error) from None
    except (KeyError, IndexError, AttributeError, ValueError, TypeError):  # hl7apy's own slips on input that it does not foresee
        raise ValidationError("hl7apy cannot work on this message", hl7_code="207") from None


def _fault(error: Exception) -> ValidationError:
    """hl7apy's words without the payload they may quote: only the kind of fault and the names of elements."""
    kind = type(error).__name__
    named = [word.strip("'\"().,:") for word in str(error).split() if _is_element(word.strip("'\"().,:"))]
    what = {
        "UnsupportedVersion": ("this version of HL7 v2 is not known", "203"),
        "InvalidName": ("an element has no place in this message", "100"),
        "ChildNotFound": ("an element has no place in its parent", "100"),
        "ChildNotValid": ("an element has no place in its parent", "100"),
        "MaxChildLimitReached": ("an element occurs more often than allowed", "100"),
        "MaxLengthReached": ("a value is longer than allowed", "102"),
        "InvalidDataType": ("a value is not of its data type", "102"),
        "InvalidDateFormat": ("a value is not a date or time", "102"),
    }.get(kind)
    text, code = what or (("a required element is missing", "101") if "Missing" in str(error) else ("the message does not conform", "102"))
    location = named[-1] if named else ""
    names = ", ".join(dict.fromkeys(named))[:_PAYLOAD_FREE]
    return ValidationError(f"{text} ({kind}{': ' + names if names else ''})", location=location.replace("_", "-", 1), hl7_code=code)


def _is_element(word: str) -> bool:
    """``PID_3``, ``OBX``, ``ORU_R01_PATIENT_RESULT``: names out of the standard's tables, never values."""
    return word.isupper() and word.partition("_")[0] in _names()


@cache
def _names() -> frozenset[str]:
    """The first parts of all segment, message and group names that hl7apy knows."""
    from hl7apy import load_library

    library = load_library("2.6")
    return frozenset(name.partition("_")[0] for name in (*library.SEGMENTS, *library.MESSAGES, *library.GROUPS))
