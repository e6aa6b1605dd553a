"""What a destination wants: the options of `deidentify`, and what follows from them for one patient."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from engine.errors import ConfigError
from engine.options import TEXT, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice
from engine.pseudonyms import Authorities, Pseudonyms
from engine.secrets import SECRET

UIDS: Final = "retain-uids"
DEVICE: Final = "retain-device"
INSTITUTION: Final = "retain-institution"
CHARACTERISTICS: Final = "retain-patient-characteristics"
DESCRIPTORS: Final = "clean-descriptors"
STRUCTURE: Final = "clean-structured-content"
GRAPHICS: Final = "clean-graphics"
OPTIONS: Final = (UIDS, DEVICE, INSTITUTION, CHARACTERISTICS, DESCRIPTORS, STRUCTURE, GRAPHICS)

_PRIVATE: Final = re.compile(r"\(?([0-9A-Fa-f]{3}[13579bdfBDF]),\s*(?:xx)?([0-9A-Fa-f]{2})\)?\s+(\S.*)")


@dataclass(frozen=True, slots=True)
class PrivateAttribute:
    """One that is safe, as PS3.15 table E.3.10-1 names it: group, the last two digits of the element, private creator."""

    group: int
    element: int
    creator: str


def _private(raw: Any) -> PrivateAttribute:
    found = _PRIVATE.fullmatch(str(raw).strip())
    if found is None:
        raise Faulty(f"{raw!r} names no private attribute")
    return PrivateAttribute(int(found[1], 16), int(found[2], 16), found[3].strip())


PRIVATE: Final = Kind("private attribute", "(GGGG,xxEE) CREATOR, such as (0019,xx0C) SIEMENS MR HEADER", _private, {"type": "string"})

SPEC: Final = Spec(
    "deidentify",
    "De-identify what goes to this destination: DICOM by PS3.15 annex E, HL7 v2 and FHIR alike, with pseudonyms that agree.",
    [
        Option("profile", choice("basic"), "the Basic Application Level Confidentiality Profile", default="basic"),
        Option("options", ListOf(choice(*OPTIONS)), "options of the profile (PS3.15 E.3)", default=[]),
        Option("key", SECRET, "the key of this destination's pseudonyms, at least 32 characters: openssl rand -hex 32", required=True),
        Option(
            "dates",
            choice("shift", "remove", "keep"),
            "move all dates of a patient by the same days, remove, or keep them",
            default="remove",
        ),
        Option("private", ListOf(PRIVATE), "private attributes of DICOM that are kept; all others go", default=[]),
        Option("authority", TEXT, "the assigning authority of identifiers that name none", default=""),
        Option("authorities", MapOf(TEXT), "other names of an authority: NAME: the one that counts", default={}),
        Option(
            "unknown_annotation",
            choice("quarantine", "pass"),
            "images of a kind that often has text burned in (ultrasound, screenshots, endoscopy …) and that do not say that they have none",
            default="quarantine",
        ),
    ],
)


@dataclass(frozen=True, slots=True)
class Policy:
    """The same for every message of a destination."""

    pseudonyms: Pseudonyms
    authorities: Authorities = field(default_factory=Authorities)
    options: frozenset[str] = frozenset()
    dates: str = "remove"
    private: frozenset[PrivateAttribute] = frozenset()
    quarantine_unknown: bool = True

    def retains(self, option: str) -> bool:
        return option in self.options

    def person(self, authority: str, value: str) -> Person:
        """The patient that an identifier names; `authority` as `Authorities` gives it."""
        return Person(self, authority, value.strip())


@dataclass(frozen=True, slots=True)
class Person:
    """A patient at one destination. Without an identifier (`value` "") there is no pseudonym, and dates that should move are removed."""

    policy: Policy
    authority: str
    value: str

    @property
    def pseudonym(self) -> str:
        return self.policy.pseudonyms.identifier(self.authority, self.value) if self.value else ""

    @property
    def dates(self) -> str:
        """What happens to this person's dates: shift, remove or keep."""
        return "remove" if self.policy.dates == "shift" and not self.value else self.policy.dates

    @property
    def shift(self) -> timedelta:
        return self.policy.pseudonyms.shift(self.authority, self.value)

    def date(self, text: str, shifted: Callable[[str, timedelta], str]) -> str:
        """A date as it may leave, "" where it may not."""
        if self.dates == "keep" or not text:
            return text
        return shifted(text, self.shift) if self.dates == "shift" else ""


class Service:
    """De-identification at one destination: its settings, and the policy under the key as it is now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: tuple[str, Policy] | None = None

    def policy(self) -> Policy:
        """Reads the key again, so that its file may be replaced while the node runs. Raises ConfigError where there is none."""
        key = self._settings.key.reveal()
        if self._made is None or self._made[0] != key:
            self._made = key, policy_of(self._settings, key)
        return self._made[1]


def policy_of(settings: Settings, key: str) -> Policy:
    """Raises ConfigError for a key that is too short."""
    return Policy(
        Pseudonyms(key),
        Authorities(settings.authority, settings.authorities),
        frozenset(settings.options),
        settings.dates,
        frozenset(settings.private),
        settings.unknown_annotation == "quarantine",
    )


def check_key(settings: Settings) -> str:
    """What is wrong with the key, "" when nothing is; a key that is not there is told elsewhere."""
    try:
        Pseudonyms(settings.key.reveal())
    except ConfigError as error:
        return error.text
    return ""
