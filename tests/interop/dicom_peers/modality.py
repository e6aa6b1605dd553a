"""A modality by pynetdicom: asks for its worklist, begins, ends, and tries what it may not. One JSON argument, one JSON line for each answer."""

import json
import sys

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind

MPPS = "1.2.826.0.1.3680043.8.498.70"


def data_set(**elements):
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def say(what, status, **more):
    detail = {element.keyword: str(element.value) for element in status if element.keyword not in ("Status",)}
    print(json.dumps({"what": what, "status": status.Status if "Status" in status else None, "detail": detail, **more}), flush=True)


def worklist(association, **keys):
    step = data_set(Modality="CT", ScheduledStationAETitle="", ScheduledProcedureStepStartDate="", ScheduledProcedureStepID="")
    asked = data_set(PatientName="", PatientID="", AccessionNumber="", StudyInstanceUID="", ScheduledProcedureStepSequence=[step], **keys)
    found = []
    for status, answer in association.send_c_find(asked, ModalityWorklistInformationFind):
        if answer is None:
            say("worklist", status, found=found)
        else:
            found.append({"name": str(answer.PatientName), "study": answer.StudyInstanceUID, "accession": answer.AccessionNumber,
                          "step": answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID})  # fmt: skip
    return found


def begun(entry):
    scheduled = data_set(
        StudyInstanceUID=entry["study"], ReferencedStudySequence=[], AccessionNumber=entry["accession"], RequestedProcedureID="R1001",
        RequestedProcedureDescription="", ScheduledProcedureStepID=entry["step"], ScheduledProcedureStepDescription="",
        ScheduledProtocolCodeSequence=[],
    )  # fmt: skip
    return data_set(
        SpecificCharacterSet="ISO_IR 192", ScheduledStepAttributesSequence=[scheduled], PatientName=entry["name"], PatientID="P1", PatientBirthDate="",
        PatientSex="", ReferencedPatientSequence=[], PerformedProcedureStepID="PPS1", PerformedStationAETitle="CT1", PerformedStationName="",
        PerformedLocation="", PerformedProcedureStepStartDate="20261124", PerformedProcedureStepStartTime="093100",
        PerformedProcedureStepStatus="IN PROGRESS", PerformedProcedureStepDescription="", PerformedProcedureTypeDescription="",
        ProcedureCodeSequence=[], PerformedProcedureStepEndDate="", PerformedProcedureStepEndTime="", Modality="CT", StudyID="",
        PerformedProtocolCodeSequence=[], PerformedSeriesSequence=[],
    )  # fmt: skip


def ended():
    image = data_set(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.2.3.1")
    series = data_set(
        PerformingPhysicianName="", ProtocolName="CHEST", OperatorsName="", SeriesInstanceUID="1.2.3", SeriesDescription="", RetrieveAETitle="",
        ReferencedImageSequence=[image], ReferencedNonImageCompositeSOPInstanceSequence=[],
    )  # fmt: skip
    return data_set(
        PerformedProcedureStepStatus="COMPLETED", PerformedProcedureStepEndDate="20261124", PerformedProcedureStepEndTime="094500",
        PerformedSeriesSequence=[series],
    )  # fmt: skip


def main(asked):
    entity = AE(ae_title="CT1")
    entity.add_requested_context(ModalityWorklistInformationFind)
    entity.add_requested_context(ModalityPerformedProcedureStep)
    association = entity.associate("127.0.0.1", asked["port"], ae_title="MERIDIAN")
    if not association.is_established:
        sys.exit("no association")
    (entry,) = worklist(association, SpecificCharacterSet="ISO_IR 192")
    steps = [
        ("create", lambda: association.send_n_create(begun(entry), ModalityPerformedProcedureStep, MPPS)),
        ("again", lambda: association.send_n_create(begun(entry), ModalityPerformedProcedureStep, MPPS)),
        ("unknown", lambda: association.send_n_set(ended(), ModalityPerformedProcedureStep, "1.2.3.999")),
        ("paused", lambda: association.send_n_set(data_set(PerformedProcedureStepStatus="PAUSED"), ModalityPerformedProcedureStep, MPPS)),
        (
            "incomplete",
            lambda: association.send_n_set(data_set(PerformedProcedureStepStatus="COMPLETED"), ModalityPerformedProcedureStep, MPPS),
        ),
        ("set", lambda: association.send_n_set(ended(), ModalityPerformedProcedureStep, MPPS)),
        ("late", lambda: association.send_n_set(ended(), ModalityPerformedProcedureStep, MPPS)),
    ]
    for what, step in steps:
        status, _ = step()
        say(what, status)
    worklist(association)
    association.release()


main(json.loads(sys.argv[1]))
