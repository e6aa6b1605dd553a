"""A WSDL pinned in the site: it and all that it imports are files there, and nothing is ever fetched.

Imports are followed first (adapters.soap.imports), so that what is missing can be named with file and line; zeep then gets those very
bytes.

Sources: WSDL 1.1 clause 3.7 (soap:address).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lxml import etree

from adapters.soap.imports import follow
from engine.errors import ParseError
from engine.options import Faulty, Kind, Place

_XML_NAMESPACE: Final = ("http://www.w3.org/2001/xml.xsd", "https://www.w3.org/2001/xml.xsd")
"""Where zeep looks for the attributes xml:lang and so on, which schemas need not locate."""
_SOAP_11, _SOAP_12 = "http://schemas.xmlsoap.org/wsdl/soap/", "http://schemas.xmlsoap.org/wsdl/soap12/"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a port. `root` is the qualified name of the request's body element, `reply_root` of the reply's; "" where the WSDL
    names none. `bound` is zeep's."""

    name: str
    root: str
    reply_root: str
    soap_action: str
    action: str
    one_way: bool
    bound: Any


@dataclass(frozen=True, slots=True)
class Port:
    """One port: `address` as the WSDL has it, `version` of SOAP."""

    service: str
    name: str
    version: str
    address: str
    operations: dict[str, Operation]


class Description:
    """What a WSDL says. `lock` is held around all that zeep does with it: its types promise nothing about threads, and what is pure
    Python gains nothing by several."""

    def __init__(self, ports: list[Port]) -> None:
        self.ports = ports
        self.lock = threading.Lock()

    def port(self, service: str | None, name: str | None, version: str | None) -> Port:
        """The first that is as asked. Raises Faulty."""
        named = [port for port in self.ports if service in (None, port.service)]
        if not named:
            raise _unknown("service", str(service), {port.service for port in self.ports})
        found = [port for port in named if name in (None, port.name)]
        if not found:
            raise _unknown("port", str(name), {port.name for port in named})
        fitting = [port for port in found if version in (None, port.version)]
        if not fitting:
            raise Faulty(f"the WSDL has no such port for SOAP {version}", ", ".join(f"{one.name} ({one.version})" for one in found))
        return fitting[0]


def operation_of(port: Port, name: str) -> Operation:
    """Raises Faulty."""
    if name not in port.operations:
        raise _unknown("operation", name, set(port.operations))
    return port.operations[name]


def _unknown(what: str, name: str, known: set[str]) -> Faulty:
    nearest = get_close_matches(name, known, 1)
    return Faulty(f"the WSDL has no {what} {name!r}", ", ".join(sorted(known)), nearest[0] if nearest else "")


@dataclass(frozen=True, slots=True)
class Wsdl:
    """A WSDL of a site, by its path there. `folder` is the site's."""

    name: str
    folder: Path

    def describe(self) -> Description:
        """Raises Faulty. The same file, unchanged, is read once."""
        path = file_of_site(self.folder, self.name)
        documents = _documents(path, self.folder.resolve())
        return _described(path, tuple(sorted(documents.items())))


def file_of_site(folder: Path, name: str) -> Path:
    """Raises Faulty where there is no such file within the site."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Faulty(f"{name!r} is outside the site")
    if not path.is_file():
        raise Faulty(f"there is no file {name!r} in the site")
    return path


# --- what it imports -----------------------------------------------------------------------------------


def _documents(root: Path, site: Path) -> dict[str, bytes]:
    """The absolute path, or address, by which zeep will ask for each document -> its bytes. Raises Faulty."""
    from zeep import loader

    absolute_location: Any = loader.absolute_location
    try:
        found = follow(root, site)
    except ParseError as error:
        raise Faulty(f"{error.text} ({error.location})" if error.location else error.text) from None
    asked = dict.fromkeys(_XML_NAMESPACE, files(__package__).joinpath("xml_namespace.xsd").read_bytes())
    waiting = [(root, str(root))]
    while waiting:
        path, name = waiting.pop()
        if name in asked:
            continue
        asked[name] = found[path].content
        for one in found[path].imports:
            if one.file is not None:
                waiting.append((one.file, absolute_location(one.location, name)))
            elif one.location not in _XML_NAMESPACE:
                missing = (path.parent / Path(urlsplit(one.location).path).name).relative_to(site)
                raise Faulty(f"{one.where} imports {one.location!r}, and there is no file {missing} in the site")
    return asked


# --- what it says --------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _described(path: Path, documents: tuple[tuple[str, bytes], ...]) -> Description:
    """Raises Faulty."""
    try:
        from zeep import Settings
        from zeep.exceptions import Error
        from zeep.transports import Transport
        from zeep.wsdl import Document
    except ModuleNotFoundError as error:
        raise Faulty(f"needs the package {error.name!r}: pip install 'meridian[soap]'") from None

    pinned = dict(documents)

    class Pinned(Transport):
        """Knows the site's files and nothing else; messages do not go through it."""

        def load(self, url: str) -> bytes:
            if url not in pinned:
                raise Faulty(f"the WSDL imports {url!r}, which is not in the site")
            return pinned[url]

        def post(self, address: str, message: Any, headers: Any) -> Any:
            raise NotImplementedError("messages go over Meridian's own HTTP client")

        get = post

    settings = Settings(strict=True, forbid_dtd=True, forbid_entities=True, xml_huge_tree=False, force_https=False)
    try:
        transport: Any = Pinned
        document = Document(str(path), transport(), settings=settings)
        ports = [_port(service.name, port) for service in document.services.values() for port in service.ports.values() if _soap(port)]
    except (Error, etree.Error, LookupError, AttributeError, TypeError, ValueError, NotImplementedError) as error:
        raise Faulty(f"the WSDL cannot be used: {type(error).__name__}: {error}") from None
    if not ports:
        raise Faulty("the WSDL has no service with a SOAP port")
    return Description(ports)


def _soap(port: Any) -> bool:
    return port.binding.nsmap.get("soap") in (_SOAP_11, _SOAP_12) and "soap-env" in port.binding.nsmap


def _port(service: str, port: Any) -> Port:
    version = "1.2" if port.binding.nsmap["soap"] == _SOAP_12 else "1.1"
    port_type = etree.QName(port.binding.port_type.name.text)
    operations = {one.name: _operation(one, port_type) for one in port.binding.all().values()}
    return Port(service, port.name, version, port.binding_options.get("address") or "", operations)


def _operation(bound: Any, port_type: etree.QName) -> Operation:
    """Without any declared action it is the default one (WS-Addressing 1.0 Metadata clause 4.4.4)."""
    default = f"{(port_type.namespace or '').rstrip('/')}/{port_type.localname}/{bound.name}Request"
    action = bound.abstract.wsa_action or bound.soapaction or default
    reply = _root(bound.output)
    if bound.style == "rpc" and reply:  # zeep names it after the message; Basic Profile R2729
        reply = etree.QName(etree.QName(reply).namespace, f"{bound.name}Response").text
    return Operation(bound.name, _root(bound.input), reply, bound.soapaction or "", action, bound.output is None, bound)


def _root(message: Any) -> str:
    name = getattr(message.body, "qname", None) if message is not None else None
    return str(name.text) if name is not None else ""


# --- as an option --------------------------------------------------------------------------------------


def _name(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise Faulty("is no path of a file")
    return raw


def _placed(name: str, place: Place) -> Wsdl:
    wsdl = Wsdl(name, place.folder or Path())
    wsdl.describe()
    return wsdl


WSDL: Final = Kind("WSDL", "a WSDL file of the site, such as wsdl/hospital.wsdl", _name, {"type": "string"}, _placed)
