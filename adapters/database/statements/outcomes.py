"""What becomes of a message whose statements were run, or could not be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import SQLAlchemyError

from adapters.database.errors import Meaning, Sorted, delivery_error, sort
from adapters.database.statements.compiled import Row, Statement
from engine.errors import DeliveryError, PermanentDelivery, TransientDelivery
from engine.message import Parcel, Receipt

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

Outcome = Receipt | DeliveryError
UNSENDABLE: Final = (ValueError, OverflowError, TypeError)
"""What drivers raise of values that they cannot send at all (half a surrogate pair, an integer that is too big)."""


def refused(engine: Engine) -> tuple[type[BaseException], ...]:
    """What a statement may raise. Drivers' own errors come unwrapped from what is no statement (an isolation level)."""
    return (SQLAlchemyError, *UNSENDABLE, engine.dialect.loaded_dbapi.Error, OSError)


@dataclass(slots=True)
class Work:
    """One message, ready to be written."""

    parcel: Parcel
    digest: str
    steps: list[tuple[Statement, list[Row]]]
    touched: int = 0
    answer: bytes = b""
    known: bool = field(default=False)
    """It was applied before: nothing is done."""

    def receipt(self) -> Receipt:
        if self.known:
            return Receipt("applied before", self.answer)
        return Receipt(f"{self.touched} rows" if self.touched != 1 else "1 row", self.answer)


class Broken(Exception):
    """The transaction as a whole is gone."""

    def __init__(self, error: BaseException, *, committing: bool = False) -> None:
        self.error, self.committing = error, committing
        self.meaning = meaning_of(error, committing=committing)

    @property
    def in_conflict(self) -> bool:
        """Whether it was another transaction that came first, so that the same again may succeed at once."""
        found = sort(self.error)
        return (
            found.meaning is Meaning.BUSY
            and (type(getattr(self.error, "orig", None)).__module__.partition(".")[0], found.code) in _CONFLICTS
        )


_CONFLICTS: Final = frozenset(
    [("psycopg", "40001"), ("psycopg", "40P01"), ("pymysql", "1213"), ("pymysql", "1020"), ("pymssql", "1205"), ("pymssql", "3960"),
     ("oracledb", "ORA-00060"), ("oracledb", "ORA-08177")]
)  # fmt: skip
"""Serialization failures and deadlocks, by driver."""


def meaning_of(error: BaseException, *, committing: bool = False) -> Meaning:
    return Meaning.CONTENT if isinstance(error, UNSENDABLE) else sort(error, committing=committing).meaning


def outcome_of(error: BaseException, *, committing: bool = False) -> DeliveryError:
    """What an error means for a message. A statement that the database cannot run as it is written (a table or a right is missing) is no
    fault of the message's: it waits for an operator."""
    if isinstance(error, UNSENDABLE):
        return PermanentDelivery("a value of the message cannot be sent to this database", answer=type(error).__name__.encode())
    found: Sorted = sort(error, committing=committing)
    if found.meaning is Meaning.SETUP:
        return TransientDelivery(found.text, answer=found.whole.encode())
    return delivery_error(error, committing=committing)
