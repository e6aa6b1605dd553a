"""The interactions that read, on the repository's rows: read, vread, search, history (R4 3.1.0). Answers are HTTP's.

`reader` is the proven party that asks, where it may have only the versions that it sent itself: of others' it hears 404, as if there were
none. None: it may have all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from adapters.fhir.entries import Request
from adapters.fhir.instants import http_date, instant
from adapters.fhir.outcome import Answer, FhirRefusal, status_line
from adapters.fhir.rows import LAST_VERSION, Row, Rows
from adapters.fhir.search import DEFAULT_COUNT, MOST, Query, parse_query

COUNTED: Final = 10_000
"""Bundle.total is given up to this many matches; beyond, counting would cost more than it tells."""


def get(rows: Rows, request: Request, reader: str | None = None) -> Answer:
    """A GET entry of a Bundle, or a GET request."""
    if request.version:
        return vread(rows, request.resource_type, request.resource_id, request.version, reader)
    if request.resource_id:
        return read(rows, request.resource_type, request.resource_id, reader)
    query = parse_query(request.resource_type, request.condition or "")._replace(sender=reader)
    return search(rows, query, request.resource_type, request.condition or "")


def read(rows: Rows, resource_type: str, resource_id: str, reader: str | None = None) -> Answer:
    """The current version. Raises FhirRefusal 404, 410."""
    row = _current(rows, resource_type, resource_id)
    if reader not in (None, row.sender):
        raise _no_such(resource_type)
    return _resource(row)


def vread(rows: Rows, resource_type: str, resource_id: str, version: str, reader: str | None = None) -> Answer:
    """One version. Raises FhirRefusal 404, and 410 for the version that deleted it."""
    current = _current(rows, resource_type, resource_id)
    row = rows.version(current, int(version)) if version.isdecimal() and len(version) < 18 else None
    if row is None or reader not in (None, row.sender):
        raise FhirRefusal(404, f"this {resource_type} has no such version")
    return _resource(row)


def _current(rows: Rows, resource_type: str, resource_id: str) -> Row:
    row = rows.by_id(resource_type, resource_id)
    if row is None:
        raise _no_such(resource_type)
    return row


def _no_such(resource_type: str) -> FhirRefusal:
    return FhirRefusal(404, f"there is no such {resource_type}")


def _resource(row: Row) -> Answer:
    headers = {"ETag": f'W/"{row.version}"', "Last-Modified": http_date(row.updated)}
    if row.body is None:
        raise FhirRefusal(410, "the resource was deleted", headers=headers)
    return Answer(200, row.body, headers)


def search(rows: Rows, query: Query, base: str, query_string: str) -> Answer:
    """A searchset Bundle, oldest resource first, paged by next links. `base` is the address without query, for the links."""
    total = rows.count(query, COUNTED + 1) if not query.after else COUNTED + 1
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total <= COUNTED:
        bundle["total"] = total
    links = [{"relation": "self", "url": f"{base}?{query_string}" if query_string else base}]
    bundle["link"] = links
    if query.count_only:
        return Answer(200, orjson.dumps(bundle))
    keys = rows.find(query, query.most + 1)
    if len(keys) > query.most:
        links.append({"relation": "next", "url": _next(base, query_string, "_after", keys[query.most - 1])})
    root = base.removesuffix(query.resource_type)
    bundle["entry"] = [_match(root, query.resource_type, row) for key in keys[: query.most] if (row := rows.by_key(key)) is not None]
    return Answer(200, orjson.dumps(bundle))


def _match(root: str, resource_type: str, row: Row) -> dict[str, Any]:
    return {
        "fullUrl": f"{root}{resource_type}/{row.id}",
        "resource": orjson.Fragment(row.body or b"null"),
        "search": {"mode": "match"},
    }


def _next(base: str, query_string: str, name: str, value: int) -> str:
    kept = [part for part in query_string.split("&") if part and not part.startswith(f"{name}=")]
    return f"{base}?{'&'.join([*kept, f'{name}={value}'])}"


def history(
    rows: Rows, resource_type: str, resource_id: str, base: str, parameters: Sequence[tuple[str, str]], reader: str | None = None
) -> Answer:
    """The versions of one resource, newest first, paged by next links. Raises FhirRefusal 404, 400."""
    current = _current(rows, resource_type, resource_id)
    count, below = _page(parameters)
    found, total = rows.versions(current, below, count + 1, reader), rows.count_versions(current.key, reader)
    if not total:
        raise _no_such(resource_type)
    links = [{"relation": "self", "url": base}]
    if len(found) > count:
        links.append({"relation": "next", "url": f"{base}?_count={count}&_before={found[count - 1].version}"})
    root = base.removesuffix("/_history")
    entries = [_version(root, resource_type, row) for row in found[:count]]
    bundle = {"resourceType": "Bundle", "type": "history", "total": total, "link": links, "entry": entries}
    return Answer(200, orjson.dumps(bundle))


def _page(parameters: Sequence[tuple[str, str]]) -> tuple[int, int]:
    count, below = DEFAULT_COUNT, LAST_VERSION
    for name, value in parameters:
        if name in ("_format", "_pretty"):
            continue
        if name not in ("_count", "_before") or not value.isdecimal():
            raise FhirRefusal(400, "history is paged with _count and its own next links only", issue="not-supported")
        if name == "_count":
            count = max(1, min(int(value), MOST))
        else:
            below = int(value)
    return count, below


def _version(root: str, resource_type: str, row: Row) -> dict[str, Any]:
    url = f"{resource_type}/{row.id}" if row.method != "POST" else resource_type
    status = 204 if row.body is None else 201 if row.version == 1 else 200
    entry: dict[str, Any] = {
        "fullUrl": root,
        "request": {"method": row.method, "url": url},
        "response": {"status": status_line(status), "etag": f'W/"{row.version}"', "lastModified": instant(row.updated)},
    }
    if row.body is not None:
        entry["resource"] = orjson.Fragment(row.body)
    return entry
