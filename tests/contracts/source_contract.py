"""What every listening source must do (engine.contracts.Source): mix into a trial TestCase, and give it a source and a sender."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from engine.errors import ConfigError
from engine.message import ACCEPTED, Ack, Envelope, Judgement, Verdict

REFUSED = Judgement(Verdict.REFUSED, "not for this channel", "200")
UNAVAILABLE = Judgement(Verdict.UNAVAILABLE, "try again later", "207")


class HeldIntake:
    """engine.contracts.Intake: holds each message until `release`; `arrived(n)` fires when n messages have come."""

    def __init__(self) -> None:
        self.kept: list[Envelope] = []
        self.closed = False
        self.after_close = 0
        self._held: list[tuple[Deferred[Ack], Any]] = []
        self._awaited: list[tuple[int, Deferred[None]]] = []

    def __call__(self, envelope: Envelope, reply: Any, invalid: Judgement | None = None) -> Deferred[Ack]:
        self.after_close += self.closed
        self.kept.append(envelope)
        done: Deferred[Ack] = Deferred()
        self._held.append((done, reply))
        for number, awaited in self._awaited:
            if number == len(self.kept):
                awaited.callback(None)
        return done

    def arrived(self, number: int) -> Deferred[None]:
        awaited: Deferred[None] = Deferred()
        if len(self.kept) >= number:
            awaited.callback(None)
        else:
            self._awaited.append((number, awaited))
        return awaited

    def release(self, index: int, judgement: Judgement = ACCEPTED) -> None:
        done, reply = self._held[index]
        kept = 0 if judgement.verdict is Verdict.UNAVAILABLE else index + 1
        done.callback(Ack(judgement, reply(judgement), kept))


class SourceContract:
    """`make_source` gives a source that is not started. `send(control_id)` sends a good message over a connection of its own and gives
    what is answered, b"" where the connection ended first. `is_positive` tells whether an answer accepts. `same_port` gives another
    source for the port of the first."""

    def make_source(self) -> Any:
        raise NotImplementedError

    def same_port(self) -> Any:
        raise NotImplementedError

    def send(self, control_id: str) -> Deferred[bytes]:
        raise NotImplementedError

    def is_positive(self, answer: bytes) -> bool:
        raise NotImplementedError

    def setUp(self) -> Deferred[None]:
        self.intake = HeldIntake()
        self.source = self.make_source()
        return self.source.start(self.intake)  # type: ignore[no-any-return]

    def tearDown(self) -> Deferred[None]:
        return self.source.stop()  # type: ignore[no-any-return]

    @inlineCallbacks
    def test_the_answer_waits_for_the_commit(self):  # type: ignore[no-untyped-def]
        """Not a byte before the intake fires, and a positive answer then."""
        answer = self.send("1")
        yield self.intake.arrived(1)
        self.assertNoResult(answer)
        self.intake.release(0)
        self.assertTrue(self.is_positive((yield answer)))

    @inlineCallbacks
    def test_what_is_not_accepted_is_not_answered_positively(self):  # type: ignore[no-untyped-def]
        """Refused, or a store that cannot take it."""
        for index, judgement in enumerate((REFUSED, UNAVAILABLE)):
            answer = self.send(str(index))
            yield self.intake.arrived(index + 1)
            self.intake.release(index, judgement)
            self.assertFalse(self.is_positive((yield answer)))

    @inlineCallbacks
    def test_the_bytes_are_unaltered_and_the_facts_read(self):  # type: ignore[no-untyped-def]
        """An envelope has where it came from, when, and under which control id."""
        answer = self.send("77")
        yield self.intake.arrived(1)
        envelope = self.intake.kept[0]
        self.assertEqual(envelope.control_id, "77")
        self.assertIn("127.0.0.1:", envelope.remote)
        self.assertTrue(envelope.received_at and envelope.idempotency_key and envelope.content_digest)
        self.intake.release(0)
        yield answer

    @inlineCallbacks
    def test_connections_do_not_wait_for_each_other(self):  # type: ignore[no-untyped-def]
        """The second is answered while the first still waits for its commit."""
        first = self.send("1")
        yield self.intake.arrived(1)
        second = self.send("2")
        yield self.intake.arrived(2)
        self.intake.release(1)
        self.assertTrue(self.is_positive((yield second)))
        self.assertNoResult(first)
        self.intake.release(0)
        self.assertTrue(self.is_positive((yield first)))

    @inlineCallbacks
    def test_stop_answers_what_was_handed_in(self):  # type: ignore[no-untyped-def]
        """It fires only after that, and the intake hears of nothing new."""
        answer = self.send("1")
        yield self.intake.arrived(1)
        self.intake.closed = True
        stopped = self.source.stop()
        self.intake.release(0)
        self.assertTrue(self.is_positive((yield answer)))
        yield stopped
        self.assertEqual(self.intake.after_close, 0)

    @inlineCallbacks
    def test_a_port_that_is_taken(self):  # type: ignore[no-untyped-def]
        """A ConfigError, which the operator can act on."""
        yield self.assertFailure(self.same_port().start(self.intake), ConfigError)
