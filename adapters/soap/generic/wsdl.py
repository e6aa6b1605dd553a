"""A WSDL with all that it imports (adapters.soap.imports): served and read.

It is served with the address that the client used, and with its imports as ``ADDRESS?xsd=NAME``; it is read for its operations.

Sources: WSDL 1.1 clauses 2 and 3 (SOAP binding; `soap12` from the W3C member submission), WS-I Basic Profile 1.2 clause 4,
WS-Addressing metadata clauses 4.4.1 and 4.4.4 (actions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lxml import etree

from adapters.soap.imports import LOCATIONS, WSDL, follow
from engine.errors import ParseError
from engine.formats.soap.names import local, namespace, qname

SOAP_BINDINGS: Final = {"http://schemas.xmlsoap.org/wsdl/soap/": "1.1", "http://schemas.xmlsoap.org/wsdl/soap12/": "1.2"}
_ACTIONS: Final = ("http://www.w3.org/2007/05/addressing/metadata", "http://www.w3.org/2006/05/addressing/wsdl")


@dataclass(frozen=True, slots=True)
class Operation:
    """`root` and `response` are the elements in Body, as ``{namespace}local``; "" where the WSDL does not say. `actions` are what a
    request may have as SOAPAction or wsa:Action, `response_action` is the wsa:Action of the answer."""

    name: str
    root: str
    response: str = ""
    actions: frozenset[str] = frozenset()
    response_action: str = ""
    one_way: bool = False


class Description:
    """A WSDL: its documents by the names by which they are asked for, and its operations."""

    def __init__(self, main: str, documents: Mapping[str, etree._Element], names: Mapping[tuple[str, str], str]) -> None:
        self._main, self._documents, self._names = main, documents, names
        self.operations = tuple(_operations([root for root in documents.values() if root.tag == qname(WSDL, "definitions")]))

    def wsdl(self, address: str) -> bytes:
        return self._served(self._main, address)

    def schema(self, name: str, address: str) -> bytes | None:
        """A document that is imported, None where there is none of this name."""
        return self._served(name, address) if name in self._documents else None

    def _served(self, name: str, address: str) -> bytes:
        root = deepcopy(self._documents[name])
        for element in root.iter(*LOCATIONS):
            attribute = LOCATIONS[str(element.tag)]
            imported = self._names.get((name, element.get(attribute, "")))
            if imported is not None:
                element.set(attribute, f"{address}?xsd={quote(imported)}")
        for uri in SOAP_BINDINGS:
            for element in root.iter(qname(uri, "address")):
                element.set("location", address)
        written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
        return written

    def only(self, versions: frozenset[str]) -> Description:
        """Without the ports of other versions of SOAP."""
        root = deepcopy(self._documents[self._main])
        for uri, version in SOAP_BINDINGS.items():
            if version not in versions:
                for address in list(root.iter(qname(uri, "address"))):
                    port = address.getparent()
                    port.getparent().remove(port)
        return Description(self._main, {**self._documents, self._main: root}, self._names)


def load(file: Path, within: Path | None = None) -> Description:
    """A WSDL out of files, none of which may be outside of the folder `within`. Raises ParseError: not readable, encoded, incomplete."""
    found = follow(file, within)
    names = {one: _name(one, file.resolve().parent) for one in found}
    imported = {(names[path], one.location): names[one.file] for path, document in found.items() for one in document.imports if one.file}
    return Description(names[file.resolve()], {names[path]: document.root for path, document in found.items()}, imported)


def _name(path: Path, folder: Path) -> str:
    """Relative to the WSDL's folder."""
    up = 0
    while not path.is_relative_to(folder):
        folder, up = folder.parent, up + 1
    return "../" * up + path.relative_to(folder).as_posix()


# --- operations ----------------------------------------------------------------------------------

Parts = Mapping[str, list[etree._Element]]


