"""The interactions that change resources, on the repository's rows: transaction and batch Bundles (R4 3.1.0.11).

A transaction goes in two passes. The first settles what every entry means, in the order DELETE, POST, PUT: conditions are matched,
identities checked for overlap, ids and versions given, tokens indexed (so that a later condition sees them). The second knows all
new identities: it rewrites references, then writes. GET entries are read last. Any refusal undoes the whole, which is the caller's
savepoint. A batch is one such transaction for each entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from adapters.fhir import exact, views
from adapters.fhir.entries import METHODS, Request, read_entry, read_url
from adapters.fhir.instants import instant
from adapters.fhir.outcome import Answer, FhirRefusal, status_line
from adapters.fhir.parameters import references, tokens
from adapters.fhir.resource_types import RESOURCE_TYPES
from adapters.fhir.rows import Row, Rows
from adapters.fhir.search import parse_query
from engine.formats import fhir

# References that may need rewriting, in JSON as `dump` writes it (no white space). Inside a JSON string every quotation mark is
# escaped, so the patterns cannot match in a text.
_REFERENCE: Final = re.compile(rb'"reference":"((?:[^"\\]|\\.)*)"')
_URN: Final = re.compile(rb'"(url|uri|valueUri|valueUrl|valueUuid|valueOid|valueCanonical)":"(urn:[^"\\]*)"')


@dataclass(slots=True)
class _Change:
    """What one entry comes to. `old` is the version that it replaces."""

    request: Request
    status: int
    key: int = 0
    id: str = ""
    version: int = 0
    old: Row | None = None
    row: Row | None = None  # what is there already, where nothing is changed
    writes: bool = False


class Interactions:
    """Applies Bundles. `new_id` gives ids for new resources, valid as FHIR ids, best rising with time. `reads_all`: a Bundle's GET
    entries see what others sent, too."""

    def __init__(self, rows: Rows, new_id: Callable[[], str], *, reads_all: bool = True) -> None:
        self._rows, self._new_id, self._reads_all = rows, new_id, reads_all

    def apply(self, body: bytes, now: int, sender: str = "") -> Answer:
        """Carry a transaction or batch Bundle of the party `sender` out at time `now` (microseconds UTC).
        Raises FhirRefusal, ParseError."""
        bundle = exact.parse(body)
        entries = bundle.get("entry", [])
        if bundle.get("resourceType") != "Bundle" or bundle.get("type") not in ("transaction", "batch"):
            raise FhirRefusal(422, "only transaction and batch Bundles can be applied", issue="not-supported", location="Bundle.type")
        if not isinstance(entries, list):
            raise FhirRefusal(400, "entry must be a list", issue="structure", location="Bundle.entry")
        if bundle["type"] == "transaction":
            parts = self._begin(now, sender).run([read_entry(entry, index) for index, entry in enumerate(entries)])
        else:
            parts = [self._alone(entry, index, now, sender) for index, entry in enumerate(entries)]
        return Answer(200, orjson.dumps({"resourceType": "Bundle", "type": f"{bundle['type']}-response", "entry": parts}))

    def _begin(self, now: int, sender: str) -> _Transaction:
        return _Transaction(self._rows, self._new_id, now, sender, None if self._reads_all else sender)

    def _alone(self, entry: Any, index: int, now: int, sender: str) -> dict[str, Any]:
        self._rows.savepoint()
        try:
            part = self._begin(now, sender).run([read_entry(entry, index)])[0]
        except FhirRefusal as refused:
            self._rows.undo()
            return {"response": {"status": status_line(refused.status), "outcome": orjson.Fragment(refused.answer().body)}}
        self._rows.keep()
        return part


class _Transaction:
    """One transaction under way."""

    def __init__(self, rows: Rows, new_id: Callable[[], str], now: int, sender: str, reader: str | None) -> None:
        self._rows, self._new_id, self._now, self._sender, self._reader = rows, new_id, now, sender, reader
        self._stamp = instant(now)
        self._touched: set[tuple[str, str]] = set()
        self._created: dict[int, _Change] = {}
        self._identities: dict[str, str] = {}  # fullUrl or conditional reference -> Type/id

    def run(self, requests: list[Request]) -> list[dict[str, Any]]:
        changes: dict[int, _Change] = {}
        for index in sorted(range(len(requests)), key=lambda index: METHODS[requests[index].method]):
            request = requests[index]
            if request.method != "GET":
                changes[index] = self._settle(request)
        self._write(list(changes.values()))
        return [self._response(changes[index]) if index in changes else self._get(request) for index, request in enumerate(requests)]

    # --- first pass: what each entry means ---------------------------------------------------------

    def _settle(self, request: Request) -> _Change:
        change = {"DELETE": self._delete, "POST": self._create, "PUT": self._update}[request.method](request)
        if change.writes:
            identity = (request.resource_type, change.id)
            if identity in self._touched:
                raise _twice(request)
            self._touched.add(identity)
        if request.full_url and change.id:
            identity_now = f"{request.resource_type}/{change.id}"
            self._identities[request.full_url] = identity_now
            if request.full_url.startswith("http"):  # entries may also refer to it relative to their own server
                self._identities["/".join(request.full_url.rsplit("/", 2)[1:])] = identity_now
        return change

    def _create(self, request: Request) -> _Change:
        if request.if_none_exist is not None:
            there = self._match(request, request.if_none_exist.removeprefix("?"))
            if there is not None:
                return there
        return self._new(request, self._new_id())

    def _new(self, request: Request, resource_id: str) -> _Change:
        change = _Change(request, 201, self._rows.new_key(), resource_id, 1, writes=True)
        self._created[change.key] = change
        self._rows.index_new(change.key, tokens(request.resource or {}))
        return change

    def _update(self, request: Request) -> _Change:
        if request.condition is None:
            old = self._rows.by_id(request.resource_type, request.resource_id)
            return self._replace(request, old, request.resource_id)
        there = self._match(request, request.condition)
        given = (request.resource or {}).get("id", "")
        if there is None:
            if given and self._rows.by_id(request.resource_type, given) is not None:
                raise FhirRefusal(409, "no resource matches the condition, but the id given is taken", location=request.location)
            return self._replace(request, None, given or self._new_id())
        if given and given != there.id:
            raise FhirRefusal(400, "the resource's id is not that of the match", issue="invalid", location=request.location)
        if there.row is None:
            raise _twice(request)
        return self._replace(request, there.row, there.id)

    def _replace(self, request: Request, old: Row | None, resource_id: str) -> _Change:
        self._check_version(request, old)
        if old is None:
            return self._new(request, resource_id)
        change = _Change(request, 201 if old.body is None else 200, old.key, old.id, old.version + 1, old, writes=True)
        before = set(tokens(orjson.loads(old.body))) if old.body is not None else set()
        self._rows.reindex(old.key, before, set(tokens(request.resource or {})))
        return change

    def _delete(self, request: Request) -> _Change:
        if request.condition is None:
            old = self._rows.by_id(request.resource_type, request.resource_id)
        else:
            there = self._match(request, request.condition)
            old = there.row if there is not None else None
        self._check_version(request, old)
        if old is None or old.body is None:
            return _Change(request, 204)
        resource = orjson.loads(old.body)
        self._rows.reindex(old.key, {*tokens(resource), *references(resource, {})}, set())
        return _Change(request, 204, old.key, old.id, old.version + 1, old, writes=True)

    def _check_version(self, request: Request, old: Row | None) -> None:
        if request.if_match is not None and (old is None or str(old.version) != request.if_match):
            raise FhirRefusal(412, "the resource has another version than If-Match says", location=request.location)

    def _match(self, request: Request, condition: str) -> _Change | None:
        """The one resource that a condition is about, None where there is none."""
        keys = self._rows.match(parse_query(request.resource_type, condition, condition=True))
        if len(keys) > 1:
            raise FhirRefusal(412, "several resources match the condition", issue="multiple-matches", location=request.location)
        if not keys:
            return None
        made = self._created.get(keys[0])
        if made is not None:
            return _Change(request, 200, made.key, made.id, made.version)
        row = self._rows.by_key(keys[0])
        return None if row is None else _Change(request, 200, row.key, row.id, row.version, row=row)

    # --- second pass: rewrite and write -------------------------------------------------------------

    def _write(self, changes: list[_Change]) -> None:
        writing = [(change, self._dump(change) if change.request.resource is not None else None) for change in changes if change.writes]
        for _, body in writing:
            if body is not None and b"?" in body:
                self._resolve(body)
        created = []
        for change, body in writing:
            final = None if body is None else self._finish(change, body)
            if change.old is None:
                method, name = change.request.method, change.request.resource_type
                created.append((change.key, name, change.id, 1, self._now, method, final or b"", self._sender))
            else:
                self._rows.update(change.key, change.version, self._now, change.request.method, final, self._sender)
        self._rows.create(created)

    def _finish(self, change: _Change, body: bytes) -> bytes:
        """The body with its references rewritten; they are indexed as well."""
        self._index_references(change)
        body = _REFERENCE.sub(self._rewrite, body)
        return _URN.sub(self._rewrite_urn, body) if b'":"urn:uuid:' in body else body

    def _dump(self, change: _Change) -> bytes:
        """The resource as it is kept: id and meta first, everything else as it came."""
        resource = dict(change.request.resource or {})
        meta = resource.pop("meta", {})
        resource.pop("id", None)
        head = {
            "resourceType": resource.pop("resourceType"),
            "id": change.id,
            "meta": {**meta, "versionId": str(change.version), "lastUpdated": self._stamp},
        }
        return fhir.dump({**head, **resource})

    def _resolve(self, body: bytes) -> None:
        """Find what conditional references (``Patient?identifier=…``) are about, after all identities are settled."""
        for quoted in _REFERENCE.findall(body):
            reference = _text(quoted)
            if reference.partition("?")[0] in RESOURCE_TYPES and "?" in reference and reference not in self._identities:
                target = read_url("GET", reference)
                there = self._match(target, target.condition or "")
                if there is None:
                    raise FhirRefusal(412, f"no {target.resource_type} matches a conditional reference", issue="not-found")
                self._identities[reference] = f"{target.resource_type}/{there.id}"

    def _rewrite(self, match: re.Match[bytes]) -> bytes:
        target = self._identities.get(_text(match[1]))
        return match[0] if target is None else b'"reference":"%b"' % target.encode()

    def _rewrite_urn(self, match: re.Match[bytes]) -> bytes:
        target = self._identities.get(match[2].decode())
        return match[0] if target is None else b'"%b":"%b"' % (match[1], target.encode())

    def _index_references(self, change: _Change) -> None:
        after = references(change.request.resource or {}, self._identities)
        if change.old is None or change.old.body is None:
            self._rows.index(change.key, after)
            return
        self._rows.reindex(change.key, set(references(orjson.loads(change.old.body), {})), set(after))

    # --- answering -----------------------------------------------------------------------------------

    def _response(self, change: _Change) -> dict[str, Any]:
        response: dict[str, Any] = {"status": status_line(change.status)}
        if change.id and change.request.method != "DELETE":
            response["location"] = f"{change.request.resource_type}/{change.id}/_history/{change.version}"
        if change.version:
            response["etag"] = f'W/"{change.version}"'
            response["lastModified"] = self._stamp if change.row is None else instant(change.row.updated)
        return {"response": response}

    def _get(self, request: Request) -> dict[str, Any]:
        """A read or search within the Bundle; it sees what the Bundle has changed."""
        self._rows.flush()
        answer = views.get(self._rows, request, self._reader)
        response: dict[str, Any] = {"status": status_line(answer.status)}
        if "ETag" in answer.headers:
            response["etag"] = answer.headers["ETag"]
        return {"resource": orjson.Fragment(answer.body), "response": response}


def _twice(request: Request) -> FhirRefusal:
    return FhirRefusal(400, "two entries of the Bundle are about the same resource", issue="duplicate", location=request.location)


def _text(quoted: bytes) -> str:
    """What stands between the quotation marks of a JSON string."""
    return orjson.loads(b'"' + quoted + b'"') if b"\\" in quoted else quoted.decode()
