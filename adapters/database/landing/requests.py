"""What a FHIR transaction, batch or single resource asks for (R4 Bundle.entry.request), and what is said of the message it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, unquote_plus

from engine.errors import MessageError, ParseError
from engine.formats import fhir

ORDER: Final = {"DELETE": 0, "POST": 1, "PUT": 2}
"""The methods carried out, with their place in the order of a transaction (R4 3.1.0.11.2)."""
ID: Final = re.compile(r"[A-Za-z0-9.\-]{1,64}")
_TYPE: Final = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')
_MESSAGE: Final = "urn:meridian:message:"
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


class Refused(MessageError):
    """The Bundle cannot be landed; `location` is the entry."""

    code = "message.refused"


class Token(NamedTuple):
    """One alternative of a search by identifier; `system` None means any."""

    value: str
    system: str | None


class Search(NamedTuple):
    """What a conditional create, update or reference looks for: one of each term's alternatives must fit, and one of `ids`."""

    resource_type: str
    terms: tuple[tuple[Token, ...], ...]
    ids: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Request:
    """One entry. `resource` None for a DELETE; `resource_id` "" where the url has none; `url_id` is what fullUrl names it, if a UUID."""

    method: str
    resource_type: str
    location: str
    resource_id: str = ""
    search: Search | None = None
    if_match: str | None = None
    resource: dict[str, Any] | None = None
    full_url: str = ""

    @property
    def url_id(self) -> str:
        name = self.full_url.removeprefix("urn:uuid:")
        return name if name != self.full_url and ID.fullmatch(name) else ""


class Incoming(NamedTuple):
    """One parcel, read. `sender` is the sending system as the Bundle says it, `message_at` its own time."""

    requests: list[Request]
    sender: str
    message_at: str


def read(body: bytes) -> Incoming:
    """Raises Refused, ParseError."""
    content = fhir.parse(body)
    if b"\\u00" in body:
        _refuse_control(content, "")
    if content.get("resourceType") == "Bundle" and content.get("type") in ("transaction", "batch"):
        entries = content.get("entry", [])
        if not isinstance(entries, list):
            raise Refused("entry must be a list", location="Bundle.entry")
        found = [_entry(entry, f"Bundle.entry[{index}]") for index, entry in enumerate(entries)]
        resources = [request.resource for request in found if request is not None and request.resource is not None]
        return Incoming([request for request in found if request is not None], _sender(content, resources), _text(content, "timestamp"))
    return Incoming([_single(content)], "", "")


def _refuse_control(value: Any, location: str) -> None:
    """R4 string: no character below U+0020 but tab, line feed and carriage return. A NUL is what PostgreSQL's text cannot hold."""
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise Refused("a string holds a control character, which FHIR does not allow", location=location)
        return
    for name, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _refuse_control(item, f"{location}.{name}".lstrip(".") if isinstance(name, str) else f"{location}[{name}]")


def _single(resource: dict[str, Any]) -> Request:
    """A resource that is posted alone: an update of the id it has, a create without."""
    kind, given = resource.get("resourceType"), resource.get("id", "")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise Refused("a Bundle or another resource of FHIR is needed", location="resourceType")
    if not isinstance(given, str) or (given and not ID.fullmatch(given)):
        raise Refused("the resource has no valid id", location=f"{kind}.id")
    return Request("PUT" if given else "POST", kind, kind, given, resource=_checked(resource, kind, kind))


