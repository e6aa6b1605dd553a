"""What a channel file may say under ``soap`` of a destination."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from adapters.soap.client.answer_paths import ANSWER_PATH
from adapters.soap.client.pinned import WSDL, Operation, Port, file_of_site, operation_of
from adapters.soap.client.request import Requests
from adapters.soap.client.template import Template, of_xml, of_yaml
from adapters.soap.security import CLIENT_SECURITY
from engine.errors import PermanentDelivery
from engine.http_options import client_options, in_the_clear
from engine.options import DURATION, FLAG, SIZE, TEXT, URL, Faulty, Kind, ListOf, MapOf, Option, Place, Settings, Spec, choice
from engine.templates import TABLE, check_tables

AS_IT_CAME: Final = "as it came"
_RESERVED: Final = frozenset(
    ["content-type", "content-length", "soapaction", "host", "authorization", "accept", "transfer-encoding", "connection"]
)


def _service_url(raw: Any) -> str:
    """As it is written: to a SOAP server, a slash at the end may be another address."""
    URL.read(raw)
    return str(raw)


def _body(raw: Any) -> Any:
    """A template in YAML, or text: the name of a file, or AS_IT_CAME."""
    if isinstance(raw, str) and raw != AS_IT_CAME and not raw.endswith(".xml"):
        raise Faulty(f"{raw!r} is no template")
    return raw if isinstance(raw, str) else of_yaml(raw)


def _body_of_site(value: Any, place: Place) -> Template | None:
    if isinstance(value, Template):
        return value
    return None if value == AS_IT_CAME else of_xml(file_of_site(place.folder or Path(), value).read_bytes())


def _document(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.endswith(".xml"):
        raise Faulty(f"{raw!r} is not the name of an XML file")
    return raw


def _document_of_site(value: str, place: Place) -> Template:
    return of_xml(file_of_site(place.folder or Path(), value).read_bytes())


def _block(raw: Any) -> Template:
    if not isinstance(raw, str):
        raise Faulty("a header is an XML element, written as text")
    return of_xml(raw.encode())


SERVICE_URL: Final = Kind("url", URL.allowed, _service_url, URL.schema)
BODY: Final = Kind(
    "template", f"parameters of the operation in YAML | FILE.xml | {AS_IT_CAME}", _body, {"type": ["object", "string"]}, _body_of_site
)
DOCUMENT: Final = Kind("file", "an XML file, relative to the site", _document, {"type": "string"}, _document_of_site)
BLOCK: Final = Kind("header", "an XML element, such as <Key xmlns='urn:x'>${message.id}</Key>", _block, {"type": "string"})

FAULTS: Final = Spec(
    "faults",
    "Codes or subcodes of faults, by their local names, where the standards' meaning is not the service's.",
    [
        Option("transient", ListOf(TEXT), "try again later", default=[]),
        Option("permanent", ListOf(TEXT), "a dead letter", default=[]),
    ],
)
ACCEPTED: Final = Spec(
    "accepted_when",
    "Where a reply without a fault says whether the message was accepted.",
    [
        Option("path", ANSWER_PATH, "what says so, such as MCCI_IN000002UV01/acknowledgement/@typeCode", required=True),
        Option("accepted", ListOf(TEXT), "what it is then", default=["AA", "CA"]),
        Option("transient", ListOf(TEXT), "what it is when the message may be sent again later", default=[]),
        Option("otherwise", choice("permanent", "transient"), "what anything else means", default="permanent"),
        Option("reason", ANSWER_PATH, "where the reply says why not; kept with the dead letter"),
    ],
)


def _check(options: Settings) -> str:
    """What can be known before a message comes. Everything that was read alone is right."""
    try:
        port = port_of(options)
        operations = operations_of(options, port)
        url = address_of(options, port)
        _check_template(options, port, operations)
    except Faulty as faulty:
        return _in_words(faulty)
    taken = [name for name in options.http_headers if name.lower() in _RESERVED or not _token(name)]
    if taken:
        return f"http_headers cannot say {taken[0]!r}"
    return in_the_clear(Settings(DESTINATION, {**options, "url": url})) or _password_in_the_clear(options, url)


def _password_in_the_clear(options: Settings, url: str) -> str:
    login = options.security.username if options.security is not None else None
    parts = urlsplit(url)
    if login is None or login.type != "text" or parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return ""
    return "security.username.type: text would send the password unencrypted: the url must be https"


def port_of(options: Settings) -> Port:
    """Raises Faulty."""
    found: Port = options.wsdl.describe().port(options.service, options.port, options.version)
    return found


def operations_of(options: Settings, port: Port) -> list[Operation]:
    """Those that a request may be of: one where it is said or the WSDL has no other; where the body element tells, all. Raises Faulty."""
    if options.operation is not None:
        return [operation_of(port, options.operation)]
    by_root = options.body is None or bool(options.body.root)
    if by_root or len(port.operations) == 1:
        return list(port.operations.values())
    raise Faulty("operation must be said, since the WSDL has several", ", ".join(sorted(port.operations)))


def address_of(options: Settings, port: Port) -> str:
    """Raises Faulty."""
    url = options.url or port.address
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Faulty(f"url must be said: {url!r} is what the WSDL has")
    return str(url)


def _check_template(options: Settings, port: Port, operations: list[Operation]) -> None:
    body = options.body
    templates = [*([body] if body is not None else []), *options.headers]
    names = [name for template in templates for name in template.names]
    within = [name for template in options.documents.values() for name in template.names]
    for name in names:
        if name.startswith("documents.") and name.removeprefix("documents.") not in options.documents:
            raise Faulty(f"there is no ${{{name}}}", ", ".join(f"documents.{one}" for one in options.documents))
    for name in within:
        if name.startswith("documents.") or name in ("content.xml", "content.attachment"):
            raise Faulty(f"${{{name}}} cannot be in one of documents")
    check_tables([*names, *within], options.tables)
    if "content.attachment" in names and not options.mtom:
        raise Faulty("${content.attachment} needs mtom: true")
    if body is None:
        return
    if body.root:
        roots = [operation.root for operation in operations]
        if body.root not in roots and "" not in roots:
            raise Faulty(f"the template's root {body.root} is the body element of no operation", ", ".join(roots))
        return
    if not isinstance(body.tree, Mapping):
        raise Faulty("body must be a mapping: the operation's parameters")
    try:
        Requests(options.wsdl.describe(), operations, port.version, body=body).worded(body.fill(lambda _: "1"))
    except PermanentDelivery as error:
        raise Faulty(f"body: {error.text}") from None


def _in_words(faulty: Faulty) -> str:
    nearest = f" (did you mean {faulty.nearest!r}?)" if faulty.nearest else ""
    return f"{faulty.text}{nearest}" + (f"; allowed: {faulty.allowed}" if faulty.allowed else "")


def _token(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum()


_CLIENT: Final = [option for option in client_options("", 4) if option.name != "url"]

DESTINATION: Final = Spec(
    "soap destination",
    "Calls an operation of a SOAP service with each message; the WSDL is a file of the site.",
    [
        Option("wsdl", WSDL, "the service's WSDL; it and what it imports are files of the site, nothing is fetched", required=True),
        Option("service", TEXT, "the service in it; default: the first"),
        Option("port", TEXT, "the port of the service; default: the first of the version asked for"),
        Option("operation", TEXT, "the operation; default: the only one, or the one whose element the body is"),
        Option("version", choice("1.1", "1.2"), "version of SOAP; default: that of the port"),
        Option("url", SERVICE_URL, "address of the service; default: what the WSDL says"),
        *_CLIENT,
        Option("within", DURATION, "a call that has not ended this long after it began is given up", default="5m"),
        Option("body", BODY, "what is said", default=AS_IT_CAME),
        Option("tables", MapOf(TABLE), "tables for ${tables.NAME}", default={}),
        Option(
            "documents",
            MapOf(DOCUMENT),
            "XML files with ${…}, for ${documents.NAME}: where a parameter is a string that holds XML, it is filled and written as such",
            default={},
        ),
        Option("headers", ListOf(BLOCK), "elements for the SOAP Header, with ${…}", default=[]),
        Option("http_headers", MapOf(TEXT), "further HTTP headers", default={}),
        Option("addressing", FLAG, "say WS-Addressing headers: Action, MessageID (the same at every attempt), To, ReplyTo", default=False),
        Option("security", CLIENT_SECURITY, "what WS-Security says of us; default: nothing"),
        Option("mtom", FLAG, "send big binary content beside the envelope, from its file", default=False),
        Option("mtom_threshold", SIZE, "with mtom: content from this size on", default="64KB"),
        Option("faults", FAULTS, "what the service means by its faults", default={}),
        Option("accepted_when", ACCEPTED, "what in the reply says that the message was accepted; default: a reply without a fault does"),
        Option("reference", ANSWER_PATH, "what in the reply is shown in traces; default: its MessageID, or the name of its element"),
        Option("strict", FLAG, "a reply that is not what the WSDL says is no proof that the message was taken", default=True),
    ],
    check=_check,
)
