"""A service for the tests of the SOAP client: its WSDL, written for the test, and a server in this process whose answers the test decides.

``Exchange(action, message, …)`` has the shape of a hospital platform's message server: two texts in, one text out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lxml import etree
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from engine.formats.soap import SoapFault, SoapMessage, envelope, fault_envelope, kept_form, read
from engine.http1 import HttpFramer, Message, head

NAMESPACE = "urn:example:exchange"
ACKNOWLEDGED = '<MCCI_IN000002UV01 xmlns="urn:hl7-org:v3"><acknowledgement typeCode="{code}"><acknowledgementDetail><text value="{text}"/></acknowledgementDetail></acknowledgement></MCCI_IN000002UV01>'

_SCHEMA = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:example:exchange" elementFormDefault="qualified">
  <xs:element name="Exchange"><xs:complexType><xs:sequence>
    <xs:element name="action" type="xs:string"/>
    <xs:element name="message" type="{type}"/>
    <xs:element name="note" type="xs:string" minOccurs="0"/>
    <xs:element name="count" type="xs:int" minOccurs="0"/>
  </xs:sequence></xs:complexType></xs:element>
  <xs:element name="ExchangeResponse"><xs:complexType><xs:sequence>
    <xs:element name="payload" type="xs:string"/>
  </xs:sequence></xs:complexType></xs:element>
</xs:schema>
"""
_WSDL = """<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:tns="urn:example:exchange" xmlns:xs="http://www.w3.org/2001/XMLSchema"
    xmlns:s11="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:s12="http://schemas.xmlsoap.org/wsdl/soap12/" targetNamespace="urn:example:exchange">
  <types>{types}</types>
  <message name="In"><part name="parameters" element="tns:Exchange"/></message>
  <message name="Out"><part name="parameters" element="tns:ExchangeResponse"/></message>
  <message name="RpcIn"><part name="action" type="xs:string"/><part name="message" type="xs:string"/></message>
  <message name="RpcOut"><part name="payload" type="xs:string"/></message>
  <portType name="ExchangePort"><operation name="Exchange"><input message="tns:In"/><output message="tns:Out"/></operation>
    <operation name="Announce"><input message="tns:In"/></operation></portType>
  <portType name="RpcPort"><operation name="Submit"><input message="tns:RpcIn"/><output message="tns:RpcOut"/></operation></portType>
  {bindings}
  <binding name="Rpc" type="tns:RpcPort"><s11:binding transport="http://schemas.xmlsoap.org/soap/http" style="rpc"/>
    <operation name="Submit"><s11:operation soapAction="urn:submit"/>
      <input><s11:body use="literal" namespace="urn:example:exchange"/></input>
      <output><s11:body use="literal" namespace="urn:example:exchange"/></output></operation></binding>
  <service name="ExchangeService">{ports}
    <port name="Rpc" binding="tns:Rpc"><s11:address location="{url}"/></port>
  </service>
</definitions>
"""
_BINDING = """<binding name="{name}" type="tns:ExchangePort"><{p}:binding transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="Exchange"><{p}:operation soapAction="urn:exchange"/><input><{p}:body use="literal"/></input><output><{p}:body use="literal"/></output></operation>
    <operation name="Announce"><{p}:operation soapAction="urn:announce"/><input><{p}:body use="literal"/></input></operation></binding>
"""
_PORT = '<port name="{name}" binding="tns:{name}"><{p}:address location="{url}"/></port>'


_IMPORT = '<xs:schema><xs:import namespace="urn:example:exchange" schemaLocation="http://elsewhere.invalid/exchange.xsd"/></xs:schema>'


def write_wsdl(folder: Path, url: str = "http://127.0.0.1:1/exchange", message: str = "xs:string") -> str:
    """Writes ``exchange.wsdl`` and the schema that it imports by an address on the network; gives the file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    versions = (("Soap11", "s11"), ("Soap12", "s12"))
    bindings = "".join(_BINDING.format(name=name, p=p) for name, p in versions)
    ports = "".join(_PORT.format(name=name, p=p, url=url) for name, p in versions)
    (folder / "exchange.wsdl").write_text(_WSDL.format(types=_IMPORT, bindings=bindings, ports=ports, url=url))
    (folder / "exchange.xsd").write_text(_SCHEMA.format(type=message))
    return "exchange.wsdl"


def write_simple_wsdl(file: Path, url: str, version: str, message: str = "xs:string") -> None:
    """The same as one file with one port, for toolkits that read no more."""
    name, p = ("Soap12", "s12") if version == "1.2" else ("Soap11", "s11")
    rpc = re.compile(r'\s*<(binding|portType|port) name="Rpc.*?(</\1>)|\s*<operation name="Announce.*?</operation>', re.DOTALL)
    written = _WSDL.format(
        types=_SCHEMA.format(type=message),
        bindings=_BINDING.format(name=name, p=p),
        ports=_PORT.format(name=name, p=p, url=url),
        url=url,
    )
    file.write_text(rpc.sub("", written))


def response(text: str = "done", version: str = "1.1", element: str = "ExchangeResponse", child: str = "payload") -> bytes:
    root = etree.Element(f"{{{NAMESPACE}}}{element}")
    etree.SubElement(root, f"{{{NAMESPACE}}}{child}").text = text
    return envelope(version, root)


class SoapPeer:
    """See tests.contracts.destination_contract. `answers` gives status, body and media type for a request; `requests` is what came, `messages`
    the same as SOAP; `coding` is what the answers' Content-Encoding says."""

    def __init__(self) -> None:
        self.mode = "take"
        self.taken: list[str] = []
        self.requests: list[Message] = []
        self.messages: list[SoapMessage] = []
        self.coding = ""
        self.answers: Callable[[SoapMessage], tuple[int, bytes, str]] | None = None
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
        for one, message in held:
            one.transport.write(self.say(message))

    def heard(self, connection: Any, request: Message) -> None:
        content_type = request.headers["content-type"]
        kept = (kept_form(content_type) if content_type.startswith("multipart") else b"") + request.body
        message = read(kept)
        self.requests.append(request)
        self.messages.append(message)
        waiting, self._received = self._received, []
        for done in waiting:
            done.callback(request)
        if self.mode == "hang up":
            connection.transport.abortConnection()
        elif self.mode == "hold":
            self._held.append((connection, message))
        else:
            connection.transport.write(self.say(message))

    def say(self, message: SoapMessage) -> bytes:
        if self.answers is not None:
            return _answer(*self.answers(message), self.coding)
        media = "text/xml" if message.version == "1.1" else "application/soap+xml"
        if self.mode == "refuse":
            return _answer(500, fault_envelope(message.version, SoapFault("Sender", "no")), media)
        assert message.payload is not None
        self.taken.append(message.payload[0].text or "")
        return _answer(200, response("done", message.version), media)


class _Connection(Protocol):
    transport: Any

    def __init__(self, peer: SoapPeer) -> None:
        self._peer, self._framer = peer, HttpFramer(responses=False, most_body=1 << 30)

    def connectionMade(self) -> None:
        self._peer._connections.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._peer._connections.discard(self)

    def dataReceived(self, data: bytes) -> None:
        for request in self._framer.feed(data):
            self._peer.heard(self, request)


def _answer(status: int, body: bytes, content_type: str = "text/xml", coding: str = "") -> bytes:
    headers = {"Content-Type": content_type, "Content-Length": str(len(body)), **({"Content-Encoding": coding} if coding else {})}
    return head(f"HTTP/1.1 {status} X", headers) + body
