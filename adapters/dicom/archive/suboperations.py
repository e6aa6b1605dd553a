"""The C-STORE sub-operations of C-MOVE and C-GET: their counts and statuses (PS3.4 C.4.2.1.5 to C.4.2.1.8, C.4.3.1.3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from adapters.dicom.archive.index import Held
from adapters.dicom.archive.recoding import PAIR

SUCCESS: Final = 0x0000
WARNING: Final = 0xB000
"""Sub-operations complete, one or more failures or warnings."""
UNABLE: Final = 0xA702
"""Out of resources: unable to perform sub-operations."""
UNKNOWN_DESTINATION: Final = 0xA801
MISMATCH: Final = 0xA900
CANCELLED: Final = 0xFE00
PENDING: Final = 0xFF00
_MOST_CONTEXTS: Final = 128
_MOST_LISTED: Final = 10_000
_MOST_COUNTED: Final = 65535


@dataclass
class Counts:
    """`remaining` sub-operations at first; each end is told by `ended`."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failures: list[str] = field(default_factory=list)

    def ended(self, sop_uid: str, status: int | None) -> None:
        """`status` of the C-STORE response; None: there was none."""
        self.remaining -= 1
        if status == SUCCESS:
            self.completed += 1
        elif status is not None and (status & 0xF000 == WARNING or status in (0x0001, 0x0107, 0x0116)):
            self.warning += 1
        else:
            self.failed += 1
            if len(self.failures) < _MOST_LISTED:
                self.failures.append(sop_uid)

    def final(self) -> int:
        """The status of the last response, where nobody has cancelled."""
        if self.failed and not self.completed and not self.warning:
            return UNABLE
        return WARNING if self.failed or self.warning else SUCCESS

    def elements(self, *, with_remaining: bool) -> dict[str, Any]:
        """For the command set; the number that remain is only in pending and cancelled responses (PS3.7 9.3.3.2, 9.3.4.2)."""
        numbers = {
            "NumberOfCompletedSuboperations": self.completed,
            "NumberOfFailedSuboperations": self.failed,
            "NumberOfWarningSuboperations": self.warning,
        }
        if with_remaining:
            numbers["NumberOfRemainingSuboperations"] = self.remaining
        return {name: min(number, _MOST_COUNTED) for name, number in numbers.items()}


def runs(instances: Iterable[Held]) -> Iterator[list[Held]]:
    """Instances in their order, in runs that one association can carry: a presentation context for each SOP class and transfer syntax."""
    run: list[Held] = []
    contexts: set[tuple[str, str]] = set()
    for held in instances:
        wanted = held.sop_class, held.transfer_syntax
        if wanted not in contexts and len(contexts) == _MOST_CONTEXTS:
            yield run
            run, contexts = [], set()
        contexts.add(wanted)
        run.append(held)
    if run:
        yield run


def contexts_of(run: Iterable[Held]) -> list[tuple[str, list[str]]]:
    """The presentation contexts that a run needs: each as it is stored first, then what it can be said in as well."""
    wanted = dict.fromkeys((held.sop_class, held.transfer_syntax) for held in run)
    return [(sop_class, [syntax, *([PAIR[syntax]] if syntax in PAIR else [])]) for sop_class, syntax in wanted]


def context_for(held: Held, contexts: Mapping[tuple[str, str], int]) -> tuple[int, bool]:
    """In which presentation context (0: none) an instance is sent, and whether it must be recoded for that. `contexts`: by SOP class and
    transfer syntax."""
    if found := contexts.get((held.sop_class, held.transfer_syntax)):
        return found, False
    return contexts.get((held.sop_class, PAIR.get(held.transfer_syntax, "")), 0), True
