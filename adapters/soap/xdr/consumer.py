"""The source `xds`: a Document Consumer. It asks a registry, round after round, which submission sets of its patients are new, retrieves
their documents, and hands each set in as one message.

By submission time, and not by a document's creation time: a letter of last year that is shared today is new today. A set is ticked off
when it is committed; after a crash in between it is handed in again under the same idempotency key. A round looks a while back behind
the newest set seen (`overlap`), since registries take submissions in any order.

What a repository cannot give now is left for the next round; what it does not have at all, or cannot give round after round, is left out
of the message, and said. Where a registry knows only a part, or has too much for one answer, nothing is passed over for it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks, maybeDeferred

from adapters.soap.xdr.asking import SECOND, Asking
from adapters.soap.xdr.composing import Found, compose, digest, keep, open_retrievals
from adapters.soap.xdr.seen import Seen
from engine.errors import ConfigError, DeliveryError, MessageError, StoreError
from engine.formats.xds.forms import fits
from engine.formats.xds.model import DocumentEntry, SubmissionSet
from engine.formats.xds.names import APPROVED, DEPRECATED, PARTIAL
from engine.formats.xds.queries import QueryAnswer
from engine.formats.xds.responses import NOWHERE, TRANSIENT
from engine.formats.xds.retrieval import Wanted
from engine.message import SOAP, BodyRef, Envelope, Judgement, Verdict
from engine.polling import PollingSource

if TYPE_CHECKING:
    from engine.contracts import Context, Intake
    from engine.options import Settings

MESSAGE_TYPE: Final = "ITI-43"
_STATUS: Final = {"approved": APPROVED, "deprecated": DEPRECATED}
_MOST_TRIES: Final = 10
"""Rounds after which a document that a repository cannot give is left out."""
_AHEAD: Final = timedelta(days=36525)
"""Submissions are asked for up to so far in the future: clocks of senders are wrong."""
_ALTERED: Final = Judgement(Verdict.INVALID, "a document is not what the hash of its entry says", location="DocumentEntry.hash")
_TROUBLE: Final = (DeliveryError, MessageError, ConfigError, StoreError, OSError, sqlite3.Error)


class Patient(NamedTuple):
    """`number` is its place in the list, which logs may name; `since` a DTM."""

    number: int
    id: str
    since: str


class DocumentConsumer(PollingSource):
    """engine.contracts.Source"""

    what: ClassVar[str] = "list of submissions seen"

    def __init__(self, options: Settings, context: Context) -> None:
        super().__init__(context, options.poll)
        self._options = options
        self._asking = Asking(options, context)
        self._seen = Seen(context.data / options.file)
        self._tries: Counter[str] = Counter()
        self._turns = DeferredSemaphore(options.patients_at_once)

    # --- engine.polling ----------------------------------------------------------------------------------

    def start(self, intake: Intake) -> Deferred[None]:
        return maybeDeferred(self._asking.open).addCallback(lambda _: super(DocumentConsumer, self).start(intake))

    def stop(self) -> Deferred[None]:
        return super().stop().addBoth(lambda result: self._asking.close().addBoth(lambda _: result))

    def open(self) -> None:
        self._seen.open()

    def close(self) -> None:
        self._seen.close()

    def listed(self) -> list[Patient]:
        patients = self._patients()
        first = datetime.fromtimestamp(self._context.clock() / 1e6, UTC) - timedelta(seconds=self._options.since)
        newest = self._seen.newest(patients)
        return [
            Patient(number, one, self._back(seen) if seen else first.strftime(SECOND))
            for number, (one, seen) in enumerate(zip(patients, newest, strict=True), 1)
        ]

    def _patients(self) -> list[str]:
        """Raises OSError where the file is not there."""
        if not self._options.patients_file:
            return list(self._options.patients)
        lines = (self._context.site / self._options.patients_file).read_text("utf-8-sig").splitlines()
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        wrong = [number for number, one in enumerate(found, 1) if not fits("patient", one)]
        if wrong:
            text = f"patient {wrong[0]} of {self._options.patients_file} is no identifier such as value^^^&OID&ISO"
            self._context.log.error(text, extra={"channel": self._context.name})
        return [one for one in found if fits("patient", one)]

    def _back(self, newest: str) -> str:
        """A DTM, the overlap earlier."""
        at = datetime.strptime(newest.ljust(8, "0")[:14].ljust(14, "0"), SECOND).replace(tzinfo=UTC)
        return (at - timedelta(seconds=self._options.overlap)).strftime(SECOND)

    def hand_in(self, item: Patient) -> Deferred[Any]:
        return self._turns.run(self._look_after, item)

    # --- one patient -------------------------------------------------------------------------------------

    @inlineCallbacks
    def _look_after(self, patient: Patient) -> Generator[Deferred[Any], Any, None]:
        """What is new of one patient. Never fails for what another round may mend."""
        if self.stopping:
            return
        now = datetime.fromtimestamp(self._context.clock() / 1e6, UTC)
        try:
            found, all_kept = yield self._asking.sets(patient.id, patient.since, (now + _AHEAD).strftime(SECOND))
            sets = sorted(found, key=lambda one: one.get("submissionTime"))
            new = yield self.in_thread(self._seen.unseen, patient.id, [one.id for one in sets])
        except _TROUBLE as error:
            self._trouble(patient, "the registry cannot be asked", error)
            return
        for one in sets:
            if one.id in new and not self.stopping:
                all_kept = (yield self._take(patient, one)) and all_kept
        times = [one.get("submissionTime") for one in sets if fits("dtm", one.get("submissionTime"))]
        if times and all_kept and not self.stopping:
            newest = min(max(times), now.strftime(SECOND))  # a sender's clock may be years ahead: what comes after is not older for it
            yield self.in_thread(self._seen.advance, patient.id, newest, self._back(self._back(newest)))

    @inlineCallbacks
    def _take(self, patient: Patient, the_set: SubmissionSet) -> Generator[Deferred[Any], Any, bool]:
        """Retrieve one submission set and hand it in; whether it is settled."""
        files: list[Path] = []
        try:
            answer: QueryAnswer = yield self._asking.query("GetSubmissionSetAndContents", {"$XDSSubmissionSetEntryUUID": the_set.id})
            if not answer.submission.sets or answer.response.status == PARTIAL:
                raise StoreError("the registry does not give the whole submission set now")
            wanted = {entry.id: entry for entry in answer.submission.entries if self._is_wanted(entry)}
            if wanted:
                found = yield self._documents(list(wanted.values()), files)
                if self._must_wait(the_set.id, found):
                    raise StoreError("a repository does not give all documents now")
                body = yield self.in_thread(lambda: keep(compose(answer.objects, wanted, found), self._context.spool))
                kept = yield self._hand_one_in(answer, found, body)
                if not kept:
                    return False
            yield self.in_thread(self._seen.keep, patient.id, the_set.id, the_set.get("submissionTime"))
            self._tries.pop(the_set.id, None)
        except _TROUBLE as error:
            self._trouble(patient, "a submission set cannot be retrieved", error)
            return False
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        return True

    def _must_wait(self, set_id: str, found: Found) -> bool:
        """Whether what a repository does not give may come another time: it is busy, or at fault (but not for ever). What it says that it
        does not have is not waited for."""
        trouble = {code for response in found.responses for code in response.codes} - NOWHERE
        if trouble & TRANSIENT:
            return True
        self._tries[set_id] += bool(trouble and found.missing)
        return 0 < self._tries[set_id] < _MOST_TRIES

    def _is_wanted(self, entry: DocumentEntry) -> bool:
        """On-demand documents are made when they are asked for: they are never new."""
        if entry.on_demand or entry.get("availabilityStatus") not in {_STATUS[one] for one in self._options.status}:
            return False
        code = entry.code("typeCode")
        names = {code.code, f"{code.code}^^{code.scheme}"} if code is not None else set()
        return not self._options.types or bool(names & set(self._options.types))

    @inlineCallbacks
    def _documents(self, entries: Sequence[DocumentEntry], files: list[Path]) -> Generator[Deferred[Any], Any, Found]:
        """From each repository what it has. `files` are the caller's to remove."""
        if not self._options.documents:
            return Found(missing=0)
        by_repository: dict[str, list[Wanted]] = {}
        for entry in entries:
            repository = entry.get("repositoryUniqueId")
            by_repository.setdefault(repository, []).append(Wanted(repository, entry.unique_id, entry.get("homeCommunityId")))
        for repository, documents in by_repository.items():
            file = yield self._asking.retrieve(repository, documents)
            files.append(file)
        found: Found = yield self.in_thread(open_retrievals, files, entries)
        return found

    @inlineCallbacks
    def _hand_one_in(self, answer: QueryAnswer, found: Found, body: bytes | BodyRef) -> Generator[Deferred[Any], Any, bool]:
        submission = answer.submission
        if found.missing:
            text = f"{found.missing} of {len(found.parts) + found.missing} documents are in no repository"
            self._context.log.warning(text, extra={"channel": self._context.name, "control_id": submission.set.unique_id})
        content_digest = yield self.in_thread(digest, submission, found)
        envelope = Envelope(
            body,
            SOAP,
            MESSAGE_TYPE,
            submission.set.unique_id,
            submission.set.get("sourceId"),
            received_at=self._context.clock(),
            patient_ids=submission.patient_ids(),
            idempotency_key=f"xds|{submission.set.id}|{submission.set.unique_id}",
            content_digest=content_digest,
            facts={"xds.documents": str(len(found.parts)), "xds.missing": str(found.missing)},
        )
        ack = yield self.intake(envelope, lambda _: b"", _ALTERED if found.altered else None)
        return bool(ack.message_id)

    def _trouble(self, patient: Patient, what: str, error: Exception) -> None:
        self._context.log.error(what, extra={"channel": self._context.name, "patient": patient.number, "reason": str(error)})
