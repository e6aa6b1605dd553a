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
from engine.message import FHIR_JSON, FHIR_XML

_ALLOWED: Final = {
    "system": ("POST",),
    "metadata": ("GET", "HEAD"),
    "message": ("POST",),
    "upload": ("GET", "HEAD", "POST"),
    "type": ("GET", "HEAD", "POST", "PUT", "DELETE"),
    "search": ("POST",),
    "instance": ("GET", "HEAD", "PUT", "DELETE"),
    "version": ("GET", "HEAD"),
    "history": ("GET", "HEAD"),
}
_JSON: Final = frozenset({"application/fhir+json", "application/json", "text/json"})
_XML: Final = frozenset({"application/fhir+xml", "application/xml", "text/xml"})
_NDJSON: Final = frozenset({"application/fhir+ndjson", "application/x-ndjson", "application/ndjson"})
_EITHER: Final = frozenset({"*/*", "application/*", "text/*", ""})
_FORMATS: Final = {  # an unencoded + arrives as a space
    **dict.fromkeys((*_JSON, "json", "application/fhir json"), FHIR_JSON),
    **dict.fromkeys((*_XML, "xml", "application/fhir xml"), FHIR_XML),
}
_FORM: Final = "application/x-www-form-urlencoded"
_QUALITY: Final = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
_NEVER: Final = re.compile(r"q=0(?:\.0*)?\s*$")
MESSAGE: Final = "$process-message"
UPLOAD: Final = "$upload"
_NAMED: Final = {"metadata": "metadata", MESSAGE: "message", UPLOAD: "upload"}
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
        offered = "patch is not offered: send the whole resource with PUT; " if method == "PATCH" else ""
        raise FhirRefusal(405, f"{offered}here the method must be one of {headers['Allow']}", headers=headers)
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


def wanted_format(headers: Mapping[str, str], query: str) -> str:
    """FHIR_JSON or FHIR_XML, whichever the client would rather have (R4 3.1.0.1.11); `_format` outweighs Accept; where it is all the
    same to the client, that of its body. Raises FhirRefusal 406."""
    asked = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "_format"] if "_format" in query else []
    if asked:
        found = _FORMATS.get(asked[0].partition(";")[0].strip().lower(), "")
    else:
        sent = _FORMATS.get(headers.get("content-type", "").partition(";")[0].strip().lower(), FHIR_JSON)
        found = _best(headers.get("accept", ""), sent)
    if not found:
        raise FhirRefusal(406, "this server speaks application/fhir+json and application/fhir+xml, in FHIR version 4.0")
    return found


def _best(accept: str, sent: str) -> str:
    best, most = "", 0.0
    for part in accept.split(","):
        kind, _, parameters = part.partition(";")
        kind = kind.strip().lower()
        found = sent if kind in _EITHER else _FORMATS.get(kind, "")
        quality = _QUALITY.search(parameters)
        weight = float(quality[1]) if quality else 1.0
        if found and weight > most and _speaks(parameters):
            best, most = found, weight
    return best


def _speaks(parameters: str) -> bool:
    return "fhirversion" not in parameters.lower() or "4.0" in parameters


def takes_gzip(headers: Mapping[str, str]) -> bool:
    """Whether the client says that it takes gzip (RFC 9110 12.5.3)."""
    codings = (part.partition(";") for part in headers.get("accept-encoding", "").lower().split(","))
    return any(name.strip() == "gzip" and not _NEVER.search(parameters) for name, _, parameters in codings)


def content_format(headers: Mapping[str, str]) -> str:
    """FHIR_JSON or FHIR_XML, as the body is said to be. Raises FhirRefusal 415 for anything else, and for JSON not in UTF-8."""
    kind, _, parameters = headers.get("content-type", "").partition(";")
    found = _FORMATS.get(kind.strip().lower(), "") if "/" in kind else ""
    if not found:
        raise FhirRefusal(415, "the body must be application/fhir+json or application/fhir+xml")
    if found == FHIR_JSON:
        _check_charset(headers)
    _check_version(parameters)
    return found


def check_ndjson(headers: Mapping[str, str]) -> None:
    """Raises FhirRefusal 415 unless the body is said to be lines of JSON in UTF-8 of FHIR R4."""
    kind, _, parameters = headers.get("content-type", "").partition(";")
    if kind.strip().lower() not in _NDJSON:
        raise FhirRefusal(415, "the body must be application/fhir+ndjson or application/x-ndjson")
    _check_charset(headers)
    _check_version(parameters)


def _check_charset(headers: Mapping[str, str]) -> None:
    if charset(headers) not in ("", "utf-8", "utf8", "us-ascii"):
        raise FhirRefusal(415, "the body must be in UTF-8 (RFC 8259 8.1)")


def _check_version(parameters: str) -> None:
    if not _speaks(parameters):
        raise FhirRefusal(415, "this server speaks FHIR version 4.0")


def check_form(headers: Mapping[str, str]) -> None:
    """Raises FhirRefusal 415 unless the body is said to be a form."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise FhirRefusal(415, f"the body must be {_FORM}")


def charset(headers: Mapping[str, str]) -> str:
    """As the body's type has it, in lower case; "" where it says nothing."""
    found = _CHARSET.search(headers.get("content-type", ""))
    return found[1].lower() if found else ""


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
