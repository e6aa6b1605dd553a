"""Where files lie: a folder of this machine, or another machine's. Sources and destinations of `file` know only this contract.

Claims. A file is claimed by renaming it to ``.claimed/OWNER/NAME`` below the place: a rename is atomic, so exactly one of several nodes
gets it. Each owner has a file ``.claimed/OWNER/.alive`` whose time of modification, set by the place's own clock, says when it was last
there. What an owner holds that has been silent for longer than a node's option `take_over` is taken over by a rename again. Nobody's clock
is compared with another's.

Nothing is deleted and nothing is overwritten: what is taken is moved, and a name that is there already gets a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from engine.values import value

if TYPE_CHECKING:
    from typing import BinaryIO

CLAIMED: Final = ".claimed"
ALIVE: Final = ".alive"
MOST_NAME: Final = 255
"""Bytes of one name, as most file systems have it."""


@value(frozen=True, slots=True)
class Entry:
    """One file. `size` in bytes, `modified` in microseconds since 1970 UTC by the place's clock. `name` may hold bytes that are not UTF-8
    (PEP 383), so it is shown only by `shown`."""

    name: str
    size: int
    modified: int


@runtime_checkable
class Place(Protocol):
    """Blocking, and called from one thread at a time: the adapter's own, never the reactor's. All methods raise OSError for what cannot be
    done now (FileNotFoundError, PermissionError, ENOSPC, ConnectionError for a place that is out of reach), and SecurityError where the
    other side is not who it should be or does not let us in. After an OSError the caller may call close() and open() again.

    A name is one that `list`, `claim` or `claimed` gave, or for `write` a plain one (`is_plain`).
    """

    said: str
    """How logs and faults call it, such as ``folder incoming``: without secrets."""

    def open(self) -> None:
        """Before anything else, and again after close(). A folder that is not there is said by `list`, not here."""

    def close(self) -> None:
        """Give back connections; never raises, may be called twice."""

    def list(self) -> Sequence[Entry]:
        """The regular files that lie there unclaimed, in any order; no folders, no links, none whose name begins with a dot."""

    def read(self, name: str) -> BinaryIO:
        """Its content from the beginning; the caller closes it. Links are not followed."""

    def local(self, name: str) -> Path | None:
        """Where it lies on this machine, None where it lies on another and must be fetched to be read at random."""

    # --- claims ------------------------------------------------------------------------------------

    def claim(self, name: str) -> str | None:
        """Make it ours: its claimed name, whose last part is `name`; None where another has it or it is gone. Says also `beat`."""

    def claimed(self) -> Sequence[Entry]:
        """What we hold, by claimed name, in any order: also what we held when this process was last ended."""

    def holds(self, claimed: str) -> bool:
        """Whether it is still ours."""

    def beat(self) -> None:
        """Say that we are there; called at least every round, and while a file is read."""

    def take_over(self, silent: float) -> Sequence[str]:
        """Claim what owners hold that have been silent for more than `silent` seconds longer than we: the claimed names, now ours. Call
        `beat` before."""

    def move(self, name: str, folder: str) -> str:
        """Move it below `folder` (relative to the place, with ``/``; made where it is missing; "" is the place itself), and put that on
        disk. Gives the name that it has there: its last part, with a number before its ending where that name is taken. What was moved
        before an end of the process and is still there under the old name too is only taken away from there."""

    # --- writing -----------------------------------------------------------------------------------

    def write(self, name: str, chunks: Iterable[bytes], folder: str = "") -> bool:
        """A new file below `folder`, which appears under its name only when all of it is on disk. False where that name is there already:
        then nothing has changed, and nothing of the attempt is left."""

    def find(self, name: str, folder: str = "") -> Entry | None:
        """A file that is there, its name as `read` takes it; None where there is none."""


@runtime_checkable
class Listening(Protocol):
    """A place that others reach over the network, and prove who they are. It listens from `listen` to `stop_listening`, whatever is closed
    and opened meanwhile."""

    def listen(self) -> None:
        """Raises ConfigError (keys), OSError (the port is taken)."""

    def stop_listening(self) -> None:
        """Never raises, may be called twice."""

    def party(self, name: str) -> str:
        """The party URI that was proven when this file was put there."""


def is_plain(name: str) -> bool:
    """Whether it can be the name of a file in any folder, and of nothing else: one part, not hidden, no control characters."""
    if not name or name.startswith(".") or name != name.strip() or "/" in name or "\\" in name:
        return False
    return len(name.encode("utf-8", "surrogateescape")) <= MOST_NAME and all(one >= " " and one != "\x7f" for one in name)


def last_part(name: str) -> str:
    """The name that the file had before it was claimed."""
    return name.rpartition("/")[2]


def beside(claimed: str, folder: str) -> str:
    """`folder` as `write` and `find` take it, for what goes where `move` puts a claimed file: places may have several folders in them."""
    return f"{claimed.partition(CLAIMED)[0]}{folder}"


def unclaimed(claimed: str) -> str:
    """The name by which `list` called it."""
    return f"{claimed.partition(CLAIMED)[0]}{last_part(claimed)}"


def shown(name: str) -> str:
    """A name as text: bytes that are not UTF-8 are read as GB18030, or else written as escapes."""
    raw = name.encode("utf-8", "surrogateescape")
    for charset in ("utf-8", "gb18030"):
        try:
            return raw.decode(charset)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "backslashreplace")


def numbered(name: str, number: int) -> str:
    """``a.csv`` as ``a.2.csv``; the first is the name itself."""
    if number < 2:
        return name
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{number}.{ending}" if dot and stem else f"{name}.{number}"


def first_free(is_taken: Callable[[int], bool]) -> int:
    """A number whose name is free, with few looks however many are taken: where there are gaps, not always the lowest."""
    taken, free = 0, 1
    while is_taken(free):
        taken, free = free, free * 2
    while free - taken > 1:
        middle = (taken + free) // 2
        taken, free = (middle, free) if is_taken(middle) else (taken, middle)
    return free
