"""The WSDL 1.1 of an endpoint, made for its style: what a vendor's developers import. Pure.

Sources: WSDL 1.1 clauses 2 and 3 (SOAP binding), the W3C note on its binding for SOAP 1.2, WS-I Basic Profile 1.2 (R2716: parts of
RPC/literal are of a type; R2201: one part of document/literal).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lxml import etree

from adapters.soap.hip.style import Style

_WSDL: Final = "http://schemas.xmlsoap.org/wsdl/"
_SOAP: Final = {"1.1": "http://schemas.xmlsoap.org/wsdl/soap/", "1.2": "http://schemas.xmlsoap.org/wsdl/soap12/"}
_XSD: Final = "http://www.w3.org/2001/XMLSchema"
_HTTP: Final = "http://schemas.xmlsoap.org/soap/http"
_TYPES: Final = {"string": "xsd:string", "cdata": "xsd:string", "base64": "xsd:base64Binary"}


def wsdl(style: Style, address: str) -> bytes:
    """`address` is where the endpoint is."""
    prefixes = {"wsdl": _WSDL, "xsd": _XSD, "tns": style.namespace, "soap": _SOAP["1.1"], "soap12": _SOAP["1.2"]}
    root = etree.Element(f"{{{_WSDL}}}definitions", {"name": style.service, "targetNamespace": style.namespace}, nsmap=prefixes)
    root.append(_types(style))
    for message in _messages(style):
        root.append(message)
    root.append(_port_type(style))
    for version in style.versions:
        root.append(_binding(style, version))
    root.append(_service(style, address))
    etree.indent(root)
    written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written


def _make(tag: str, *children: Any, uri: str = _WSDL, **attributes: str) -> Any:
    element = etree.Element(f"{{{uri}}}{tag}", attributes)
    element.extend(children)
    return element


def _types(style: Style) -> Any:
    schema = _make(
        "schema", uri=_XSD, targetNamespace=style.namespace, elementFormDefault="qualified" if style.qualified else "unqualified"
    )
    if style.binding == "document":
        schema.append(_element_of(style.operation, _wrapped(style, _parameters(style))))
        schema.append(_element_of(style.response, [_parameter(style.result, style.answer_as)]))
    else:
        for name, kind in _rpc_types(style):
            schema.append(_make("complexType", _make("sequence", *kind, uri=_XSD), uri=_XSD, name=name))
    return _make("types", schema)


def _parameters(style: Style) -> list[Any]:
    return [_parameter(style.action_parameter, "string"), _parameter(style.message_parameter, style.message_as)]


def _wrapped(style: Style, parameters: list[Any]) -> list[Any]:
    return [_element_of(style.wrapper, parameters)] if style.wrapper else parameters


def _element_of(name: str, content: list[Any]) -> Any:
    return _make("element", _make("complexType", _make("sequence", *content, uri=_XSD), uri=_XSD), uri=_XSD, name=name)


def _parameter(name: str, carried: str) -> Any:
    if carried == "inline":
        return _element_of(name, [_any()])
    return _make("element", uri=_XSD, name=name, type=_TYPES[carried], minOccurs="0")


def _any() -> Any:
    return _make("any", uri=_XSD, namespace="##any", processContents="skip")


def _rpc_types(style: Style) -> Iterator[tuple[str, list[Any]]]:
    """RPC parts need a named type where they are no simple ones."""
    if style.wrapper:
        yield "Input", _parameters(style)
    if style.message_as == "inline":
        yield "Message", [_any()]
    if style.answer_as == "inline":
        yield "Answer", [_any()]


def _messages(style: Style) -> Iterator[Any]:
    request, answer = f"{style.operation}Input", f"{style.operation}Output"
    if style.binding == "document":
        yield _make("message", _make("part", name="parameters", element=f"tns:{style.operation}"), name=request)
        yield _make("message", _make("part", name="parameters", element=f"tns:{style.response}"), name=answer)
        return
    if style.wrapper:
        parts = [_make("part", name=style.wrapper, type="tns:Input")]
    else:
        kind = "tns:Message" if style.message_as == "inline" else _TYPES[style.message_as]
        named = ((style.action_parameter, "xsd:string"), (style.message_parameter, kind))
        parts = [_make("part", name=name, type=kind) for name, kind in named]
    yield _make("message", *parts, name=request)
    kind = "tns:Answer" if style.answer_as == "inline" else _TYPES[style.answer_as]
    yield _make("message", _make("part", name=style.result, type=kind), name=answer)


def _port_type(style: Style) -> Any:
    operation = _make(
        "operation",
        _make("input", message=f"tns:{style.operation}Input"),
        _make("output", message=f"tns:{style.operation}Output"),
        name=style.operation,
    )
    return _make("portType", operation, name=f"{style.port}Type")


def port_name(style: Style, version: str) -> str:
    """As asmx names its ports."""
    return f"{style.port}12" if version == "1.2" and len(style.versions) > 1 else style.port


def _binding(style: Style, version: str) -> Any:
    soap = _SOAP[version]

    def body() -> Any:
        namespace = {"namespace": style.namespace} if style.binding == "rpc" else {}
        return _make("body", uri=soap, use="literal", **namespace)

    operation = _make(
        "operation",
        _make("operation", uri=soap, soapAction=style.action_uri, style=style.binding),
        _make("input", body()),
        _make("output", body()),
        name=style.operation,
    )
    transport = _make("binding", uri=soap, transport=_HTTP, style=style.binding)
    return _make("binding", transport, operation, name=f"{port_name(style, version)}Binding", type=f"tns:{style.port}Type")


def _service(style: Style, address: str) -> Any:
    ports = [
        _make(
            "port",
            _make("address", uri=_SOAP[version], location=address),
            name=port_name(style, version),
            binding=f"tns:{port_name(style, version)}Binding",
        )
        for version in style.versions
    ]
    return _make("service", *ports, name=style.service)
