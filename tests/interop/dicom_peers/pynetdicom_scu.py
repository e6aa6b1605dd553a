"""pynetdicom as a storage SCU, in a process of its own: sends files as they are. Says one JSON line a file: its name and the status."""

import json
import sys
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config
from pynetdicom.sop_class import Verification

asked = json.loads(sys.argv[1])
_config.STORE_SEND_CHUNKED_DATASET = True
files = [(Path(name), read_file_meta_info(name)) for name in asked["files"]]
ae = AE(ae_title="PYNETDICOM")
ae.add_requested_context(Verification)
for sop_class, syntax in sorted({(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for _, meta in files}):
    ae.add_requested_context(sop_class, syntax)
association = ae.associate("127.0.0.1", asked["port"], ae_title="MERIDIAN")
assert association.is_established, "no association"
print(json.dumps({"name": "echo", "status": association.send_c_echo().Status}), flush=True)
for path, _ in files:
    print(json.dumps({"name": path.name, "status": association.send_c_store(path).Status}), flush=True)
association.release()
