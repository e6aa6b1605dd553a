"""Pseudonyms: what stands for an identifier at one destination. Keyed, stable, and the same in DICOM, HL7 v2 and FHIR.

Each destination has a key of its own, so two destinations cannot put together what they have. A pseudonym is HMAC-SHA-256 (RFC 2104) of the
identifier and its assigning authority: without the key it leads nowhere, also where the identifiers are few enough to be tried. Nothing is
kept: the same key gives the same pseudonyms after years and on another node.

An authority has several names (HD-1 and HD-2 of HL7 v2, Issuer of Patient ID of DICOM, a system of FHIR). `Authorities` brings them to one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from engine.errors import ConfigError

LEAST_KEY: Final = 32
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH: Final = 16
"""Of a pseudonym: what SH of DICOM holds (PS3.5 table 6.2-1); 20 letters to the 16th are 2 to the 69th."""
_MOST_DAYS: Final = 3650
_LEAST_DAYS: Final = 30
_URI: Final = re.compile(r"(?:urn:|https?://)\S+")
_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*))+")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class Authorities:
    """Assigning authorities by one name each, a URI. `default` stands where none is named, `aliases` are other names of the same."""

    def __init__(self, default: str = "", aliases: Mapping[str, str] | None = None) -> None:
        self._default = default
        self._aliases = dict(aliases or {})

    def of_uri(self, system: str) -> str:
        """A FHIR Identifier.system."""
        return self._one(system.strip())

    def of_hd(self, namespace: str, universal: str = "", kind: str = "") -> str:
        """An HD of HL7 v2 (v2.5.1 §2.A.33), or what names an issuer in DICOM (PS3.3 table 10-17): the universal id where there is one."""
        namespace, universal = namespace.strip(), universal.strip()
        if namespace in self._aliases:
            return self._one(namespace)
        return self._one(universal_uri(universal, kind.strip()) or namespace)

    def _one(self, name: str) -> str:
        name = name or self._default
        name = self._aliases.get(name, name)
        return name if not name or _URI.fullmatch(name) else universal_uri(name) or f"urn:meridian:ns:{quote(name, safe='._~-')}"


def universal_uri(universal: str, kind: str = "") -> str:
    """The URI of a universal id, "" where it is none."""
    if _URI.fullmatch(universal):
        return universal
    if _OID.fullmatch(universal):
        return f"urn:oid:{universal}"
    if _UUID.fullmatch(universal):
        return f"urn:uuid:{universal.lower()}"
    if kind == "DNS" and universal:
        return f"urn:dns:{quote(universal, safe='._~-')}"
    return ""


class Pseudonyms:
    """All pseudonyms under one key. Raises ConfigError for a key that is too short to be a secret."""

    def __init__(self, key: str) -> None:
        if len(key) < LEAST_KEY:
            raise ConfigError(f"a pseudonym key needs at least {LEAST_KEY} characters; make one with: openssl rand -hex 32")
        self._key = key.encode()

    def _digest(self, kind: str, *parts: str) -> bytes:
        text = "\0".join(part.replace("\0", " ") for part in (kind, *parts))
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)

    def identifier(self, authority: str, value: str) -> str:
        """For an identifier of that authority: 16 capital letters, none of them a vowel, so that it is never a word, a number or a date."""
        number = int.from_bytes(self._digest("identifier", authority, value.strip()))
        letters = []
        for _ in range(_LENGTH):
            number, place = divmod(number, len(_LETTERS))
            letters.append(_LETTERS[place])
        return "".join(letters)

    def uid(self, uid: str) -> str:
        """For a UID: one below 2.25 (PS3.5 annex B.2)."""
        return f"2.25.{_uuid_number(self._digest('uid', uid.strip()))}"

    def uuid(self, name: str) -> str:
        """For a UUID, or what else a FHIR resource is called by."""
        digits = f"{_uuid_number(self._digest('uuid', name)):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def shift(self, authority: str, value: str) -> timedelta:
        """By how much the dates of this patient are moved into the past: the same number of days for all of them, 30 days to ten years."""
        number = int.from_bytes(self._digest("shift", authority, value.strip())[:8])
        return timedelta(days=_LEAST_DAYS + number % (_MOST_DAYS - _LEAST_DAYS))


def _uuid_number(digest: bytes) -> int:
    """A UUID of version 8 (RFC 9562 §5.8) as a number."""
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF << 76) | 8 << 76
    return number & ~(0x3 << 62) | 2 << 62
