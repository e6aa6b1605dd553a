"""A Storage SCP by pynetdicom that misbehaves as its first argument says; the second is the port of a listener to report to."""

import sys
import threading
import time

from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

MODE, REPORT_TO = sys.argv[1], int(sys.argv[2])
INSTANCE = "1.2.840.10008.1.20.1.1"


def stored(event):
    if MODE == "abort":
        event.assoc.abort()
        return 0x0000
    if MODE == "slow":
        time.sleep(30)
    return int(MODE, 16) if MODE in ("A700", "C000") else 0x0000


def report(asked):
    """Event information: all are committed, but in mode commit-new those whose UID ends with .3 are not."""
    said = Dataset()
    said.TransactionUID = asked.TransactionUID
    missing = [one for one in asked.ReferencedSOPSequence if MODE == "commit-new" and one.ReferencedSOPInstanceUID.endswith(".3")]
    said.ReferencedSOPSequence = [one for one in asked.ReferencedSOPSequence if one not in missing]
    for one in missing:
        one.FailureReason = 0x0112
    if missing:
        said.FailedSOPSequence = missing
    return said, 2 if missing else 1


def action(event):
    asked = event.action_information
    said, kind = report(asked)
    if MODE == "commit-same":
        threading.Thread(target=report_here, args=(event.assoc, said, kind)).start()
    elif MODE == "commit-new":
        threading.Thread(target=report_anew, args=(said, kind)).start()
    return 0x0000, None


def report_here(association, said, kind):
    time.sleep(0.2)  # after the response, which this thread cannot see
    association.send_n_event_report(said, kind, StorageCommitmentPushModel, INSTANCE)


def report_anew(said, kind):
    ae = AE(ae_title="PACS")
    ae.requested_contexts = [build_context(StorageCommitmentPushModel)]
    association = ae.associate(
        "127.0.0.1", REPORT_TO, ae_title="MERIDIAN", ext_neg=[build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)]
    )
    association.send_n_event_report(said, kind, StorageCommitmentPushModel, INSTANCE)
    association.release()


def main():
    ae = AE(ae_title="PACS")
    ae.supported_contexts = StoragePresentationContexts
    ae.add_supported_context(StorageCommitmentPushModel)
    if MODE == "reject-permanent":
        ae.require_called_aet = True
        ae.ae_title = "ANOTHER"
    if MODE == "reject-transient":
        ae._maximum_associations = 0  # the setter does not take 0
    handlers = [(evt.EVT_C_STORE, stored), (evt.EVT_N_ACTION, action)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    print(f"listening on {server.server_address[1]}\n", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
