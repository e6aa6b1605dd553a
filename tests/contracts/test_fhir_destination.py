"""What every FHIR destination does alike: the repository in this process, in its own process, and a server over HTTP."""

import contextlib
import os
import signal
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.fhir import repository_adapter
from adapters.fhir.outcome import Answer
from adapters.fhir.repository import Reading
from adapters.fhir.repository_destination import RepositoryDestination
from adapters.fhir.search import parse_query
from engine.errors import DeliveryError, PermanentDelivery, StoreFull, TransientDelivery
from engine.message import BodyRef
from tests.support.fhir import (
    SYSTEM,
    DirectWriter,
    RepositoryIntake,
    body_of,
    bundle,
    context,
    destination,
    entry,
    identified,
    open_repository,
    parcel,
    repository_destination,
    source,
)


def patient(name):
    return bundle(entry("POST", "Patient", identified("Patient", name)))


class FhirDestinationContract:
    """`make` gives a destination that leads to the repository file at `self.path`."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        self.path = self.data / "fhir-repository.db"
        self.context = context(self.data, reactor)
        self.destination = self.make()
        return self.destination.open()

    def tearDown(self):
        return self.destination.close()

    def kept(self, name):
        """How many patients of that name the repository has."""
        reading = Reading(self.path)
        self.addCleanup(reading.close)
        return reading.read(lambda rows: rows.count(parse_query("Patient", f"identifier={SYSTEM}|{name}"), 1000))

    @inlineCallbacks
    def test_a_receipt_means_that_it_is_there(self):
        receipt = yield self.destination.deliver(parcel(patient("A")))
        self.assertEqual(self.kept("A"), 1)
        answer = Answer.decode(receipt.answer)
        self.assertEqual((answer.status, body_of(answer)["type"]), (200, "transaction-response"))
        self.assertTrue(receipt.reference)

    @inlineCallbacks
    def test_a_refusal_is_permanent_with_the_operation_outcome(self):
        """And nothing of the Bundle is there."""
        body = bundle(
            entry("POST", "Patient", identified("Patient", "A")),
            entry("PUT", "Patient/p", {"resourceType": "Patient", "id": "p"}, ifMatch='W/"3"'),
        )
        error = yield self.assertFailure(self.destination.deliver(parcel(body)), PermanentDelivery)
        answer = Answer.decode(error.answer)
        self.assertEqual((answer.status, body_of(answer)["resourceType"]), (412, "OperationOutcome"))
        self.assertEqual(self.kept("A"), 0)

    @inlineCallbacks
    def test_what_is_no_bundle_is_permanent(self):
        for body in (b"", b"garbage", b'{"resourceType":"Patient"}'):
            yield self.assertFailure(self.destination.deliver(parcel(body)), PermanentDelivery)

    @inlineCallbacks
    def test_many_at_once_are_each_answered_for_themselves(self):
        """Good and bad ones mixed, more than may be in flight at once."""
        bodies = [patient(f"P{number}") if number % 5 else b"garbage" for number in range(150)]
        results = yield gatherResults(
            [
                self.destination.deliver(parcel(body, f"k{seq}", seq)).addErrback(lambda failure: failure.value)
                for seq, body in enumerate(bodies)
            ]
        )
        for number, result in enumerate(results):
            self.assertEqual(isinstance(result, PermanentDelivery), number % 5 == 0)
            self.assertEqual(self.kept(f"P{number}"), 1 if number % 5 else 0)

    @inlineCallbacks
    def test_close_finishes_what_is_under_way(self):
        results = [self.destination.deliver(parcel(patient("C"), f"k{seq}", seq)) for seq in range(5)]
        yield self.destination.close()
        yield gatherResults(results)
        self.assertEqual(self.kept("C"), 5)

    @inlineCallbacks
    def test_a_body_that_is_not_in_memory_is_refused(self):
        yield self.assertFailure(self.destination.deliver(parcel(BodyRef("00", 1))), DeliveryError)


class IdempotentContract(FhirDestinationContract):
    """Those that see the parcel's key themselves."""

    @inlineCallbacks
    def test_the_same_key_again_is_answered_the_same_and_changes_nothing(self):
        first = yield self.destination.deliver(parcel(patient("A"), "same"))
        again = yield self.destination.deliver(parcel(patient("A"), "same"))
        self.assertEqual(first, again)
        self.assertEqual(self.kept("A"), 1)


