"""N-services whose requests are messages: MPPS N-CREATE and N-SET, storage commitment N-ACTION.

The body is the data set as a PS3.10 file with that SOP class in its file meta information; the answer is a DIMSE status, and where the
channel answers from a destination what that destination's receipt holds (`dimse.answer`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_OID, uuid5

from adapters.dicom.instances import file_head, read_facts
from adapters.dicom.upper.dimse import Field, Status
from adapters.dicom.upper.exchange import Gathered, Request, Sink
from adapters.dicom.verdicts import answer_of, read_ack
from engine.message import DICOM, Envelope

if TYPE_CHECKING:
    from adapters.dicom.source import DicomSource
    from engine.contracts import Intake
    from engine.message import Ack

MPPS: Final = "1.2.840.10008.3.1.2.3.3"
"""Modality Performed Procedure Step."""
MPPS_MESSAGES: Final = {Field.N_CREATE: "MPPS^CREATE", Field.N_SET: "MPPS^SET"}


class Recorded:
    """adapters.dicom.upper.exchange.Service. `messages`: the message type for each operation that is taken."""

    def __init__(self, source: DicomSource, messages: Mapping[Field, str]) -> None:
        self._source, self._messages = source, messages

    def begin(self, request: Request) -> Sink | None:
        command = request.command
        if command.field not in self._messages:
            request.respond(Status.UNRECOGNIZED_OPERATION)
            return None
        if not command.sop_instance and command.field == Field.N_CREATE:  # then it is ours to give (PS3.7 clause 10.1.5.1.4)
            command["AffectedSOPInstanceUID"] = self._new_uid()
        if not command.sop_instance:
            request.respond(Status.INVALID_OBJECT_INSTANCE, "no SOP Instance UID")
            return None
        if not command.has_data:
            self._take(request, b"")
            return None
        return Gathered(request, lambda data: self._take(request, data))

    def _take(self, request: Request, data: bytes) -> None:
        intake: Intake | None = self._source.intake
        if intake is None:
            request.respond(Status.RESOURCE_LIMITATION)
            return
        field = request.command.field
        intake(self.envelope(request, data), lambda judgement: answer_of(field, judgement)).addCallback(self._acked, request)

    def envelope(self, request: Request, data: bytes) -> Envelope:
        """Without a key: who repeats a request means it, and the rules of its SOP class say what that gives."""
        command, parties = request.command, request.parties
        facts = read_facts(data, request.context.transfer_syntax)
        told = {"ae_title": parties.calling, "called_ae": parties.called, "sop_class": command.sop_class}
        told |= {"transfer_syntax": request.context.transfer_syntax, "modality": facts.modality}
        for name, keyword in (("action_type", "ActionTypeID"), ("event_type", "EventTypeID")):
            told[name] = str(command.get(keyword, ""))
        return Envelope(
            file_head(command.sop_class, command.sop_instance, request.context.transfer_syntax, parties.calling) + data,
            DICOM,
            self._messages[Field(command.field)],
            command.sop_instance,
            parties.calling,
            parties.peer,
            parties.remote,
            self._source.context.clock(),
            (facts.patient_id,) if facts.patient_id else (),
            "",
            hashlib.sha256(data).digest(),
            {name: text for name, text in told.items() if text},
        )

    def _new_uid(self) -> str:
        """Made from a UUID (PS3.5 annex B.2), which is made from the node's own unique id."""
        context = self._source.context
        return f"2.25.{uuid5(NAMESPACE_OID, f'{context.node} {context.clock()} {context.new_id()}').int}"

    @staticmethod
    def _acked(ack: Ack, request: Request) -> None:
        status, comment, data, elements = read_ack(request.command.field, ack)
        request.respond(status, comment, data, **elements)
