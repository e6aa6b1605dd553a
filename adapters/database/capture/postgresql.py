"""PostgreSQL's log: a replication slot with the plugin pgoutput.

PostgreSQL documentation, chapter 49 "Logical Decoding" and section 55.4 "Streaming Replication Protocol". A transaction is sent when it
is committed, whole, in the order of the commits; streaming of transactions under way is not asked for, so that nothing is ever taken back.
A place in the log is an LSN. `at` is the end of the last transaction that is kept, or how far the server had read on when it sent a
keepalive between two; `within` is the LSN of a commit.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.capture import pgoutput
from adapters.database.capture.log import Batch, Behind, First, ended
from adapters.database.capture.pgoutput import lsn_of, lsn_text
from adapters.database.capture.pgrows import Loading
from adapters.database.capture.pgstream import Server, Stream, replication
from adapters.database.capture.pgtransactions import Transactions
from adapters.database.capture.slot import Slot, limit_of, missing, require_log, require_tables, slot_of, text_of, unpublished
from adapters.database.capture.state import State, way_back
from adapters.database.capture.subject import Subjects, subjects_of
from adapters.database.errors import DatabaseError, Meaning, Sorted
from adapters.database.polling.rounds import Halted, Notice
from adapters.database.polling.subject import Unusable

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_IN_USE: Final = "55006"  # object_in_use, appendix A of PostgreSQL's manual
_BASE_TYPE: Final = sa.text(
    "WITH RECURSIVE made AS (SELECT oid, typbasetype FROM pg_type WHERE oid = :oid UNION ALL "
    "SELECT t.oid, t.typbasetype FROM pg_type t JOIN made ON t.oid = made.typbasetype) SELECT oid::bigint FROM made WHERE typbasetype = 0"
)
_IDLE_LIMIT: Final = "SET idle_in_transaction_session_timeout = 0"


class PostgresLog:
    """adapters.database.capture.log.Log. `slot` and `publication` are their names."""

    errors: tuple[type[Exception], ...] = (SQLAlchemyError, psycopg.Error, OSError)

    def __init__(self, options: Settings, context: Context, engine: Engine, slot: str, publication: str) -> None:
        self._options, self._context, self._engine = options, context, engine
        self._slot, self._publication = slot, publication
        self.subjects: Subjects = {}
        self.said: list[Notice] = []
        self._sql: Connection | None = None
        self._stream: Stream | None = None
        self._transactions: Transactions | None = None
        self._first: First | None = None

    # --- opening -------------------------------------------------------------------------------------

    def open(self, state: State | None, *, again: bool) -> State:
        self._sql = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        require_log(self._sql)
        server = Server(self._options, self._context)
        try:
            identity = server.identity()
            if state is not None and not again:
                self._same(state, identity, server.position())
            with self._engine.connect() as looking:
                self.subjects = subjects_of(looking, self._options)
            require_tables(self._sql, self._options, self.subjects)
            if state is not None and not again:
                self._published(state)
            self._publish()
            return self._slotted(server, None if again else state, identity, again)
        finally:
            server.close()

    def create(self) -> None:
        """Publication and slot, where they are missing."""
        with self._engine.connect() as looking:
            self.subjects = subjects_of(looking, self._options)
        with self._engine.connect() as plain:
            self._sql = plain.execution_options(isolation_level="AUTOCOMMIT")
            self._publish(asked=True)
            if slot_of(self._sql, self._slot) is None:
                statement = sa.text("SELECT pg_create_logical_replication_slot(:name, 'pgoutput')")
                self._sql.execute(statement, {"name": self._slot})
        self._sql = None

    def _same(self, state: State, identity: str, position: int) -> None:
        if state.server != identity:
            raise Halted(way_back(state, f"another server answers than before: {identity} instead of {state.server}"))
        if position < lsn_of(state.at):
            raise Halted(way_back(state, f"the server's log ends at {lsn_text(position)}, before what was already read: it was set back"))
        slot = slot_of(self._connection, self._slot)
        if slot is None:
            raise Halted(way_back(state, f"the replication slot {self._slot} is gone"))
        if slot.status == "lost":
            raise Halted(way_back(state, f"the replication slot {self._slot} is lost: max_slot_wal_keep_size was exceeded"))
        if slot.confirmed > lsn_of(state.at):
            moved = lsn_text(slot.confirmed)
            raise Halted(way_back(state, f"somebody else has moved the replication slot {self._slot} on to {moved}"))

    def _published(self, state: State) -> None:
        """Changes of a table that was taken out of the publication, or has taken another's name, are not in what is sent; nor are rows that
        it has begun to leave out. Raises Halted."""
        try:
            left = unpublished(self._connection, self._publication, self.subjects)
        except Unusable as error:
            raise Halted(way_back(state, error.text)) from None
        gone = [one.name for one in left if one.name in state.tables]
        if gone:
            raise Halted(way_back(state, f"{', '.join(gone)} is not in the publication {self._publication} any more"))

    @property
    def _connection(self) -> Connection:
        assert self._sql is not None
        return self._sql

    def _publish(self, *, asked: bool = False) -> None:
        statements = missing(self._connection, self._options, self._publication, self.subjects)
        if not statements:
            return
        if not self._options.create and not asked:
            raise Unusable(f"the publication is not complete and create is no; an administrator may run: {text_of(statements)}")
        try:
            for statement in statements:
                self._connection.execute(statement)
        except sa.exc.ProgrammingError as error:
            if getattr(error.orig, "sqlstate", "") != "42501":
                raise
            text = "this user may not create the publication (it needs CREATE on the database, and to own the tables)"
            raise Unusable(f"{text}; an administrator may run: {text_of(statements)}") from None

    def _slotted(self, server: Server, state: State | None, identity: str, again: bool) -> State:
        """The slot, made where it is missing; with the first transaction, where a first state is wanted."""
        found, names = slot_of(self._connection, self._slot), tuple(subject.name for subject in self.subjects.values())
        if found is not None and again:
            self._connection.execute(sa.text("SELECT pg_drop_replication_slot(:name)"), {"name": self._slot})
            found = None
        exported = ""
        if found is None:
            if not self._options.create:
                text = f"SELECT pg_create_logical_replication_slot('{self._slot}', 'pgoutput')"
                raise Unusable(f"there is no replication slot {self._slot} and create is no; an administrator may run: {text}")
            at, exported = server.create(self._slot, temporary=False)
        else:
            self._fits(found)
            if state is None and found.active:  # before a first state that may take hours
                raise self._in_use()
            at = state.at if state is not None else lsn_text(found.confirmed)
        began = (state or State(identity, at)).covering(names, self._options.snapshot == "initial", at)
        if began.snapshot is not None:
            self._first = self._see(server, at, exported)
        return began

    def _in_use(self) -> DatabaseError:
        """Said each time: a connection of ours that broke is soon let go of, another capture is not."""
        said = f"the replication slot {self._slot} is being read by another process; each capture needs a slot of its own"
        return DatabaseError(Sorted(Meaning.BUSY, _IN_USE, said, said))

    def _fits(self, slot: Slot) -> None:
        own = self._connection.execute(sa.text("SELECT current_database()")).scalar_one()
        if slot.plugin != "pgoutput" or slot.database != own:
            text = f"{slot.plugin or 'no plugin'} in {slot.database or 'no database'}"
            raise Unusable(f"the replication slot {self._slot} is of {text}: choose another name")
        if slot.status == "lost":  # one that an administrator made, and nobody has read
            text = f"SELECT pg_drop_replication_slot('{self._slot}')"
            raise Halted(
                f"the replication slot {self._slot} was lost before it was read. Way back: {text}, and the capture begins with a new one"
            )

    def _see(self, server: Server, at: str, exported: str) -> First:
        """Import the snapshot that was exported with the slot; another slot that is gone at once gives a later one."""
        if not exported:
            at, exported = server.create(f"{self._slot[:50]}_snapshot", temporary=True)
        plain = self._engine.connect()
        connection = plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._first = First(at, connection)
        connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{exported}'")  # a name that the server has just given
        connection.exec_driver_sql(_IDLE_LIMIT)  # a page is kept meanwhile, however long that takes
        return self._first

    def first(self) -> First:
        assert self._first is not None
        return self._first

    def seen(self) -> None:
        if self._first is not None:
            ended(self._first.connection)
        self._first = None

    # --- reading -------------------------------------------------------------------------------------

    def read(self, state: State, most: int, wait: float, until: str = "") -> Batch:
        if until and lsn_of(until) <= lsn_of(state.at):
            return Batch([], state, reached=True)
        if self._stream is None:
            self._begin(state)
        stream, transactions = self._stream, self._transactions
        assert stream is not None
        assert transactions is not None
        transactions.limit = lsn_of(until) if until else None
        deadline = time.monotonic() + wait
        while len(transactions.changes) < most and not transactions.reached:
            content = stream.read()
            transactions.idle(stream.wal_end)
            if content is not None:
                transactions.take(pgoutput.read(content))
            left = deadline - time.monotonic()
            if left <= 0 or (content is None and (transactions.changes or transactions.reached or stream.asked)):
                break
            if content is None:
                stream.wait(left)
        changes, now = transactions.given(state)
        self.said.extend(transactions.notices())
        return Batch(changes, now, transactions.reached, len(changes) >= most)

    def _begin(self, state: State) -> None:
        connection, encoding = replication(self._options, self._context, self._connection)
        command = f"START_REPLICATION SLOT {self._slot} LOGICAL {state.at} (proto_version '1', publication_names '\"{self._publication}\"')"
        try:
            self._stream = Stream(connection, self._context.clock, command, self._options.connection.statement_timeout)
        except psycopg.errors.ObjectInUse:
            connection.close()
            raise self._in_use() from None
        except psycopg.Error:
            connection.close()
            raise
        driver = self._connection.connection.driver_connection
        self._transactions = Transactions(self.subjects, state, Loading(driver, encoding, self._base_type), self._type_name)

    def _type_name(self, oid: int, modifier: int) -> str:
        return str(
            self._connection.execute(sa.text("SELECT format_type(:oid, :modifier)"), {"oid": oid, "modifier": modifier}).scalar_one()
        )

    def _base_type(self, oid: int) -> int:
        """A SELECT gives a domain's values as those of the type that it is made of; the log names the domain."""
        return int(self._connection.execute(_BASE_TYPE, {"oid": oid}).scalar() or oid)

    def rest(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = self._transactions = None

    @property
    def asked(self) -> bool:
        return self._stream is not None and self._stream.asked

    def confirm(self, state: State) -> None:
        if self._stream is not None:
            self._stream.confirm(lsn_of(state.at))

    def behind(self, state: State) -> Behind:
        slot = slot_of(self._connection, self._slot)
        if slot is None or slot.status == "lost":
            self._same(state, state.server, lsn_of(state.at))
        assert slot is not None
        self._published(state)
        return Behind(slot.kept, slot.left, limit_of(self._connection) is None)

    def close(self) -> None:
        try:
            self.rest()
        finally:
            self.seen()
            if self._sql is not None:
                ended(self._sql)
            self._sql = None

    def later(self, one: str, other: str) -> bool:
        return lsn_of(one) > lsn_of(other)
