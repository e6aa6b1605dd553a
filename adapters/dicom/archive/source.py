"""The source `dicom_archive`: tells of studies, one message a version, taken off the list when it is committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson
from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from adapters.dicom.archive.completion import NO_STEPS, Rule, Steps, decide
from adapters.dicom.archive.index import Index
from adapters.dicom.archive.listing import Listing
from adapters.dicom.archive.notices import Listed, Notice, Notices, planned
from adapters.dicom.archive.steps import PerformedSteps
from engine.errors import ConfigError, StoreError
from engine.message import DICOM_JSON, Ack, BodyRef, Envelope

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

    from engine.contracts import Context, Intake
    from engine.options import Settings

_AT_ONCE: Final = 8
_LOOK_AT: Final = 200
_IN_MEMORY: Final = 4 << 20
"""Bodies longer than this are written to the store while they are put together."""


@dataclass(frozen=True, slots=True)
class Told:
    """A notice with its message."""

    notice: Notice
    body: bytes | BodyRef
    digest: bytes
    instances: int


class StudySource:
    """engine.contracts.Source"""

    intake: Intake

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._rule = rule(options)
        self._notices = Notices(context.data / options.folder, context.name)
        self._index = Index(context.data / options.folder)
        self._steps = PerformedSteps(context.data / options.worklist) if options.worklist else None
        self._pool = ThreadPool(1, 1, name=f"archive {context.name}")
        self._timer: DelayedCall | None = None
        self._round: Deferred[Any] | None = None
        self._stopping = False

    def start(self, intake: Intake) -> Deferred[None]:
        self.intake = intake
        self._pool.start()
        return self._in_thread(self._notices.open).addCallbacks(lambda _: self._look(), self._not_opened)

    def _not_opened(self, failure: Failure) -> Deferred[None]:
        failure.trap(StoreError, OSError)
        return fail(ConfigError(f"channel {self._context.name}: cannot open the archive: {failure.value}"))

    def stop(self) -> Deferred[None]:
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended: Deferred[Any] = Deferred()
        (self._round or succeed(None)).addBoth(lambda _: ended.callback(None))
        ended.addCallback(lambda _: self._in_thread(self._close))
        return ended.addBoth(lambda _: self._pool.stop())

    def _close(self) -> None:
        self._notices.close()
        self._index.close()
        if self._steps is not None:
            self._steps.close()

    # --- one round -------------------------------------------------------------------------------

    def _look(self) -> None:
        self._timer = None
        self._round = done = self._in_thread(self._to_tell)
        done.addCallback(self._hand_in).addErrback(self._failed).addBoth(self._again)

    def _hand_in(self, notices: list[Notice]) -> Deferred[Any]:
        return gatherResults([self._tell(notice) for notice in notices if not self._stopping], consumeErrors=True)

    def _tell(self, notice: Notice) -> Deferred[Any]:
        return self._in_thread(self._put_together, notice).addCallback(self._told)

    def _told(self, told: Told) -> Deferred[Any] | None:
        if self._stopping:
            return None
        return self.intake(self._envelope(told), lambda _: b"").addCallback(self._kept, told.notice)

    def _kept(self, ack: Ack, notice: Notice) -> Deferred[Any] | None:
        return self._in_thread(self._notices.said, notice) if ack.message_id else None

    def _envelope(self, told: Told) -> Envelope:
        notice = told.notice
        return Envelope(
            told.body,
            DICOM_JSON,
            notice.kind,
            f"{notice.uid}.{notice.version}",
            received_at=self._context.clock(),
            patient_ids=(notice.patient_id,) if notice.patient_id else (),
            idempotency_key=f"dicom_archive|{self._options.folder}|{notice.uid}|{notice.version}|{told.digest.hex()}",
            content_digest=told.digest,
            facts={
                "study_uid": notice.uid,
                "version": str(notice.version),
                "instances": str(told.instances),
                "by": notice.by,
            },
        )

    def _failed(self, failure: Failure) -> None:
        error: Any = failure.value
        reason = error.subFailure.value if isinstance(error, FirstError) else error
        if not isinstance(reason, StoreError | OSError | sqlite3.Error):
            self._context.log.error("unexpected failure while studies were told of", exc_info=reason)
            return
        self._context.log.error("the archive cannot be read", extra={"channel": self._context.name, "reason": str(reason)})

    def _again(self, result: Any) -> Any:
        self._round = None
        if not self._stopping:
            self._timer = self._context.reactor.callLater(self._options.poll, self._look)
        return result

    def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._context.reactor, self._pool, work, *arguments)

    # --- in the thread ---------------------------------------------------------------------------

    def _to_tell(self) -> list[Notice]:
        """What is to be said now, planned; the rest is put off."""
        found: list[Notice] = []
        now = self._context.clock()
        for listed in self._notices.due(now, _LOOK_AT):
            if len(found) >= _AT_ONCE:
                break
            if listed.plan:
                found.append(planned(listed))
                continue
            decision = decide(listed.standing, self._steps_of(listed), self._rule, now)
            if decision.kind:
                found.append(self._notices.plan(listed, decision.kind, decision.by))
            else:
                self._notices.look_again(listed, decision.look)
        return found

    def _steps_of(self, listed: Listed) -> Steps:
        if self._steps is None:
            return NO_STEPS
        return self._steps.of(listed.uid, {held.sop_uid for held in self._index.instances(listed.uid)})

    def _put_together(self, notice: Notice) -> Told:
        """The message: ``[{…},{…}]``, see adapters.dicom.archive.listing."""
        parts, size, digest, count = [], 0, blake2b(digest_size=16), 0
        spool = None
        listing = Listing()
        for count, instance in enumerate(self._notices.content(notice), 1):
            part = (b"," if count > 1 else b"[") + orjson.dumps(listing.add(orjson.loads(instance)))
            digest.update(part)
            parts.append(part)
            size += len(part)
            if spool is None and size > _IN_MEMORY:
                spool = self._context.spool()
            if spool is not None:
                spool.write(b"".join(parts))
                parts.clear()
        parts.append(b"]" if count else b"[]")
        if spool is None:
            return Told(notice, b"".join(parts), digest.digest(), count)
        spool.write(b"".join(parts))
        return Told(notice, spool.finish(), digest.digest(), count)


def rule(options: Settings) -> Rule:
    """The rule that the options give."""
    settle = int(options.settle * 1e6)
    return Rule(settle, int(options.quiet * 1e6), int(options.overdue * 1e6), max(settle, 1_000_000) if options.worklist else 0)
