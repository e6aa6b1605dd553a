"""Messages of the hospital platform (WS/T 846-2024): HL7 v3 interactions inside a call ``HIPMessageServer(action, message)``.

Pure: the endpoint (adapters.soap.hip) and the mapping (mappings.hip_to_fhir) read with the same eyes.
"""

from engine.formats.hip.calls import ANY, Call, Carried, Layout, call_of
from engine.formats.hip.documents import Registered, registered
from engine.formats.hip.header import Header, Identifier, header_of, patients_of
from engine.formats.hip.messages import HipMessage, read
from engine.formats.hip.services import SERVICES, Kind, Service, service_of

__all__ = [
    "ANY",
    "SERVICES",
    "Call",
    "Carried",
    "Header",
    "HipMessage",
    "Identifier",
    "Kind",
    "Layout",
    "Registered",
    "Service",
    "call_of",
    "header_of",
    "patients_of",
    "read",
    "registered",
    "service_of",
]
