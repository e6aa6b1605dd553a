"""A modality by pynetdicom that performs steps one after another, until all are done or nobody answers. One JSON argument; a JSON line for
each answer it hears: which step, which request, which status."""

import json
import sys

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep


def data_set(**elements):
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def begun(number):
    step = data_set(
        StudyInstanceUID=f"1.2.3.{number}",
        AccessionNumber=f"A{number}",
        RequestedProcedureID=f"R{number}",
        ScheduledProcedureStepID=f"S{number}",
    )
    return data_set(
        ScheduledStepAttributesSequence=[step], PatientID="P1", PerformedProcedureStepID=f"PPS{number}", PerformedStationAETitle="CT1",
        PerformedProcedureStepStartDate="20261124", PerformedProcedureStepStartTime="093100", PerformedProcedureStepStatus="IN PROGRESS", Modality="CT",
    )  # fmt: skip


def ended(number):
    series = data_set(SeriesInstanceUID=f"1.2.3.{number}.1", ProtocolName="CHEST", ReferencedImageSequence=[])
    return data_set(
        PerformedProcedureStepStatus="COMPLETED", PerformedProcedureStepEndDate="20261124", PerformedProcedureStepEndTime="094500",
        PerformedSeriesSequence=[series],
    )  # fmt: skip


def main(asked):
    entity = AE(ae_title="CT1")
    entity.add_requested_context(ModalityPerformedProcedureStep)
    entity.dimse_timeout = 30
    association = entity.associate("127.0.0.1", asked["port"], ae_title="MERIDIAN")
    for number, what in asked["todo"]:
        if not association.is_established:
            return
        uid = f"1.2.9.{number}"
        if what == "create":
            status, _ = association.send_n_create(begun(number), ModalityPerformedProcedureStep, uid)
        else:
            status, _ = association.send_n_set(ended(number), ModalityPerformedProcedureStep, uid)
        if "Status" not in status:
            return
        print(json.dumps([number, what, status.Status]), flush=True)
    association.release()


main(json.loads(sys.argv[1]))
