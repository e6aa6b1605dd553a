"""The source `dicom_archive`: tells of studies, one message a version, taken off the list when it is committed."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import orjson

from adapters.dicom.archive.completion import NO_STEPS, Rule, Steps, decide
from adapters.dicom.archive.index import Index
from adapters.dicom.archive.listing import Listing
from adapters.dicom.archive.notices import Listed, Notice, Notices, planned
from adapters.dicom.archive.steps import PerformedSteps
from engine.message import DICOM_JSON, Ack, BodyRef, Envelope
from engine.polling import PollingSource

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from engine.contracts import Context
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


class StudySource(PollingSource):
    """engine.contracts.Source"""

    what = "archive"

    def __init__(self, options: Settings, context: Context) -> None:
        super().__init__(context, options.poll)
        self._options, self._rule = options, rule(options)
        self._notices = Notices(context.data / options.folder, context.name)
        self._index = Index(context.data / options.folder)
        self._steps = PerformedSteps(context.data / options.worklist) if options.worklist else None

    def open(self) -> None:
        self._notices.open()

    def close(self) -> None:
        self._notices.close()
        self._index.close()
        if self._steps is not None:
            self._steps.close()

    # --- one study -------------------------------------------------------------------------------

    def hand_in(self, item: Notice) -> Deferred[Any]:
        return self.in_thread(self._put_together, item).addCallback(self._told)

    def _told(self, told: Told) -> Deferred[Any] | None:
        if self.stopping:
            return None
        return self.intake(self._envelope(told), lambda _: b"").addCallback(self._kept, told.notice)

    def _kept(self, ack: Ack, notice: Notice) -> Deferred[Any] | None:
        return self.in_thread(self._notices.said, notice) if ack.message_id else None

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

    # --- in the thread ---------------------------------------------------------------------------

    def listed(self) -> list[Notice]:
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
