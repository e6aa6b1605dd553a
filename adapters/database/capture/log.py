"""What a database's log must do to be captured: the contract of the two that there are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.capture.changes import Change
from adapters.database.capture.state import State
from adapters.database.capture.subject import Subjects
from adapters.database.polling.rounds import Notice


@dataclass(frozen=True)
class First:
    """A transaction that sees the rows as they were at `at`, a place in the log: changes from there on are not in it."""

    at: str
    connection: Connection


@dataclass(frozen=True)
class Batch:
    """Changes in the order of the log, the state when they are kept. `reached`: the place where to stop was reached; `more`: there is
    more to be had at once."""

    changes: Sequence[Change]
    state: State
    reached: bool = False
    more: bool = False


@dataclass(frozen=True)
class Behind:
    """`kept` is how many bytes of its log the database keeps for us, `left` how many more before it lets go of what we have not read
    (None: it never does, or does not say; `unlimited`: it keeps all, until its disk is full)."""

    kept: int
    left: int | None = None
    unlimited: bool = False


def ended(connection: Connection) -> None:
    """Close it, also where the server is gone and its rollback fails."""
    with suppress(SQLAlchemyError):
        connection.close()


class Log(Protocol):
    """A log, in the one thread that reads it. Whatever is raised closes it: it is opened again from what is kept.

    Raises Halted or Unreadable where it may not be read on until an operator has looked, Unusable where it cannot be captured as the
    site says, SQLAlchemyError and the driver's errors where the database is away.
    """

    errors: tuple[type[Exception], ...]
    """What tells that the database is away, or does not want."""
    subjects: Subjects
    said: list[Notice]

    def open(self, state: State | None, *, again: bool) -> State:
        """Connect, and see that the log still has what `state` needs; None begins, `again` begins anew whatever there was."""

    def first(self) -> First:
        """A transaction for the first state."""

    def seen(self) -> None:
        """The first state was read: its transaction ends, which would keep others from altering the table."""

    def read(self, state: State, most: int, wait: float, until: str = "") -> Batch:
        """At most `most` changes after `state`; waits for one at most `wait` seconds. No change of a transaction at or after `until`."""

    def rest(self) -> None:
        """The log is not read for a while."""

    def confirm(self, state: State) -> None:
        """Everything before `state` is kept, and that is on disk: the database may let go of it."""

    @property
    def asked(self) -> bool:
        """The database wants to hear soon what is kept: it waits with its shutdown for that."""

    def behind(self, state: State) -> Behind: ...

    def close(self) -> None: ...

    def later(self, one: str, other: str) -> bool:
        """Whether a place in the log is behind another."""
