"""zeep with IHE's own WSDL of ITI-41 provides documents, inline as base64; says the status and the errors of each answer.

The metadata are put in as they are: zeep does not know the substitution groups by which ebRIM's schema has them."""

import base64
import json
import sys

import zeep
from lxml import etree
from zeep.plugins import HistoryPlugin, Plugin

ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
BINDING = "{urn:ihe:iti:xds-b:2007}DocumentRepository_Binding_Soap12"
LCM = "{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest"


class Metadata(Plugin):
    """Fills the SubmitObjectsRequest that zeep has made."""

    objects: bytes

    def egress(self, envelope, headers, operation, options):  # type: ignore[no-untyped-def]
        made = next(envelope.iter(LCM))
        del made[:]
        made.append(etree.fromstring(self.objects))
        return envelope, headers


asked = json.loads(sys.argv[1])
history, metadata = HistoryPlugin(), Metadata()
client = zeep.Client(asked["wsdl"], plugins=[metadata, history])
service = client.create_service(BINDING, asked["url"])
client.wsdl.bindings[BINDING].get("DocumentRepository_ProvideAndRegisterDocumentSet-b").soapaction = ACTION  # for want of one it says None
provide = service["DocumentRepository_ProvideAndRegisterDocumentSet-b"]
for objects, content in asked["submissions"]:
    metadata.objects = objects.encode()
    said = provide(SubmitObjectsRequest={"RegistryObjectList": {}}, Document=[{"_value_1": base64.b64decode(content), "id": "Document01"}])
    errors = said.RegistryErrorList.RegistryError if said.RegistryErrorList is not None else []
    action = history.last_received["envelope"].findtext(".//{http://www.w3.org/2005/08/addressing}Action")
    print(json.dumps({"status": said.status, "errors": [one.errorCode for one in errors], "action": action}), flush=True)
