"""What the FHIR tests share: a context, repositories, a writer without a process, an intake that answers from a destination."""

import itertools
import json
import logging
from pathlib import Path

from twisted.internet.defer import Deferred, maybeDeferred

from adapters.fhir import adapter, repository_adapter
from adapters.fhir.outcome import Answer
from adapters.fhir.repository import ResourceRepository
from adapters.fhir.writer_process import outcome
from engine.contracts import Context
from engine.message import ACCEPTED, Ack, Judgement, Parcel, Verdict
from engine.observe import Metrics

START = 1_700_000_000_000_000
SYSTEM = "urn:oid:1.2.156.1"


class FakeTime:
    """Microseconds UTC that move by a millisecond at each look."""

    def __init__(self):
        self.now = START

    def __call__(self):
        self.now += 1000
        return self.now


def context(data: Path, reactor, *, name="platform", tls=None, audit=None, clock=None) -> Context:
    numbers = itertools.count(1)
    return Context(
        name=name,
        reactor=reactor,
        site=data,
        data=data,
        clock=clock or FakeTime(),
        new_id=lambda: f"id{next(numbers)}",
        log=logging.getLogger("test.fhir"),
        metrics=Metrics(),
        tls=tls,
        audit=audit or (lambda *_, **__: None),
        node="test",
    )


def open_repository(path: Path, clock=None, *, reads_all=False) -> ResourceRepository:
    """A repository whose ids are n1, n2 …"""
    numbers = itertools.count(1)
    log = logging.getLogger("test.fhir")
    opened = ResourceRepository(
        path, clock=clock or FakeTime(), new_id=lambda: f"n{next(numbers)}", log=log, remember=86400, reads_all=reads_all
    )
    opened.open()
    return opened


class DirectWriter:
    """Applies groups at once, in this process; with `held` it waits for `release`."""

    def __init__(self, repository: ResourceRepository):
        self.repository = repository
        self.groups = []
        self.held = False
        self._waiting = []

    def open(self):
        return maybeDeferred(lambda: None)

    def apply(self, group):
        self.groups.append(list(group))
        done = Deferred()
        done.addCallback(lambda _: [outcome(result) for result in self.repository.apply(group)])
        if self.held:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done

    def release(self):
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    def close(self):
        return maybeDeferred(self.repository.close)


def source(options, made_context):
    return adapter.source(adapter.source_options.defaults(**options), made_context)


def destination(options, made_context):
    return adapter.destination(adapter.destination_options.defaults(**options), made_context)


def repository_destination(made_context, **options):
    return repository_adapter.destination(repository_adapter.destination_options.defaults(**options), made_context)


def identified(resource_type, value, **elements):
    """A resource with one identifier."""
    return {"resourceType": resource_type, "identifier": [{"system": SYSTEM, "value": value}], **elements}


def entry(method, url, resource=None, full_url=None, **request):
    made = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


def bundle(*entries, kind="transaction"):
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)}).encode()


def parcel(body, key="key", seq=1, peer=""):
    return Parcel(seq, seq, body, "application/fhir+json", "Bundle transaction", "control", key, peer=peer)


class RepositoryIntake:
    """An engine.contracts.Intake that delivers at once to a destination, as a channel with `answer from` does."""

    def __init__(self, to=None):
        self.to = to
        self.envelopes = []
        self.invalid = []
        self.judgement = ACCEPTED
        self.answers = {}

    def __call__(self, envelope, reply, invalid=None):
        self.envelopes.append(envelope)
        self.invalid.append(invalid)
        judgement = invalid or self.judgement
        number = len(self.envelopes)
        done = Deferred()
        if judgement.verdict is not Verdict.ACCEPTED or self.to is None:
            done.callback(Ack(judgement, reply(judgement), number))
            return done
        known = self.answers.get(envelope.idempotency_key)
        if known is not None:
            done.callback(known)
            return done
        return self.to.deliver(parcel(envelope.body, f"m{number}", number, envelope.peer)).addCallbacks(
            self._delivered, self._refused, callbackArgs=(envelope,)
        )

    def _delivered(self, receipt, envelope):
        ack = Ack(ACCEPTED, receipt.answer, len(self.envelopes))
        if envelope.idempotency_key:
            self.answers[envelope.idempotency_key] = ack
        return ack

    def _refused(self, failure):
        return Ack(Judgement(Verdict.INVALID, failure.value.text), failure.value.answer, len(self.envelopes))


def body_of(answer: Answer):
    return json.loads(answer.body)
