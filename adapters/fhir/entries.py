"""Bundle.entry read as requests (R4 2.36.4): what each one asks for, checked before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.fhir.outcome import FhirRefusal
from adapters.fhir.resource_types import ID, RESOURCE_TYPES

METHODS: Final = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3}
"""The methods carried out, with their place in the processing order of a transaction (R4 3.1.0.11.2)."""

_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')


@dataclass(slots=True)
class Request:
    """One entry's request. `resource_id` "" and `condition` None where the url has none; `if_match` is a version id."""

    method: str
    resource_type: str
    resource_id: str = ""
    version: str = ""
    condition: str | None = None
    if_match: str | None = None
    if_none_exist: str | None = None
    resource: dict[str, Any] | None = None
    full_url: str = ""
    location: str = ""


def check_entry(entry: Any, index: int) -> None:
    """Raises FhirRefusal as `read_entry` does. Quick for what is plainly right: a create or conditional update of its own type."""
    try:
        asked, resource = entry["request"], entry["resource"]
        name = asked["url"].partition("?")[0]
        plain = name == resource["resourceType"] and (asked["method"] == "POST") == (name == asked["url"])
        plain = plain and len(asked) == 2 and "id" not in resource and isinstance(resource.get("meta", {}), dict)
    except (TypeError, KeyError, AttributeError):
        plain = False
    if not plain or name not in RESOURCE_TYPES or asked["method"] not in ("POST", "PUT"):
        read_entry(entry, index)


def read_entry(entry: Any, index: int) -> Request:
    """Raises FhirRefusal (400, 404 for an unknown type) with the entry's place."""
    location = f"Bundle.entry[{index}]"
    asked = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(asked, dict) or not isinstance(asked.get("url"), str):
        raise FhirRefusal(400, "each entry needs a request with method and url", issue="required", location=location)
    method = asked.get("method")
    if not isinstance(method, str) or method not in METHODS:
        raise FhirRefusal(400, "the method of an entry must be GET, POST, PUT or DELETE", issue="not-supported", location=location)
    request = read_url(method, asked["url"], location)
    request.if_match = _optional(asked, "ifMatch", location)
    request.if_none_exist = _optional(asked, "ifNoneExist", location)
    request.full_url = _optional(entry, "fullUrl", location) or ""
    if request.if_match is not None:
        request.if_match = version_of(request.if_match, location)
    if method in ("POST", "PUT"):
        request.resource = body_of(request, entry.get("resource"))
    return request


def _optional(element: Mapping[str, Any], name: str, location: str) -> str | None:
    value = element.get(name)
    if value is not None and not isinstance(value, str):
        raise FhirRefusal(400, f"{name} must be a string", issue="structure", location=location)
    return value


def read_url(method: str, url: str, location: str = "") -> Request:
    """``Type``, ``Type/id``, ``Type/id/_history/version`` or ``Type?condition``, relative to the base."""
    path, mark, query = url.lstrip("/").partition("?")
    parts = path.split("/")
    if parts[0] not in RESOURCE_TYPES:
        raise FhirRefusal(404, "the url names no resource type of FHIR R4", issue="not-supported", location=location)
    request = Request(method, parts[0], condition=query if mark else None, location=location)
    if len(parts) > 1:
        if not ID.fullmatch(parts[1]):
            raise FhirRefusal(400, "the url has no valid resource id", issue="value", location=location)
        request.resource_id = parts[1]
    if len(parts) == 4 and parts[2] == "_history":
        request.version = parts[3]
    if not _shape_fits(request, parts):
        raise FhirRefusal(400, f"a {method} needs another form of url", issue="not-supported", location=location)
    return request


def _shape_fits(request: Request, parts: list[str]) -> bool:
    if request.method == "POST":
        return len(parts) == 1 and request.condition is None
    if request.method == "GET":
        return len(parts) <= 2 or bool(request.version)
    return len(parts) == 2 or (len(parts) == 1 and request.condition is not None)


def version_of(etag: str, location: str = "") -> str:
    """The version id in ``W/"3"``."""
    match = _ETAG.fullmatch(etag.strip())
    if match is None:
        raise FhirRefusal(400, 'If-Match needs the form W/"3"', issue="value", location=location)
    return match[1]


def body_of(request: Request, resource: Any) -> dict[str, Any]:
    """The resource of a create or update, if it fits the url."""
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise FhirRefusal(400, "a resource is required", issue="required", location=_place(request))
    if resource["resourceType"] != request.resource_type:
        raise FhirRefusal(400, "resourceType does not match the url", issue="invalid", location=_place(request))
    given = resource.get("id")
    if given is not None and not (isinstance(given, str) and ID.fullmatch(given)):
        raise FhirRefusal(400, "the resource has no valid id", issue="value", location=_place(request, ".id"))
    if request.method == "PUT" and request.resource_id and given != request.resource_id:
        text = "the resource's id does not match the url" if given else "an update needs the resource's id in the resource"
        raise FhirRefusal(400, text, issue="invalid", location=_place(request, ".id"))
    meta = resource.get("meta", {})
    if not isinstance(meta, dict):
        raise FhirRefusal(400, "meta must be an object", issue="structure", location=_place(request, ".meta"))
    return resource


def _place(request: Request, element: str = "") -> str:
    """In FHIRPath: of the Bundle that an entry is in, or of a resource that comes alone."""
    return f"{request.location}.resource{element}" if request.location else f"{request.resource_type}{element}"
