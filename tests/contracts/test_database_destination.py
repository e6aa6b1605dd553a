"""The destination `database` against real servers, over a wire that is cut between a COMMIT and its answer."""

import tempfile
from dataclasses import replace
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.database import adapter
from engine.errors import PermanentDelivery, TransientDelivery, UncertainDelivery
from engine.message import HL7V2, Parcel
from tests.contracts.destination_contract import DestinationContract
from tests.support.database_peer import DatabasePeer
from tests.support.databases import written
from tests.support.fhir import context

HL7 = b"MSH|^~\\&|LAB|H|X|Y|20260101||ADT^A01|7|P|2.5||||||UNICODE UTF-8\rPID|1||P-1^^^H||M\xc3\xbcller^A\r"
TAKE = {
    "run": "INSERT INTO taken (id, kind) VALUES (:id, :kind)",
    "with": {"id": "${message.control_id}", "kind": "${message.type}"},
}
COUNT = {"run": "INSERT INTO counted (id, at) VALUES (:id, 'now')", "with": {"id": "${message.control_id}"}}


class DatabaseContract(DestinationContract):
    server = ""
    lock, limit = "1s", "2s"

    def start_peer(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        return DatabasePeer(self.server)

    def make(self, **options):
        return self.to(self.peer.url, **options)

    def make_nowhere(self):
        return self.to(self.peer.url.set(port=1))

    def to(self, url, **options):
        connection = {"url": written(url), "connect_timeout": "2s", "statement_timeout": self.limit, "lock_timeout": self.lock, "pool": 3}
        node = {"statements": [TAKE, COUNT], "outbox": {"create": True}, "batch": 20, **options}
        return adapter.destination(
            adapter.destination_options.defaults(connection=connection, **node), context(self.data, reactor, name="c/lis")
        )

    def parcel(self, number, body=None, **more):
        parcel = Parcel(number, number, HL7 if body is None else body, HL7V2, "ADT^A01", str(number), f"key-{number}", f"P-{number}")
        return replace(parcel, **more)

    @inlineCallbacks
    def again(self, **options):
        """Another destination, with other options."""
        yield self.destination.close()
        self.destination = self.make(**options)
        yield self.destination.open()

    def counted(self):
        return sorted(row[0] for row in self.peer.run("SELECT id FROM counted"))

    @inlineCallbacks
    def outcomes(self, parcels):
        """What each comes to: a receipt's reference, or the kind of error."""
        sent = [self.destination.deliver(parcel).addErrback(lambda failure: failure.value) for parcel in parcels]
        results = yield gatherResults(sent)
        return [type(one) if isinstance(one, Exception) else one.reference for one in results]

    @inlineCallbacks
    def test_a_message_that_comes_again_changes_nothing(self):
        """Statements that would count twice are run once: after a receipt, and after a COMMIT without an answer."""
        yield self.destination.deliver(self.parcel(1))
        receipt = yield self.destination.deliver(self.parcel(1, attempt=2))
        self.assertEqual(receipt.reference, "applied before")
        self.peer.mode = "hang up"
        kinds = yield self.outcomes([self.parcel(number) for number in (2, 3, 4)])
        self.assertEqual(kinds, [UncertainDelivery] * 3)
        self.peer.mode = "take"
        references = yield self.outcomes([self.parcel(number) for number in (2, 3, 4)])
        self.assertEqual(references, ["applied before"] * 3)
        self.assertEqual(self.counted(), ["1", "2", "3", "4"])

    @inlineCallbacks
    def test_the_same_key_twice_in_one_group(self):
        """An operator has resent what was still on its way."""
        references = yield self.outcomes([self.parcel(1), self.parcel(1, seq=9), self.parcel(2)])
        self.assertEqual(sorted(references), ["2 rows", "2 rows", "applied before"])
        self.assertEqual(self.counted(), ["1", "2"])

    @inlineCallbacks
    def test_old_keys_are_forgotten(self):
        """Between two groups: those of this destination that are older than `keep`; neither younger ones nor another's."""
        yield self.destination.deliver(self.parcel(1))
        rows = (("old", "c/lis", "1901-01-01"), ("old", "c/other", "1901-01-01"), ("young", "c/lis", "2099-01-01"))
        for digest, destination, at in rows:
            self.peer.run(f"INSERT INTO meridian_outbox (digest, destination, applied_at) VALUES ('{digest}', '{destination}', '{at}')")
        yield self.again(outbox={"keep": "90d"})
        yield self.destination.deliver(self.parcel(2))
        yield self.destination.deliver(self.parcel(3))  # which waits until that is done
        found = [tuple(row) for row in self.peer.run("SELECT digest, destination FROM meridian_outbox WHERE length(digest) < 10")]
        self.assertEqual(sorted(found), [("old", "c/other"), ("young", "c/lis")])
        self.assertEqual(self.counted(), ["1", "2", "3"])

    @inlineCallbacks
    def test_one_bad_one_is_singled_out(self):
        """The others of its group are written; what it had written itself is gone; it says the constraint and keeps the database's words."""
        self.peer.run("INSERT INTO taken VALUES ('3', 'there already')")
        sent = [self.destination.deliver(self.parcel(number)) for number in range(1, 8)]
        error = yield self.assertFailure(sent.pop(2), PermanentDelivery)
        yield gatherResults(sent)
        self.assertIn("a constraint is violated", error.text)
        self.assertNotIn("'3'", error.text)
        self.assertIn(b"3", error.answer)
        self.assertEqual(self.counted(), ["1", "2", "4", "5", "6", "7"])

    @inlineCallbacks
    def test_a_statement_that_cannot_be_run_waits_for_an_operator(self):
        """A missing table is no fault of the messages: none is a dead letter, and the others' destination does not pause."""
        yield self.again(statements=[{**TAKE, "run": TAKE["run"].replace("INTO taken", "INTO missing")}])
        error = yield self.assertFailure(self.destination.deliver(self.parcel(1)), TransientDelivery)
        self.assertFalse(error.whole_destination)
        self.peer.run("CREATE TABLE missing (id varchar(40), kind varchar(40))")
        yield self.destination.deliver(self.parcel(1))

    @inlineCallbacks
    def test_a_lock_that_somebody_holds(self):
        """The message waits; the others of its group do not."""
        self.peer.run("INSERT INTO taken VALUES ('1', 'old'), ('2', 'old')")
        update = {"run": "UPDATE taken SET kind = :kind WHERE id = :id", "with": TAKE["with"], "touches": "one"}
        yield self.again(statements=[update])
        with self.peer.engine.execution_options(isolation_level="READ COMMITTED").connect() as holder:
            holder.exec_driver_sql("UPDATE taken SET kind = 'held' WHERE id = '1'")
            kinds = yield self.outcomes([self.parcel(1), self.parcel(2)])
            holder.rollback()
        self.assertEqual(kinds, [TransientDelivery, "1 row"])
        references = yield self.outcomes([self.parcel(1)])
        self.assertEqual(references, ["1 row"])

    @inlineCallbacks
    def test_a_statement_that_takes_too_long_is_ended(self):
        slow = {"postgresql": "SELECT pg_sleep(30)", "mysql": "SELECT sleep(30)"}[self.server]
        yield self.again(statements=[{"run": slow}])
        error = yield self.assertFailure(self.destination.deliver(self.parcel(1)), TransientDelivery)
        self.assertIn("took too long", error.text)

    @inlineCallbacks
    def test_a_deadlock_is_tried_again_at_once(self):
        """Two writers whose statements take the same two rows in opposite orders, over and over."""
        self.peer.run("INSERT INTO taken VALUES ('1', 'a'), ('2', 'a')")
        touch = "UPDATE taken SET kind = :kind WHERE id = :id"
        first = {"run": touch, "with": {"id": "${tables.first}", "kind": "${message.control_id}"}}
        second = {"run": touch, "with": {"id": "${tables.second}", "kind": "${message.control_id}"}}
        self.lock = self.limit = "10s"  # PostgreSQL looks for deadlocks after a second
        orders = {"of": "${message.type}", "table": {"A": "1", "B": "2"}}
        backwards = {"of": "${message.type}", "table": {"A": "2", "B": "1"}}
        yield self.again(statements=[COUNT, first, second], tables={"first": orders, "second": backwards}, writers=2, batch=1)
        parcels = [self.parcel(number, message_type="AB"[number % 2]) for number in range(1, 13)]
        yield gatherResults([self.destination.deliver(parcel) for parcel in parcels])
        self.assertEqual(len(self.counted()), 12)

    @inlineCallbacks
    def test_rows_that_must_be_touched(self):
        """An UPDATE that finds nothing is a dead letter where the site says so, and nothing of the message is written."""
        update = {"run": "UPDATE taken SET kind = 'x' WHERE id = :id", "with": {"id": "${message.control_id}"}, "touches": "one"}
        yield self.again(statements=[COUNT, update])
        kinds = yield self.outcomes([self.parcel(1), self.parcel(2)])
        self.assertEqual(kinds, [PermanentDelivery] * 2)
        self.assertEqual(self.counted(), [])

    @inlineCallbacks
    def test_the_wire_is_cut_while_it_is_idle(self):
        """The next statement goes over a new connection."""
        yield self.destination.deliver(self.parcel(1))
        self.peer.wire.cut()
        yield self.destination.deliver(self.parcel(2))
        self.assertEqual(self.counted(), ["1", "2"])

    @inlineCallbacks
    def test_values_that_cannot_be_sent(self):
        """One of a group; the others are written."""
        bad = self.parcel(2, control_id="a\0b\ud800")
        kinds = yield self.outcomes([self.parcel(1), bad, self.parcel(3)])
        self.assertEqual(kinds, ["2 rows", PermanentDelivery, "2 rows"])

    @inlineCallbacks
    def test_several_writers(self):
        yield self.again(writers=3, batch=5)
        yield gatherResults([self.destination.deliver(self.parcel(number)) for number in range(1, 21)])
        self.assertEqual(len(self.counted()), 20)


class PostgreSQLContract(DatabaseContract, TestCase):
    server = "postgresql"

    @inlineCallbacks
    def test_a_constraint_that_is_checked_at_the_commit(self):
        """No savepoint can single that one out: each has a transaction of its own then."""
        self.peer.run("CREATE TABLE parents (id varchar(40) PRIMARY KEY)")
        self.peer.run("INSERT INTO parents VALUES ('1'), ('3')")
        self.peer.run("ALTER TABLE counted ADD FOREIGN KEY (id) REFERENCES parents DEFERRABLE INITIALLY DEFERRED")
        kinds = yield self.outcomes([self.parcel(number) for number in (1, 2, 3)])
        self.assertEqual(kinds, ["2 rows", PermanentDelivery, "2 rows"])
        self.assertEqual(self.counted(), ["1", "3"])


class MariaDBContract(DatabaseContract, TestCase):
    server = "mysql"
