"""What a compiled channel is to the engine; the room `channels` makes it from YAML.

The engine runs the pure `Program` before the commit where that is cheap (`light`), otherwise in worker
processes, which make their own copy with `Recipe.compile()`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.message import Envelope, Judgement
    from engine.options import Settings
    from engine.store.contract import Plan


class Order(StrEnum):
    """Which parcels of one destination may overtake each other."""

    STRICT = "strict"  # none: one at a time
    BY_PATIENT = "by patient"  # only those of different patients
    NONE = "none"  # any


class PartyCheck(StrEnum):
    """What happens to a message that its party may not send (engine.parties)."""

    REFUSE = "refuse"  # refused, and kept
    FLAG = "flag"  # taken; of disabled parties refused
    OFF = "off"  # nobody looks


class ReusedKey(StrEnum):
    """What happens to a message whose key was used before for other content."""

    REFUSE = "refuse"  # refused, and kept
    ACCEPT = "accept"  # taken as new
    FLAG = "flag"  # taken as new, audited, counted, and shown with a reason


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off with jitter: `first` s, doubling up to `most` s, dead letter after `give_up_after` s (None = never)."""

    first: float = 1.0
    most: float = 300.0
    give_up_after: float | None = 3 * 86400.0


@dataclass(frozen=True, slots=True)
class Outlet:
    """One destination of a channel, ready to be built."""

    name: str
    adapter: str
    options: Settings
    order: Order = Order.BY_PATIENT
    retry: Retry = Retry()
    deidentify: Settings | None = None  # engine.deidentify.policy.SPEC


class Program(Protocol):
    """Steps 3 and 6 to 8 of a message's way, as pure code: the same bytes give the same answer."""

    light: bool
    """Cheap enough to plan on the reactor thread before the commit: no mapping, no validation."""

    checks_content: bool
    """`judge` decodes or validates the body, so it runs in a worker rather than on the reactor thread."""

    reads_content: bool
    """`plan` reads the body, so one that is a file is brought into memory first, or its beginning (engine.contracts.Codec)."""

    def judge(self, envelope: Envelope) -> Judgement:
        """Whether the channel takes it: `accept` over the header facts, the sender's identity, content checks. Never raises."""

    def plan(self, envelope: Envelope) -> Plan:
        """Decode, filter, route, map. Never raises: what goes wrong is a Plan with status ERROR and its reason."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How another process compiles the same program: a picklable function and its arguments (paths and names)."""

    function: Callable[..., Program]
    arguments: tuple[str, ...]

    def compile(self) -> Program:
        return self.function(*self.arguments)


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as the service runs it.

    `answer_from` names the destination whose receipt answers the sender ("" = answered at the commit),
    within `answer_within` seconds. `duplicate_window` in seconds, 0 = no duplicate check.
    `reused_key`: what becomes of a key that comes again with other content.
    """

    name: str
    source: str
    source_options: Settings
    outlets: tuple[Outlet, ...]
    program: Program
    recipe: Recipe
    answer_from: str = ""
    answer_within: float = 30.0
    duplicate_window: float = 7 * 86400.0
    reused_key: ReusedKey = ReusedKey.REFUSE
    parties: PartyCheck = PartyCheck.OFF