def _entry(entry: Any, location: str) -> Request | None:
    """None for a GET, which changes nothing."""
    asked = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(asked, dict) or not isinstance(asked.get("url"), str):
        raise Refused("each entry needs a request with method and url", location=location)
    method = asked.get("method")
    if method in ("GET", "HEAD"):
        return None
    if method not in ORDER:
        raise Refused("the method of an entry must be POST, PUT or DELETE", location=location)
    path, mark, query = asked["url"].lstrip("/").partition("?")
    kind, _, name = path.partition("/")
    if not _TYPE.fullmatch(kind) or (name and not ID.fullmatch(name)):
        raise Refused("the url of an entry must be Type, Type/id or Type?condition", location=location)
    if (method == "POST") is not (not name and not mark) or (name and mark):
        raise Refused(f"a {method} needs another form of url", location=location)
    condition = query if mark else asked.get("ifNoneExist") if method == "POST" else None
    search = None if condition is None else searched(kind, str(condition), location)
    resource = None if method == "DELETE" else _checked(entry.get("resource"), kind, f"{location}.resource")
    if method == "PUT" and name and (resource or {}).get("id") != name:
        raise Refused("the resource's id does not match the url", location=f"{location}.resource.id")
    return Request(str(method), kind, location, name, search, _if_match(asked, location), resource, _text(entry, "fullUrl"))


def _checked(resource: Any, kind: str, location: str) -> dict[str, Any]:
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        raise Refused("the resource must be there, and of the type that the url says", location=location)
    if not isinstance(resource.get("meta", {}), dict):
        raise Refused("meta must be an object", location=f"{location}.meta")
    given = resource.get("id")
    if given is not None and not (isinstance(given, str) and ID.fullmatch(given)):
        raise Refused("the resource has no valid id", location=f"{location}.id")
    return resource


def _if_match(asked: dict[str, Any], location: str) -> str | None:
    given = asked.get("ifMatch")
    match = _ETAG.fullmatch(given.strip()) if isinstance(given, str) else None
    if given is not None and match is None:
        raise Refused('ifMatch needs the form W/"3"', location=location)
    return match[1] if match else None


# --- conditions ----------------------------------------------------------------------------------


def searched(resource_type: str, query: str, location: str) -> Search:
    """``identifier=system|value&_id=…``. Other parameters are refused, since one ignored would change another resource. Raises Refused."""
    terms: list[tuple[Token, ...]] = []
    ids: tuple[str, ...] | None = None
    for part in query.removeprefix("?").split("&"):
        name, _, value = part.partition("=")
        value = unquote_plus(value) if "%" in value or "+" in value else value
        if name == "identifier" and value:
            terms.append(tuple(_tokens(value, location)))
        elif name == "_id" and value:
            ids = tuple(value.split(","))
        elif name:
            raise Refused("only identifier and _id can be searched by here", location=location)
    if not terms and ids is None:
        raise Refused("a condition needs an identifier or _id", location=location)
    return Search(resource_type, tuple(terms), ids)


def _tokens(value: str, location: str) -> Iterator[Token]:
    """Commas part alternatives; a backslash takes the meaning from the character behind it (R4 3.1.1.4.0.1)."""
    for part in re.findall(r"(?:[^,\\]|\\.)+", value):
        system, bar, code = part.partition("|") if "|" in re.sub(r"\\.", "", part) else ("", "", part)
        if not code:
            raise Refused("a condition by identifier needs a value, not a system alone", location=location)
        yield Token(_unescaped(code), _unescaped(system) if bar else None)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text) if "\\" in text else text


# --- the message ---------------------------------------------------------------------------------


def _sender(bundle: dict[str, Any], resources: list[dict[str, Any]]) -> str:
    """Who sent the message: as Meridian's mappings say it in Bundle.identifier, else the source of a MessageHeader."""
    identifier = bundle.get("identifier")
    system = _text(identifier, "system") if isinstance(identifier, dict) else ""
    if system.startswith(_MESSAGE):
        return unquote(system.removeprefix(_MESSAGE))
    header = next((resource for resource in resources if resource.get("resourceType") == "MessageHeader"), {})
    source = header.get("source")
    return (_text(source, "name") or _text(source, "endpoint")) if isinstance(source, dict) else ""


def _text(element: Any, name: str) -> str:
    value = element.get(name) if isinstance(element, dict) else None
    return value if isinstance(value, str) else ""


__all__ = ["ID", "ORDER", "Incoming", "ParseError", "Refused", "Request", "Search", "Token", "read", "searched"]
