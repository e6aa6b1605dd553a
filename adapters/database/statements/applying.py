"""A group of messages in one transaction, so that the way to the disk is paid for once; and what each of them comes to.

    together     all of them, without savepoints; messages of one statement each share an executemany
    singled out  all of them, a savepoint each: what the database refuses of one is rolled back alone, and is that one's dead letter
    alone        a transaction each: where the transaction as a whole was refused (a deadlock, a constraint that is checked at the commit)

Each is tried where the one before it failed. A connection that breaks before the commit has changed nothing; one that breaks in the
commit leaves open what happened: the message comes again, and the outbox (or the upsert) makes that right.

All of it runs in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.database.errors import Meaning
from adapters.database.statements.answers import answer_of
from adapters.database.statements.binding import Content
from adapters.database.statements.compiled import Statement
from adapters.database.statements.outbox import Outbox, digest_of
from adapters.database.statements.outcomes import Broken, Outcome, Work, meaning_of, outcome_of, refused
from engine.errors import ConfigError, DeliveryError, PermanentDelivery, TransientDelivery
from engine.message import BodyRef, Parcel

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

    from engine.options import Settings

_TRIES: Final = 3
"""How often a transaction that was in conflict with another is tried before its message waits."""


class Applying:
    """What a destination does to its database. `engine` gives the engine, in a thread."""

    def __init__(
        self,
        settings: Settings,
        statements: Sequence[Statement],
        name: str,
        clock: Callable[[], int],
        body_file: Callable[[BodyRef], Path],
    ) -> None:
        self._settings, self._statements, self._name = settings, statements, name
        self._clock, self._body_file = clock, body_file
        self._outbox = Outbox(settings.outbox.table, name) if settings.outbox else None
        self._origin = settings.name or name.rpartition("/")[2]
        self._creating = threading.Lock()
        self._created = not (settings.outbox and settings.outbox.create)
        self._backend = settings.connection.url.get_backend_name()

    def apply(self, engine: Engine, parcels: Sequence[Parcel]) -> list[Outcome]:
        """What each of `parcels` comes to, in their order."""
        outcomes: dict[int, Outcome] = {}
        works = []
        for number, parcel in enumerate(parcels):
            try:
                works.append((number, self._work(parcel)))
            except DeliveryError as error:
                outcomes[number] = error
        if works:
            numbers, ready = zip(*works, strict=True)
            outcomes.update(zip(numbers, self._applied(engine, list(ready)), strict=True))
        return [outcomes[number] for number in range(len(parcels))]

    def _work(self, parcel: Parcel) -> Work:
        content = Content(parcel, self._name, self._body_file, self._settings.tables)
        steps = [(one, rows) for one in self._statements if (rows := one.rows(content, self._backend))]
        return Work(parcel, digest_of(content.message_id), steps)

    # --- one group -------------------------------------------------------------------------------

    def _applied(self, engine: Engine, works: list[Work]) -> list[Outcome]:
        outcomes: list[Outcome]
        try:
            self._create(engine)
            outcomes = self._as_group(engine, works) if len(works) > 1 else [self._alone(engine, works[0])]
        except Broken as broken:
            outcomes = [outcome_of(broken.error, committing=broken.committing) for _ in works]
        except ConfigError as error:  # the password is not there any more
            outcomes = [TransientDelivery(str(error), whole_destination=True) for _ in works]
        self._look_for_outbox_again(outcomes)
        return outcomes

    def _look_for_outbox_again(self, outcomes: Sequence[Outcome]) -> None:
        """What waits may wait because the outbox is gone: an empty standby has taken the server's place."""
        if self._settings.outbox and self._settings.outbox.create and any(isinstance(one, TransientDelivery) for one in outcomes):
            self._created = False

    def _create(self, engine: Engine) -> None:
        """The outbox, before the first group. Raises Broken."""
        with self._creating:
            for last in (False, True):
                if self._created or self._outbox is None:
                    return
                try:
                    with self._transaction(engine) as connection:
                        self._outbox.create(connection)
                    self._created = True
                except Broken:  # another node has just made it
                    if last:
                        raise

    def _as_group(self, engine: Engine, works: list[Work]) -> list[Outcome]:
        for attempt in (self._together, self._singled_out):
            try:
                return attempt(engine, works)
            except Broken as broken:
                if broken.meaning in (Meaning.DOWN, Meaning.UNCERTAIN):
                    raise
        outcomes: list[Outcome] = []
        for work in works:
            outcomes.append(self._alone(engine, work))
        return outcomes

    def _together(self, engine: Engine, works: list[Work]) -> list[Outcome]:
        """Raises Broken, and PermanentDelivery never: what is one message's fault shows again when they are singled out."""
        try:
            with self._transaction(engine) as connection:
                self._begin(connection, works, looking=False)
                for run in _runs([work for work in works if not work.known]):
                    self._run_shared(connection, run)
                self._tell(connection, works)
        except DeliveryError as error:
            raise Broken(ValueError(error.text)) from None
        return [work.receipt() for work in works]

    def _singled_out(self, engine: Engine, works: list[Work]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        with self._transaction(engine) as connection:
            for work in works:
                outcomes.append(self._with_savepoint(connection, work))
        return outcomes

    def _with_savepoint(self, connection: Connection, work: Work) -> Outcome:
        """Raises what makes the whole transaction useless."""
        for last in (False, True):
            try:
                with connection.begin_nested():
                    self._begin(connection, [work])
                    self._run(connection, work)
                    self._tell(connection, [work])
                return work.receipt()
            except DeliveryError as error:
                return error
            except refused(connection.engine) as error:
                if meaning_of(error) not in (Meaning.CONTENT, Meaning.SETUP):
                    raise
                if last or not self._was_noted(connection, work):
                    return outcome_of(error)
        raise AssertionError

    def _was_noted(self, connection: Connection, work: Work) -> bool:
        """Whether it was refused because its key is there by now: another transaction has just written it."""
        return self._outbox is not None and bool(self._outbox.applied(connection, [work.digest]))

    def _alone(self, engine: Engine, work: Work) -> Outcome:
        """A transaction of its own. Raises Broken where the database is out of reach."""
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                with self._transaction(engine) as connection:
                    self._begin(connection, [work])
                    self._run(connection, work)
                    self._tell(connection, [work])
                return work.receipt()
            except DeliveryError as error:
                return error
            except Broken as broken:
                if broken.meaning in (Meaning.DOWN, Meaning.UNCERTAIN):
                    raise
                again = broken.in_conflict or (broken.meaning is Meaning.CONTENT and self._came_meanwhile(engine, work))
                if not tries_left or not again:
                    return outcome_of(broken.error, committing=broken.committing)
        raise AssertionError

    def _came_meanwhile(self, engine: Engine, work: Work) -> bool:
        if self._outbox is None:
            return False
        with self._transaction(engine) as connection:
            return self._was_noted(connection, work)

    # --- in a transaction ------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        """Raises Broken; what else is raised inside rolls it back."""
        try:
            with engine.connect() as connection:
                if self._backend == "sqlite":  # its lock at the beginning, so that what is read is still so when it is written
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                try:
                    connection.commit()
                except refused(engine) as error:
                    raise Broken(error, committing=True) from None
        except refused(engine) as error:
            raise Broken(error) from None

    def _begin(self, connection: Connection, works: Sequence[Work], *, looking: bool = True) -> None:
        """Note the keys of those that are new; mark those that are not. Without `looking` all are taken for new, as nearly always they
        are: a key that is there already then refuses the transaction."""
        for work in works:
            work.known, work.touched, work.answer = False, 0, b""
        if self._outbox is None:
            return
        there = self._outbox.applied(connection, [work.digest for work in works]) if looking else {}
        for work in works:
            work.known, work.answer = work.digest in there, there.get(work.digest, b"")
        if new := [work.digest for work in works if not work.known]:
            self._outbox.note(connection, new, datetime.fromtimestamp(self._clock() / 1e6, UTC).replace(tzinfo=None))

    def _run(self, connection: Connection, work: Work) -> None:
        """Raises PermanentDelivery."""
        if work.known:
            return
        for statement, rows in work.steps:
            touched, result = statement.run(connection, rows)
            _check_touched(statement, touched, len(rows))
            work.touched += touched
            if statement.answer and result is not None:
                work.answer = answer_of(result, self._backend, self._origin, statement.title, self._settings.zone)
            if result is not None:
                result.close()

    def _run_shared(self, connection: Connection, works: Sequence[Work]) -> None:
        if len(works) == 1:
            self._run(connection, works[0])
            return
        rows = [row for work in works for row in work.steps[0][1]]
        works[0].steps[0][0].run(connection, rows)
        for work in works:
            work.touched = len(work.steps[0][1])

    def _tell(self, connection: Connection, works: Sequence[Work]) -> None:
        if self._outbox is not None and (answers := {work.digest: work.answer for work in works if work.answer and not work.known}):
            self._outbox.tell(connection, answers)

    # --- upkeep ----------------------------------------------------------------------------------

    def purge(self, engine: Engine) -> int:
        """Forget keys that are older than the outbox keeps them. Raises Broken."""
        if self._outbox is None:
            return 0
        before = datetime.fromtimestamp(self._clock() / 1e6, UTC) - timedelta(seconds=self._settings.outbox.keep)
        with self._transaction(engine) as connection:
            return self._outbox.purge(connection, before.replace(tzinfo=None))


def _check_touched(statement: Statement, touched: int, times: int) -> None:
    wanted = {"any": True, "some": touched >= times, "one": touched == times}[statement.touches]
    if not wanted:
        raise PermanentDelivery(
            f"it has touched {touched} rows where it should touch {'one' if statement.touches == 'one' else 'some'}",
            location=statement.title,
        )


def _runs(works: Sequence[Work]) -> Iterator[list[Work]]:
    """Those next to each other that are one and the same shared statement; any other by itself. The order stays what it was."""
    run: list[Work] = []
    for work in works:
        step = work.steps[0][0] if len(work.steps) == 1 and work.steps[0][0].shared else None
        if run and (step is None or run[0].steps[0][0] is not step):
            yield run
            run = []
        if step is None:
            yield [work]
        else:
            run.append(work)
    if run:
        yield run
