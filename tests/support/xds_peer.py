"""A Document Recipient, Registry and Repository in this process (ITI-41, ITI-18, ITI-43), written apart from what is tested: MIME by the
standard library, answers by hand, requests validated by the schemas of IHE where those are."""

from __future__ import annotations

import email
import email.policy
import re
import uuid
from typing import Any
from xml.sax.saxutils import quoteattr

from lxml import etree
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from engine.http1 import HttpFramer, Message, head
from tests.support.xdr import SCHEMAS, SOAP12, schema

NS = {
    "s": SOAP12,
    "a": "http://www.w3.org/2005/08/addressing",
    "rim": "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0",
    "q": "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0",
    "x": "urn:ihe:iti:xds-b:2007",
    "xop": "http://www.w3.org/2004/08/xop/include",
}
UNIQUE = {"set": "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", "doc": "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"}
PATIENT_OF_SET = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
QUERIES = {
    "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9": "_find_sets",
    "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83": "_set_and_contents",
    "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4": "_documents",
    "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d": "_find_documents",
}
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
BOUNDARY = "uuid:5f3a-peer"


class XdsPeer:
    """See tests.contracts.destination_contract. `errors` are codes to answer a submission with, `status` an HTTP status, `fault` a SOAP
    fault's code; `taken` are the last numbers of the submission sets' OIDs, `documents` (media type, content) by uniqueId, `requests`
    (action, payload, headers of SOAP) what was asked. `rejected` says what was wrong with requests."""

    def __init__(self) -> None:
        self.mode = "take"
        self.errors: list[str] = []
        self.status, self.fault = 0, ""
        self.taken: list[str] = []
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.lost: set[str] = set()
        self.excuse = "XDSDocumentUniqueIdError"
        self.status_of_answers, self.most = SUCCESS, 1000
        self.sets: list[Any] = []
        self.requests: list[tuple[str, Any, Any]] = []
        self.rejected: list[str] = []
        self.repository = "1.2.156.10011.77"
        self._held: list[Any] = []
        self._received: list[Deferred[Message]] = []
        self._connections: set[Any] = set()
        factory = Factory.forProtocol(lambda: _Connection(self))
        factory.noisy = False
        self._port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.port = self._port.getHost().port

    def stop(self) -> Any:
        for one in list(self._connections):
            one.transport.abortConnection()
        return self._port.stopListening()

    def received(self) -> Deferred[Message]:
        done: Deferred[Message] = Deferred()
        self._received.append(done)
        return done

    def release(self) -> None:
        held, self._held = self._held, []
        for one, request in held:
            one.transport.write(self.say(request))

    def heard(self, connection: Any, request: Message) -> None:
        waiting, self._received = self._received, []
        for done in waiting:
            done.callback(request)
        if self.mode == "hang up":
            connection.transport.abortConnection()
        elif self.mode == "hold":
            self._held.append((connection, request))
        else:
            connection.transport.write(self.say(request))

    # --- requests --------------------------------------------------------------------------------------

    def say(self, request: Message) -> bytes:
        if self.status:
            return _http(self.status, b"no", "text/plain")
        root, parts = _opened(request)
        payload = root.find("s:Body", NS)[0]
        header = root.find("s:Header", NS)
        action = header.findtext("a:Action", "", NS)
        self._check(request, root, payload, header, action)
        self.requests.append((action, payload, header))
        if self.fault:
            code = f"<s:Code><s:Value>s:{self.fault}</s:Value></s:Code><s:Reason><s:Text xml:lang='en'>no</s:Text></s:Reason>"
            return _http(500, _soap(f"<s:Fault>{code}</s:Fault>"), "application/soap+xml; charset=utf-8")
        if action.endswith("ProvideAndRegisterDocumentSet-b"):
            return self._provided(payload, parts)
        if action.endswith("RegistryStoredQuery"):
            return self._queried(payload)
        return self._retrieved(payload)

    def _check(self, request: Message, root: Any, payload: Any, header: Any, action: str) -> None:
        """What the standards want of any request: SOAP 1.2, addressed, the action said on the outside as well, valid."""
        said = request.headers["content-type"]
        if f'action="{action}"' not in said:
            self.rejected.append("the Content-Type has no action")
        for name in ("To", "MessageID"):
            if not header.findtext(f"a:{name}", "", NS):
                self.rejected.append(f"no wsa:{name}")
        if SCHEMAS.exists():
            copy = etree.fromstring(etree.tostring(payload))
            for reference in copy.iter(f"{{{NS['xop']}}}Include"):
                holder = reference.getparent()
                holder.remove(reference)
                holder.text = "YQ=="
            form = schema("ebRS30/query.xsd" if payload.tag.startswith(f"{{{NS['q']}}}") else "IHE/IHEXDSB.xsd")
            if not form.validate(copy):
                self.rejected.append(str(form.error_log.last_error))

    def _provided(self, payload: Any, parts: dict[str, tuple[str, bytes]]) -> bytes:
        found = payload.xpath("//rim:ExternalIdentifier[@identificationScheme=$s]/@value", s=UNIQUE["set"], namespaces=NS)
        codes = ["XDSRepositoryMetadataError"] if self.mode == "refuse" else self.errors
        if not codes:
            self.taken.append(found[0].rpartition(".")[2])
            self.register(payload.find(".//rim:RegistryObjectList", NS))
            for document in payload.findall("x:Document", NS):
                self._keep(payload, document, parts)
        return _http(200, _soap(_response(codes), action="urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse"))

    def _keep(self, payload: Any, document: Any, parts: dict[str, tuple[str, bytes]]) -> None:
        entry = payload.xpath("//rim:ExtrinsicObject[@id=$i]", i=document.get("id"), namespaces=NS)[0]
        unique_id = entry.xpath("rim:ExternalIdentifier[@identificationScheme=$s]/@value", s=UNIQUE["doc"], namespaces=NS)[0]
        reference = document.find("xop:Include", NS)
        kind, content = parts[reference.get("href").removeprefix("cid:").replace("%40", "@")]
        self.documents[unique_id] = (entry.get("mimeType") or kind, content)

    # --- the registry -------------------------------------------------------------------------------------

    def register(self, objects: Any) -> None:
        """Keep the objects of a submission, with UUIDs for symbolic ids, as a registry does (ITI TF-2 3.42.4.1.3)."""
        text = etree.tostring(objects).decode()
        for one in objects.xpath("rim:ExtrinsicObject/@id | rim:RegistryPackage/@id | rim:Association/@id", namespaces=NS):
            fresh = one if one.startswith("urn:uuid:") else f"urn:uuid:{uuid.uuid4()}"
            text = re.sub(f'="{re.escape(one)}"', f'="{fresh}"', text)
        kept = etree.fromstring(text)
        for entry in kept.findall("rim:ExtrinsicObject", NS):
            entry.set("status", "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved")
            slot = f'<rim:Slot xmlns:rim="{NS["rim"]}" name="repositoryUniqueId"><rim:ValueList><rim:Value>{self.repository}</rim:Value></rim:ValueList></rim:Slot>'
            entry.insert(0, etree.fromstring(slot))
        for package in kept.findall("rim:RegistryPackage", NS):
            package.set("status", "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved")
        self.sets.append(kept)

    def _queried(self, payload: Any) -> bytes:
        adhoc = payload.find("rim:AdhocQuery", NS)
        asked = {one.get("name"): [value.text for value in one.iter(f"{{{NS['rim']}}}Value")] for one in adhoc.findall("rim:Slot", NS)}
        if self.errors:
            answer = f'<q:AdhocQueryResponse xmlns:q="{NS["q"]}" status="{FAILURE}">{_error_list(self.errors)}</q:AdhocQueryResponse>'
            return _http(200, _soap(answer), "application/soap+xml; charset=utf-8")
        objects = getattr(self, QUERIES[adhoc.get("id")])(asked)
        if len(objects) > self.most and "$XDSSubmissionSetPatientId" in asked:
            answer = (
                f'<q:AdhocQueryResponse xmlns:q="{NS["q"]}" status="{FAILURE}">{_error_list(["XDSTooManyResults"])}</q:AdhocQueryResponse>'
            )
            return _http(200, _soap(answer), "application/soap+xml; charset=utf-8")
        found = "".join(etree.tostring(one).decode() for one in objects)
        listed = f'<rim:RegistryObjectList xmlns:rim="{NS["rim"]}">{found}</rim:RegistryObjectList>'
        answer = f'<q:AdhocQueryResponse xmlns:q="{NS["q"]}" status="{self.status_of_answers}">{listed}</q:AdhocQueryResponse>'
        return _http(200, _soap(answer), "application/soap+xml; charset=utf-8")

    def _find_sets(self, asked: dict[str, list[str]]) -> list[Any]:
        patient, since = asked["$XDSSubmissionSetPatientId"][0].strip("'"), asked["$XDSSubmissionSetSubmissionTimeFrom"][0]
        found = []
        for kept in self.sets:
            package = kept.find("rim:RegistryPackage", NS)
            of = package.xpath("rim:ExternalIdentifier[@identificationScheme=$s]/@value", s=PATIENT_OF_SET, namespaces=NS)
            time = package.xpath("string(rim:Slot[@name='submissionTime']//rim:Value)", namespaces=NS)
            until = asked.get("$XDSSubmissionSetSubmissionTimeTo", ["9"])[0]
            if of == [patient] and since <= time < until:
                found.append(package)
        return found

    def _set_and_contents(self, asked: dict[str, list[str]]) -> list[Any]:
        wanted = asked["$XDSSubmissionSetEntryUUID"][0].strip("'")
        return [one for kept in self.sets if kept.find("rim:RegistryPackage", NS).get("id") == wanted for one in kept]

    def _documents(self, asked: dict[str, list[str]]) -> list[Any]:
        wanted = {text for value in asked["$XDSDocumentEntryUniqueId"] for text in re.findall(r"'([^']*)'", value)}
        entries = [one for kept in self.sets for one in kept.findall("rim:ExtrinsicObject", NS)]
        return [one for one in entries if wanted & set(one.xpath("rim:ExternalIdentifier/@value", namespaces=NS))]

    def _find_documents(self, asked: dict[str, list[str]]) -> list[Any]:
        patient = asked["$XDSDocumentEntryPatientId"][0].strip("'")
        entries = [one for kept in self.sets for one in kept.findall("rim:ExtrinsicObject", NS)]
        return [one for one in entries if patient in one.xpath("rim:ExternalIdentifier/@value", namespaces=NS)]

    # --- the repository -------------------------------------------------------------------------------------

    def _retrieved(self, payload: Any) -> bytes:
        wanted = [one.findtext("x:DocumentUniqueId", "", NS) for one in payload.findall("x:DocumentRequest", NS)]
        there = [one for one in wanted if one in self.documents and one not in self.lost]
        responses = "".join(
            f"<x:DocumentResponse><x:RepositoryUniqueId>{self.repository}</x:RepositoryUniqueId><x:DocumentUniqueId>{one}</x:DocumentUniqueId>"
            f"<x:mimeType>{self.documents[one][0]}</x:mimeType><x:Document><xop:Include xmlns:xop={quoteattr(NS['xop'])} href='cid:{number}@peer'/></x:Document></x:DocumentResponse>"
            for number, one in enumerate(there)
        )
        missing = [self.excuse] * (len(wanted) - len(there))
        status = SUCCESS if not missing else "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess" if there else FAILURE
        answer = (
            f'<x:RetrieveDocumentSetResponse xmlns:x="{NS["x"]}">{_response(missing, status)}{responses}</x:RetrieveDocumentSetResponse>'
        )
        root = _soap(answer, action="urn:ihe:iti:2007:RetrieveDocumentSetResponse")
        body = _part("root@peer", 'application/xop+xml; charset=UTF-8; type="application/soap+xml"', root, first=True)
        body += b"".join(_part(f"{number}@peer", *self.documents[one]) for number, one in enumerate(there))
        kind = (
            f'multipart/related; boundary="{BOUNDARY}"; type="application/xop+xml"; start="<root@peer>"; start-info="application/soap+xml"'
        )
        return _http(200, body + f"\r\n--{BOUNDARY}--\r\n".encode(), kind)


