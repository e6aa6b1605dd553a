"""When a study has changed, and when it is complete: a pure state machine. Times in microseconds.

A study is in one of three states for each who watches: *told* (its last revision was said to be complete, nothing more is to be said),
*settling* (there is a revision that was not told of), *waiting* (its last revision was told of, but not as complete).

    settling --quiet for `settle`--> STUDY^CHANGED, waiting
    settling, waiting --quiet for as long as the rule wants--> STUDY^COMPLETE, told
    waiting, told --another instance comes--> settling, with a new version

How long a study must have been quiet to be complete (PS3.4 gives no rule; IHE RAD leaves it to the receiver):

    a performed procedure step of it is still in progress                  `overdue`
    its senders say how many instances it has (0020,1208), and it has not  `overdue`
    an instance that a performed procedure step names is missing           `overdue`
    it has as many as they say                                             `settle`   (by count)
    all its performed procedure steps have ended and nothing is missing    `settle`   (by mpps)
    nobody says anything                                                   `quiet`    (by quiet)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CHANGED: Final = "STUDY^CHANGED"
COMPLETE: Final = "STUDY^COMPLETE"
NEVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Rule:
    """`settle` <= `quiet`, `overdue`. `steps_every`: how often to look after performed procedure steps, 0 where nobody reports any."""

    settle: int
    quiet: int
    overdue: int
    steps_every: int = 0


@dataclass(frozen=True, slots=True)
class Steps:
    """The performed procedure steps of a study (PS3.4 F.7): how many are in progress, how many have ended, and how many instances
    they name that are not here."""

    open: int = 0
    ended: int = 0
    missing: int = 0


NO_STEPS: Final = Steps()


@dataclass(frozen=True, slots=True)
class Standing:
    """A study as it is: its `revision` and when that came, how many `instances` it has and how many are `awaited` (None: nobody says);
    and what was said of it: the revision that was `told`, and whether as `complete`."""

    revision: int
    changed: int
    instances: int
    awaited: int | None = None
    told: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Say `kind` ("" = nothing) because of `by`; where there is nothing to say, look again at `look`."""

    kind: str = ""
    by: str = ""
    look: int = NEVER


def decide(study: Standing, steps: Steps, rule: Rule, now: int) -> Decision:
    """What is to be said of a study now."""
    news = study.revision != study.told
    if study.instances == 0 or (study.complete and not news):
        return Decision()
    by, needed = completion(study, steps, rule)
    idle = now - study.changed
    if idle >= needed:
        return Decision(COMPLETE, by)
    if news and idle >= rule.settle:
        return Decision(CHANGED, "settled")
    look = study.changed + (rule.settle if news else needed)
    return Decision(look=min(look, now + rule.steps_every) if rule.steps_every else look)


def completion(study: Standing, steps: Steps, rule: Rule) -> tuple[str, int]:
    """By which rule a study will be complete, and how long it must have been quiet for it."""
    if steps.open or steps.missing or (study.awaited is not None and study.instances < study.awaited):
        return "overdue", rule.overdue
    if study.awaited is not None:
        return "count", rule.settle
    if steps.ended:
        return "mpps", rule.settle
    return "quiet", rule.quiet
