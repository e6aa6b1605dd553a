"""The forms of metadata values (IHE ITI TF-3 table 4.2.3.1.7-2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*))+")
_UUID: Final = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")
_PATIENT: Final = re.compile(r"[^^~|]+\^\^\^(?:[^&^]*)&([0-9.]+)&ISO(?:\^.*)?")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")
_SHA1: Final = re.compile(r"[0-9A-Fa-f]{40}")
_MIME: Final = re.compile(r"[!#$&^_.+A-Za-z0-9-]+/[!#$&^_.+A-Za-z0-9-]+(?:\s*;.*)?")
_PID: Final = re.compile(r"PID-\d+\|.*", re.DOTALL)
_DTM: Final = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def fits(form: str, value: str) -> bool:
    """Whether `value` has the form that attributes.csv names; "" is any."""
    return form not in _FORMS or _FORMS[form](value)


def is_uuid(value: str) -> bool:
    return _UUID.fullmatch(value) is not None


def is_oid(value: str) -> bool:
    """4.2.3.1.1: at most 64 characters."""
    return len(value) <= 64 and _OID.fullmatch(value) is not None


def is_time(value: str) -> bool:
    """DTM in UTC, to the precision that is known."""
    if not (value.isascii() and value.isdecimal()) or len(value) not in _DTM:
        return False
    try:
        datetime.strptime(value, _DTM[len(value)]).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def _is_unique_id(value: str) -> bool:
    """4.2.3.2.26: an OID, an OID and an extension (CDA), or an URI; at most 128 characters."""
    root, caret, extension = value.partition("^")
    if is_oid(root) and len(extension) <= 16 and bool(extension) == bool(caret):
        return True
    return len(value) <= 128 and _URI.fullmatch(value) is not None


def _is_patient(value: str) -> bool:
    """CX with an identifier, and the OID of who assigned it (4.2.3.1.7)."""
    match = _PATIENT.fullmatch(value)
    return match is not None and is_oid(match[1])


def _is_entry_id(value: str) -> bool:
    """An UUID as URN, or any other id: a symbol within the message (4.2.1.3)."""
    return is_uuid(value) or not value.lower().startswith("urn:")


_FORMS: Final[Mapping[str, Callable[[str], bool]]] = {
    "uuid": _is_entry_id,
    "oid": is_oid,
    "unique": _is_unique_id,
    "patient": _is_patient,
    "dtm": is_time,
    "language": lambda value: _LANGUAGE.fullmatch(value) is not None,
    "sha1": lambda value: _SHA1.fullmatch(value) is not None,
    "integer": lambda value: value.isascii() and value.isdecimal() and len(value) < 19,
    "mime": lambda value: _MIME.fullmatch(value) is not None,
    "pid": lambda value: _PID.fullmatch(value) is not None,
    "home": lambda value: value.startswith("urn:oid:") and is_oid(value.removeprefix("urn:oid:")),
}
