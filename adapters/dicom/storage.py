"""Storage SCP (PS3.4 annex B): a C-STORE's data set goes straight to the store, and 0000H is said when it is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from adapters.dicom.instances import HEAD, Facts, envelope, file_head, read_facts
from adapters.dicom.spooling import Spooling, Written
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.verdicts import answer_of, read_ack
from engine.errors import StoreError
from engine.message import Judgement, Verdict

if TYPE_CHECKING:
    from adapters.dicom.source import DicomSource
    from adapters.dicom.upper.exchange import Request, Sink
    from engine.message import Ack

MISMATCH: Final = "207"
_UNREADABLE: Final = Judgement(Verdict.INVALID, "the data set cannot be read", "100")
_NO_IDENTITY: Final = Judgement(Verdict.INVALID, "no SOP Class or Instance UID in the data set", "101", "(0008,0018)")
_OTHER_CLASS: Final = Judgement(Verdict.INVALID, "SOP Class UID differs from the command's", MISMATCH, "(0008,0016)")
_OTHER_INSTANCE: Final = Judgement(Verdict.INVALID, "SOP Instance UID differs from the command's", MISMATCH, "(0008,0018)")
_OTHER_CONTEXT: Final = Judgement(Verdict.INVALID, "SOP Class UID differs from the context's", MISMATCH, "(0000,0002)")


class Storage:
    """adapters.dicom.upper.exchange.Service"""

    def __init__(self, source: DicomSource) -> None:
        self._source = source

    def begin(self, request: Request) -> Sink | None:
        command = request.command
        if command.field != Field.C_STORE:
            request.respond(Status.UNRECOGNIZED_OPERATION)
            return None
        if not command.has_data:
            request.respond(Status.CANNOT_UNDERSTAND, "a C-STORE without a data set")
            return None
        uid = command.sop_instance
        if not 0 < len(uid) <= 64 or not uid.isascii() or not uid.isprintable():
            request.respond(Status.CANNOT_UNDERSTAND, "no Affected SOP Instance UID")
            return None
        return _Reception(self._source, request)


class _Reception:
    """adapters.dicom.upper.exchange.Sink: one instance that is being received."""

    def __init__(self, source: DicomSource, request: Request) -> None:
        self._source, self._request = source, request
        command, context = request.command, request.context
        self._head = bytearray()
        self._too_large = False
        head = file_head(command.sop_class, command.sop_instance, context.transfer_syntax, request.parties.calling)
        self._spooling = Spooling(head, source.context.spool, source.run, request.exchange, source.options.in_flight_size, self._written)

    def write(self, data: memoryview) -> None:
        if self._too_large:
            return
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        self._spooling.write(data)
        if self._spooling.size > self._source.options.max_size:
            self._too_large = True
            self._spooling.abort()

    def end(self) -> None:
        if self._too_large:
            self._source.fault("too_large", self._request.parties.remote)
            self._request.respond(Status.CANNOT_UNDERSTAND, "the instance is larger than this channel takes")
        else:
            self._spooling.finish()

    def lost(self) -> None:
        self._source.fault("cut_off", self._request.parties.remote)
        if not self._too_large:
            self._spooling.abort()

    def _written(self, outcome: Written | StoreError) -> None:
        source, request = self._source, self._request
        if isinstance(outcome, StoreError) or source.intake is None:
            source.not_kept(request.command.sop_instance, str(outcome))
            request.respond(Status.OUT_OF_RESOURCES, "the message store cannot take instances now")
            return
        facts = read_facts(bytes(self._head), request.context.transfer_syntax)
        invalid, status = self._fault(facts)
        parties = request.parties
        made = envelope(
            outcome.body,
            facts,
            received_at=source.context.clock(),
            content_digest=outcome.digest,
            calling=parties.calling,
            called=parties.called,
            peer=parties.peer,
            remote=parties.remote,
        )
        if invalid is not None:
            source.fault("unusable", parties.remote, control_id=request.command.sop_instance, reason=invalid.reason)
        source.intake(made, lambda judgement: answer_of(Field.C_STORE, judgement, status), invalid).addCallback(self._acked)

    def _fault(self, facts: Facts) -> tuple[Judgement | None, Status | None]:
        """Whether the data set is what the command says (PS3.4 table B.2-1)."""
        command = self._request.command
        if not facts.readable:
            return _UNREADABLE, Status.CANNOT_UNDERSTAND
        if not facts.sop_class or not facts.sop_instance:
            return _NO_IDENTITY, Status.CANNOT_UNDERSTAND
        if facts.sop_class != command.sop_class:
            return _OTHER_CLASS, Status.DATA_SET_MISMATCH
        if facts.sop_instance != command.sop_instance:
            return _OTHER_INSTANCE, Status.DATA_SET_MISMATCH
        if command.sop_class != self._request.context.abstract_syntax:
            return _OTHER_CONTEXT, Status.DATA_SET_MISMATCH
        return None, None

    def _acked(self, ack: Ack) -> None:
        status, comment, data, elements = read_ack(Field.C_STORE, ack)
        self._request.respond(status, comment, data, **elements)
