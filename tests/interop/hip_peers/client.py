"""zeep calls HIPMessageServer by the WSDL of the endpoint and tells what it heard: {"answer"} or {"fault"} a line.

Argument: {wsdl, version, calls: [[action, message]]}.
"""

import json
import sys

import zeep
import zeep.exceptions

asked = json.loads(sys.argv[-1])
client = zeep.Client(asked["wsdl"])
bindings = {"1.1": zeep.wsdl.bindings.Soap11Binding, "1.2": zeep.wsdl.bindings.Soap12Binding}
service, port = next(
    (service, port)
    for service in client.wsdl.services.values()
    for port in service.ports.values()
    if isinstance(port.binding, bindings[asked["version"]])
)
proxy = client.bind(service.name, port.name)
for action, message in asked["calls"]:
    try:
        print(json.dumps({"answer": proxy.HIPMessageServer(action, message)}), flush=True)
    except zeep.exceptions.Fault as fault:
        print(json.dumps({"fault": fault.message}), flush=True)
