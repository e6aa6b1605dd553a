"""oru2xds, an open-source Document Source (ITI-41 over MTOM), sends a report; says what it made of the answer."""

import importlib.util
import json
import sys
import types
from pathlib import Path

asked = json.loads(sys.argv[1])
spec = importlib.util.find_spec("oru2xds")
assert spec is not None
assert spec.submodule_search_locations
sys.path.insert(0, spec.submodule_search_locations[0])  # its modules import each other by their bare names
for missing in ("sympy", "aiorun"):  # what it imports for its MLLP listener, and for a name that nothing uses
    sys.modules[missing] = types.ModuleType(missing)
sys.modules["sympy"].false = False  # type: ignore[attr-defined]
sys.modules["aiorun"].run = None  # type: ignore[attr-defined]

import config  # noqa: E402
import hl7  # noqa: E402
import hl7_v2x_receiver  # noqa: E402, F401  first, for the circle in which they import each other
import ihe_xds  # noqa: E402

config.SERVICE_URL = asked["url"]
config.LOG_DIR_PATH = asked["folder"]
for name in ("CDA", "XDS_REQUEST", "SOAP_ENVELOPE", "SOAP_RESPONSE"):
    setattr(config, f"LOG_{name}_TOFILE", name.startswith("SOAP"))
try:
    ihe_xds.IheXds().convert_to_ITI41(hl7.parse("\r".join(asked["message"])))
    said = "Success"
except Exception as error:  # noqa: BLE001  whatever it is, the test wants to hear it
    said = f"{type(error).__name__}: {error}"
print(json.dumps({"said": said, "answers": [one.read_text() for one in Path(asked["folder"]).glob("soap/SOAP_RSP*")]}))