def _opened(request: Message) -> tuple[Any, dict[str, tuple[str, bytes]]]:
    """The envelope, and the parts by Content-ID, as the standard library reads MIME."""
    said = request.headers["content-type"]
    if not said.startswith("multipart/"):
        return etree.fromstring(request.body), {}
    whole = email.message_from_bytes(b"Content-Type: " + said.encode() + b"\r\n\r\n" + request.body, policy=email.policy.HTTP)
    parts = {str(one["Content-ID"]).strip("<> "): one for one in whole.iter_parts()}  # type: ignore[attr-defined]
    root = parts.pop(str(whole.get_param("start")).strip("<>"))
    assert root.get_content_type() == "application/xop+xml"
    return etree.fromstring(root.get_payload(decode=True)), {
        name: (one.get_content_type(), one.get_payload(decode=True)) for name, one in parts.items()
    }


class _Connection(Protocol):
    transport: Any

    def __init__(self, peer: XdsPeer) -> None:
        self._peer, self._framer = peer, HttpFramer(responses=False, most_body=1 << 30)

    def connectionMade(self) -> None:
        self._peer._connections.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._peer._connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        for request in self._framer.feed(data):
            self._peer.heard(self, request)


def _error_list(codes: list[str]) -> str:
    listed = "".join(f"<rs:RegistryError errorCode='{code}' codeContext='because'/>" for code in codes)
    return f"<rs:RegistryErrorList xmlns:rs='urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0'>{listed}</rs:RegistryErrorList>" if codes else ""


def _response(codes: list[str], status: str = "") -> str:
    status = status or (FAILURE if codes else SUCCESS)
    return f"<rs:RegistryResponse xmlns:rs='urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0' status='{status}'>{_error_list(codes)}</rs:RegistryResponse>"


def _soap(payload: str, action: str = "") -> bytes:
    header = f"<s:Header><a:Action xmlns:a='{NS['a']}'>{action}</a:Action></s:Header>" if action else ""
    return f"<s:Envelope xmlns:s='{SOAP12}'>{header}<s:Body>{payload}</s:Body></s:Envelope>".encode()


def _part(content_id: str, kind: str, content: bytes, *, first: bool = False) -> bytes:
    start = "" if first else "\r\n"
    return (
        f"{start}--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <{content_id}>\r\n\r\n".encode()
        + content
    )


def _http(status: int, body: bytes, content_type: str = "application/soap+xml; charset=utf-8") -> bytes:
    return head(f"HTTP/1.1 {status} X", {"Content-Type": content_type, "Content-Length": str(len(body))}) + body