def _operations(documents: list[etree._Element]) -> Iterator[Operation]:
    """Of all bindings to SOAP; what two bindings have in common is one operation."""
    messages = {_own(root, one): list(one.iter(qname(WSDL, "part"))) for root in documents for one in root.iter(qname(WSDL, "message"))}
    ports = {_own(root, one): (root, one) for root in documents for one in root.iter(qname(WSDL, "portType"))}
    found: dict[tuple[str, str], Operation] = {}
    for root in documents:
        for binding in root.iter(qname(WSDL, "binding")):
            soap = next((child for child in binding if namespace(child.tag) in SOAP_BINDINGS and local(child.tag) == "binding"), None)
            port = ports.get(_resolved(binding, binding.get("type", "")))
            if soap is None or port is None:
                continue
            for bound in binding.iter(qname(WSDL, "operation")):
                one = _operation(bound, soap.get("style", "document"), port, messages)
                before = found.get((one.name, one.root))
                actions = one.actions | before.actions if before is not None else one.actions
                found[one.name, one.root] = Operation(one.name, one.root, one.response, actions, one.response_action, one.one_way)
    return iter(found.values())


def _operation(bound: etree._Element, style: str, port: tuple[etree._Element, etree._Element], messages: Parts) -> Operation:
    definitions, port_type = port
    name = bound.get("name", "")
    abstract = next((one for one in port_type.iter(qname(WSDL, "operation")) if one.get("name") == name), None)
    if abstract is None:
        raise ParseError(f"the operation {name} is bound, but in no portType")
    soap = next((child for child in bound if namespace(child.tag) in SOAP_BINDINGS), None)
    style = soap.get("style", style) if soap is not None else style
    request, response = abstract.find(qname(WSDL, "input")), abstract.find(qname(WSDL, "output"))
    base = f"{definitions.get('targetNamespace', '').rstrip('/')}/{port_type.get('name')}"
    actions = {
        soap.get("soapAction", "") if soap is not None else "",
        _action(request),
        f"{base}/{_message_name(request, name, 'Request')}",
    }
    return Operation(
        name=name,
        root=_body(bound, "input", request, style, name, messages),
        response=_body(bound, "output", response, style, f"{name}Response", messages),
        actions=frozenset(filter(None, actions)),
        response_action=_action(response) or f"{base}/{_message_name(response, name, 'Response')}",
        one_way=response is None,
    )


def _action(message: etree._Element | None) -> str:
    """What the WSDL itself says (wsam:Action, wsaw:Action)."""
    return next(
        (message.get(qname(uri, "Action"), "") for uri in _ACTIONS if message is not None and message.get(qname(uri, "Action"))), ""
    )


def _message_name(message: etree._Element | None, operation: str, suffix: str) -> str:
    return (message.get("name") if message is not None else None) or operation + suffix


def _body(bound: etree._Element, way: str, message: etree._Element | None, style: str, wrapper: str, messages: Parts) -> str:
    """The element in Body: the wrapper of RPC (WSDL 1.1 clause 3.5), or that of the one part."""
    there = bound.find(qname(WSDL, way))
    body = next((one for uri in SOAP_BINDINGS for one in there.iter(qname(uri, "body"))), None) if there is not None else None
    if message is None:
        return ""
    if body is not None and body.get("use", "literal") != "literal":
        raise ParseError(f"the operation {bound.get('name')} is encoded; document/literal and RPC/literal are taken")
    if style == "rpc":
        uri = body.get("namespace", "") if body is not None else ""
        return qname(uri, wrapper) if uri else wrapper
    wanted = body.get("parts", "").split() if body is not None else []
    parts = messages.get(_resolved(message, message.get("message", "")), [])
    parts = [part for part in parts if not wanted or part.get("name") in wanted]
    return next((_resolved(part, part.get("element", "")) for part in parts if part.get("element")), "")


def _own(definitions: etree._Element, element: etree._Element) -> str:
    return qname(definitions.get("targetNamespace", ""), element.get("name", ""))


def _resolved(element: etree._Element, name: str) -> str:
    prefix, _, plain = name.rpartition(":")
    uri = element.nsmap.get(prefix or None, "")
    return qname(uri, plain) if uri else plain