class DirectRepositoryTests(IdempotentContract, TestCase):
    """The repository destination with a writer in this process."""

    def make(self):
        self.writer = DirectWriter(open_repository(self.path))
        return RepositoryDestination(repository_adapter.destination_options.defaults(), self.context, self.writer)

    @inlineCallbacks
    def test_parcels_that_wait_go_in_one_commit(self):
        """While the first is being written the others gather."""
        self.writer.held = True
        results = [self.destination.deliver(parcel(patient("G"), f"k{seq}", seq)) for seq in range(70)]
        self.writer.release()
        self.writer.held = False
        self.writer.release()
        yield gatherResults(results)
        self.assertEqual([len(group) for group in self.writer.groups], [1, 64, 5])

    @inlineCallbacks
    def test_a_full_disk_is_transient_for_the_whole_destination(self):
        def full(group):
            raise StoreFull("full")

        self.patch(self.writer.repository, "apply", full)
        error = yield self.assertFailure(self.destination.deliver(parcel(patient("A"))), TransientDelivery)
        self.assertTrue(error.whole_destination)


class ProcessRepositoryTests(IdempotentContract, TestCase):
    """The repository destination as it ships: the writer is a process."""

    def make(self):
        return repository_destination(self.context)

    @inlineCallbacks
    def test_a_writer_that_is_killed_loses_and_doubles_nothing(self):
        """kill -9 at any moment: what failed comes again with its key, and everything is there once."""
        done = set()
        for attempt in range(40):
            waiting = [number for number in range(60) if number not in done]
            if not waiting:
                break
            results = [self.destination.deliver(parcel(patient(f"K{number}"), f"k{number}", number)) for number in waiting]
            pid = self.destination._writer._process.transport.pid
            if attempt < 6 and pid:
                # at a moment that differs with each attempt: when so many answers are in
                results[min(attempt * 9, len(results) - 1)].addBoth(self.kill, pid)
            for number, result in zip(waiting, results, strict=True):
                result.addCallbacks(lambda _, number=number: done.add(number), lambda failure: failure.trap(TransientDelivery))
            yield gatherResults(results)
        self.assertEqual(len(done), 60)
        self.assertEqual([self.kept(f"K{number}") for number in range(60)], [1] * 60)

    @inlineCallbacks
    def test_a_writer_that_ended_says_how(self):
        """Its exit code or its signal is all that is left of it in the log."""
        result = self.destination.deliver(parcel(patient("A")))
        self.kill(None, self.destination._writer._process.transport.pid)
        error = yield self.assertFailure(result, TransientDelivery)
        self.assertIn("writer process ended (signal 9)", error.text)

    def kill(self, result, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return result

    @inlineCallbacks
    def test_a_file_that_cannot_be_used_fails_the_opening(self):
        broken = self.data / "broken.db"
        broken.write_bytes(b"no database" * 1000)
        other = repository_destination(self.context, path="broken.db")
        yield self.assertFailure(other.open(), Exception)
        yield other.close()


class HttpTests(FhirDestinationContract, TestCase):
    """The client, over loopback, to a source whose channel answers from a repository."""

    def make(self):
        self.intake = RepositoryIntake(
            RepositoryDestination(repository_adapter.destination_options.defaults(), self.context, DirectWriter(open_repository(self.path)))
        )
        self.source = source({"listen": "127.0.0.1:0"}, self.context)
        self.source.start(self.intake)
        return destination({"url": f"http://127.0.0.1:{self.source.port}/fhir", "connections": 8}, context(self.data, reactor))

    @inlineCallbacks
    def tearDown(self):
        yield self.destination.close()
        yield self.source.stop()
        yield self.intake.to.close()

    @inlineCallbacks
    def test_the_key_goes_along(self):
        """It becomes the envelope's, so that the server's own duplicate check sees a repeat."""
        first = yield self.destination.deliver(parcel(patient("A"), "same"))
        again = yield self.destination.deliver(parcel(patient("A"), "same"))
        self.assertEqual(first, again)
        self.assertEqual(self.intake.envelopes[0].idempotency_key, "127.0.0.1|same")
        self.assertEqual(self.kept("A"), 1)
