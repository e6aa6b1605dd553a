"""What a look at a site finds: `meridian doctor` asks, adapters answer for their own options. Pure.

An adapter that knows what its options need around them (files, devices, tables) has a method `examine_site`; `meridian check` shows what
it warns of, with the line of the channel file, and `meridian doctor` everything. An attribute `requires` names packages that it loads only
when it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from engine.options import Settings


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"  # it runs, and somebody should look
    FAIL = "FAIL"  # it does not run, or will stop


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is what was looked at, in a word or two; `advice` what to do, "" where there is nothing; `option` is the
    name of one in the channel file."""

    level: Level
    subject: str
    text: str
    advice: str = ""
    option: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """The part of a site that is looked at: `name` is ``channel`` or ``channel/destination``, `side` source or destination, `folder` the
    site's."""

    name: str
    side: str
    folder: Path


@runtime_checkable
class Examining(Protocol):
    """An adapter that looks at what its options need. Makes no connection, changes nothing, never raises."""

    def examine_site(self, options: Settings, view: View) -> Iterable[Finding]: ...
