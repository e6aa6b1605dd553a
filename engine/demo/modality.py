"""Modalities that work through their list, and the archive of the department (PACS), by pynetdicom: a foreign hand.

pynetdicom has threads of its own, so a modality runs in one; what it has heard is read by the reactor's.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from engine.demo.morning import ACCEPTED, DAY, OPENING, Item
from engine.demo.radiology import Examination, images, uid
from engine.demo.simulator import Answer
from engine.errors import MeridianError

if TYPE_CHECKING:
    from pydicom import Dataset

MERIDIAN: Final = "MERIDIAN"
PACS: Final = "PACS"
_TRIES: Final = 200
_PAUSE: Final = 0.1
_REPORT_AFTER: Final = 0.1
_COMMITMENT: Final = "1.2.840.10008.1.20.1.1"


class Department:
    """The devices of a department, each with its examinations. `answers` and `made`, the instances that must
    arrive, grow while they run."""

    def __init__(self, found: list[Examination], port: int, pace: float) -> None:
        self._examinations, self._port, self._pace = found, port, pace
        self.answers: list[Answer] = []
        self.made: list[str] = []

    def run(self) -> None:
        """In a thread: one examination after the other. Raises MeridianError where a device cannot do its work."""
        began = time.monotonic()
        for one in self._examinations:
            time.sleep(max(0.0, began + one.performed * self._pace - time.monotonic()))
            self._examine(one)

    def _examine(self, one: Examination) -> None:
        entry = self._entry(one)
        from pynetdicom.sop_class import ModalityPerformedProcedureStep  # type: ignore[attr-defined]

        step = uid(one, 0)
        with self._association(one) as association:
            begun = _begun(one, entry)
            self._note(one, "MPPS^CREATE", step, lambda: association.send_n_create(begun, ModalityPerformedProcedureStep, step)[0])
        with self._association(one) as association:
            for image in images(one, entry):
                self._note(one, one.device.modality, image.SOPInstanceUID, lambda image=image: association.send_c_store(image))  # type: ignore[misc]
                self.made.append(image.SOPInstanceUID)
        with self._association(one) as association:
            ended = _ended(one)
            self._note(one, "MPPS^SET", step, lambda: association.send_n_set(ended, ModalityPerformedProcedureStep, step)[0])

    def _entry(self, one: Examination) -> Dataset:
        """The worklist entry of an examination, asked for until it is there."""
        from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

        for _ in range(_TRIES):
            with self._association(one) as association:
                found = list(association.send_c_find(_question(one), ModalityWorklistInformationFind))
            for _, entry in found:
                if entry is not None:
                    return entry  # type: ignore[no-any-return]
            time.sleep(_PAUSE)
        raise MeridianError(f"{one.device.ae_title} does not find {one.accession} on its worklist")

    @contextmanager
    def _association(self, one: Examination) -> Iterator[Any]:
        from pynetdicom import AE
        from pynetdicom.sop_class import (  # type: ignore[attr-defined]
            ModalityPerformedProcedureStep,
            ModalityWorklistInformationFind,
        )

        entity = AE(ae_title=one.device.ae_title)
        for sop_class in (ModalityWorklistInformationFind, ModalityPerformedProcedureStep, one.device.sop_class):
            entity.add_requested_context(sop_class)
        association = entity.associate("127.0.0.1", self._port, ae_title=MERIDIAN)
        if not association.is_established:
            raise MeridianError(f"{one.device.ae_title} gets no association")
        try:
            yield association
        finally:
            association.release()

    def _note(self, one: Examination, kind: str, control_id: str, send: Callable[[], Dataset]) -> None:
        began = time.monotonic()
        status = send()
        code = f"{status.Status:04X}H" if "Status" in status else ""
        item = Item(one.performed, b"", kind, f"{one.device.modality} of {one.text}", ACCEPTED, one.device.ae_title, control_id)
        self.answers.append(Answer(item, code, time.monotonic() - began, 1))


class Archive:
    """The department's PACS: counts what it is given, and commits to it. It is down until `start`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: Any = None
        self.stored: Counter[str] = Counter()

    def start(self) -> None:
        from pynetdicom import AE, AllStoragePresentationContexts, evt
        from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

        entity = AE(ae_title=PACS)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(StorageCommitmentPushModel)
        handlers: Any = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._commit)]
        self._server = entity.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: Any) -> int:
        self.stored[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    def _commit(self, event: Any) -> tuple[int, None]:
        """Storage commitment (PS3.4 annex J): what is here is committed, and said so on the same association, after the response."""
        asked, association = event.action_information, event.assoc
        threading.Timer(_REPORT_AFTER, self._report, (association, asked)).start()
        return 0x0000, None

    def _report(self, association: Any, asked: Dataset) -> None:
        from pydicom import Dataset
        from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

        said, missing = Dataset(), [one for one in asked.ReferencedSOPSequence if one.ReferencedSOPInstanceUID not in self.stored]
        said.TransactionUID = asked.TransactionUID
        said.ReferencedSOPSequence = [one for one in asked.ReferencedSOPSequence if one not in missing]
        for one in missing:
            one.FailureReason = 0x0112
        if missing:
            said.FailedSOPSequence = missing
        association.send_n_event_report(said, 2 if missing else 1, StorageCommitmentPushModel, _COMMITMENT)


def _data_set(**elements: Any) -> Dataset:
    from pydicom import Dataset

    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def _question(one: Examination) -> Dataset:
    """What a device asks its worklist (PS3.4 table K.6-1)."""
    step = _data_set(
        ScheduledStationAETitle=one.device.ae_title,
        Modality=one.device.modality,
        ScheduledProcedureStepStartDate="",
        ScheduledProcedureStepStartTime="",
        ScheduledProcedureStepID="",
        ScheduledProcedureStepDescription="",
    )
    empty = dict.fromkeys(("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"), "")
    numbers = {"AccessionNumber": one.accession, "RequestedProcedureID": ""}
    return _data_set(SpecificCharacterSet=one.device.charset, **empty, **numbers, ScheduledProcedureStepSequence=[step])


def _moment(one: Examination, minutes: int = 0) -> tuple[str, str]:
    at = datetime.combine(DAY, OPENING) + timedelta(seconds=one.performed, minutes=minutes)
    return f"{at:%Y%m%d}", f"{at:%H%M%S}"


def _begun(one: Examination, entry: Dataset) -> Dataset:
    """N-CREATE (PS3.4 table F.7.2-1)."""
    day, time_of_day = _moment(one)
    step = entry.ScheduledProcedureStepSequence[0]
    scheduled = _data_set(
        StudyInstanceUID=entry.StudyInstanceUID,
        AccessionNumber=entry.AccessionNumber,
        RequestedProcedureID=entry.RequestedProcedureID,
        ScheduledProcedureStepID=step.ScheduledProcedureStepID,
        ReferencedStudySequence=[],
        RequestedProcedureDescription="",
        ScheduledProcedureStepDescription="",
        ScheduledProtocolCodeSequence=[],
    )
    return _data_set(
        SpecificCharacterSet=one.device.charset,
        ScheduledStepAttributesSequence=[scheduled],
        PatientName=entry.PatientName,
        PatientID=entry.PatientID,
        PatientBirthDate=entry.PatientBirthDate,
        PatientSex=entry.PatientSex,
        PerformedProcedureStepID=f"P{one.number}",
        PerformedStationAETitle=one.device.ae_title,
        PerformedProcedureStepStartDate=day,
        PerformedProcedureStepStartTime=time_of_day,
        PerformedProcedureStepStatus="IN PROGRESS",
        Modality=one.device.modality,
        PerformedSeriesSequence=[],
    )


def _ended(one: Examination) -> Dataset:
    """N-SET that completes the step and names every image."""
    day, time_of_day = _moment(one, minutes=8)
    made = [
        _data_set(ReferencedSOPClassUID=one.device.sop_class, ReferencedSOPInstanceUID=uid(one, 1, number))
        for number in range(1, one.device.images + 1)
    ]
    series = _data_set(
        PerformingPhysicianName="",
        OperatorsName="",
        ProtocolName=one.code,
        SeriesInstanceUID=uid(one, 1),
        SeriesDescription="",
        RetrieveAETitle="",
        ReferencedImageSequence=made,
        ReferencedNonImageCompositeSOPInstanceSequence=[],
    )
    return _data_set(
        PerformedProcedureStepStatus="COMPLETED",
        PerformedProcedureStepEndDate=day,
        PerformedProcedureStepEndTime=time_of_day,
        PerformedSeriesSequence=[series],
    )
