"""What a request asks for (R4 3.1.0): routing, content negotiation, body decoding. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote

from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.resource_types import ID, RESOURCE_TYPES
from engine.errors import FramingError
from engine.http_coding import decoder

_ALLOWED: Final = {
    "system": ("POST",),
    "metadata": ("GET", "HEAD"),
    "upload": ("GET", "HEAD", "POST"),
    "type": ("GET", "HEAD", "POST", "PUT", "DELETE"),
    "search": ("POST",),
    "instance": ("GET", "HEAD", "PUT", "DELETE"),
    "version": ("GET", "HEAD"),
    "history": ("GET", "HEAD"),
}
_NAMED: Final = {"metadata": "metadata", "$upload": "upload"}
_JSON: Final = frozenset({"application/fhir+json", "application/json", "text/json"})
_ACCEPTABLE: Final = _JSON | {"*/*", "application/*", "text/*", ""}
_FORMATS: Final = _JSON | {"json", "application/fhir json"}  # an unencoded + arrives as a space
_CHARSET: Final = re.compile(r'charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Route:
    """What of the server a request is about; `kind` as in the table of allowed methods. `query` is the raw query string."""

    kind: str
    resource_type: str = ""
    resource_id: str = ""
    version: str = ""
    query: str = ""

    def parameters(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True)


def route(method: str, target: str, base: str) -> Route:
    """Raises FhirRefusal 404 for what is not there, 405 with Allow for a method that is not."""
    path, _, query = target.partition("?")
    if path != base and not path.startswith(base + "/"):
        raise FhirRefusal(404, f"the FHIR interactions are below {base or '/'}")
    found = _find([unquote(part) for part in path[len(base) :].strip("/").split("/")], query)
    allowed = _ALLOWED[found.kind]
    if method not in allowed:
        headers = {"Allow": ", ".join(allowed)}
        raise FhirRefusal(405, f"here the method must be one of {headers['Allow']}", headers=headers)
    return found


def _find(parts: list[str], query: str) -> Route:
    name = parts[0]
    if name == "":
        return Route("system", query=query)
    if name in _NAMED and len(parts) == 1:
        return Route(_NAMED[name], query=query)
    if name not in RESOURCE_TYPES:
        raise FhirRefusal(404, "this is no resource type of FHIR R4", issue="not-supported")
    if len(parts) == 1:
        return Route("type", name, query=query)
    if parts[1] == "_search" and len(parts) == 2:
        return Route("search", name, query=query)
    if not ID.fullmatch(parts[1]):
        raise FhirRefusal(404 if parts[1].startswith(("_", "$")) else 400, "this is no valid resource id or known operation", issue="value")
    if len(parts) == 2:
        return Route("instance", name, parts[1], query=query)
    if parts[2] == "_history" and len(parts) == 3:
        return Route("history", name, parts[1], query=query)
    if parts[2] == "_history" and len(parts) == 4:
        return Route("version", name, parts[1], parts[3], query=query)
    raise FhirRefusal(404, "there is no such interaction")


def check_acceptable(headers: Mapping[str, str], found: Route) -> None:
    """Raises FhirRefusal 406 unless the client takes JSON (R4 3.1.0.1.11); `_format` outweighs Accept."""
    asked = [value for name, value in found.parameters() if name == "_format"] if "_format" in found.query else []
    if asked:
        if asked[0].partition(";")[0].strip().lower() in _FORMATS:
            return
    else:
        accept = headers.get("accept", "")
        if any(part.partition(";")[0].strip().lower() in _ACCEPTABLE for part in accept.split(",")):
            return
    raise FhirRefusal(406, "this server speaks application/fhir+json only")


def check_content_type(headers: Mapping[str, str], expected: frozenset[str] = _JSON) -> None:
    """Raises FhirRefusal 415 unless the body is said to be JSON in UTF-8 of FHIR R4."""
    given = headers.get("content-type", "")
    kind, _, parameters = given.partition(";")
    charset = _CHARSET.search(parameters)
    if kind.strip().lower() not in expected:
        raise FhirRefusal(415, f"the body must be {' or '.join(sorted(expected)[:2])}")
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise FhirRefusal(415, "the body must be in UTF-8 (RFC 8259 8.1)")
    if "fhirversion" in parameters.lower() and "4.0" not in parameters:
        raise FhirRefusal(415, "this server speaks FHIR version 4.0")


def decode_body(body: bytes, headers: Mapping[str, str], most: int) -> bytes:
    """The body without its content coding (gzip). Raises FhirRefusal 413, 415, 400."""
    try:
        undone = decoder(headers, most, ratio=0)
        plain = b"".join(undone.feed(body))
        undone.finish()
    except FramingError as error:
        raise FhirRefusal(int(error.reply_hint), error.text) from error
    return plain


def preference(headers: Mapping[str, str], name: str) -> str:
    """A preference from Prefer (RFC 7240): ``return``, ``handling``; "" where there is none."""
    for part in headers.get("prefer", "").replace(";", ",").split(","):
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return ""
