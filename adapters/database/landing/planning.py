"""What a group of Bundles changes, worked out before anything is written. Pure: the database is a `Known` that answers questions.

Invariants
1. A Bundle is planned whole or, where it is refused, not at all; another's refusal does not touch it.
2. Bundles are planned in their order, each on what those before it have left, so that the outcome does not depend on how they are grouped.
3. Ids and sequence numbers follow from the Bundles and their order alone.
4. A resource whose content is what it was is left as it is: no version, no new sequence number, and the message that last changed it.

The order within a Bundle is that of a FHIR server (R4 3.1.0.11.2): DELETE, POST, PUT; conditions see what the Bundle itself has made;
references by fullUrl and by condition are resolved when all identities are settled.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from adapters.database.landing.requests import ORDER, Incoming, Refused, Request, Search, Token, searched
from engine.formats import fhir

Key = tuple[str, str]
"""Resource type and id."""
_ByValue = dict[tuple[str, str], set[Key]]
"""Type and value of an identifier -> who has it, or had it before."""
_URN_ELEMENTS: Final = frozenset(("url", "uri", "valueUri", "valueUrl", "valueUuid", "valueOid", "valueCanonical"))
_SEARCH: Final = re.compile(r"[A-Z][A-Za-z]{1,63}\?")


class Current(NamedTuple):
    """A resource as it is known: `content_digest` is of its content without version and time."""

    version: int
    deleted: bool
    content_digest: str


class Known(Protocol):
    """What the database has."""

    def current(self, key: Key) -> Current | None: ...

    def holders(self, resource_type: str, token: Token) -> Iterable[str]:
        """Ids of the resources of that type, not deleted, with that identifier."""


@dataclass(slots=True)
class Version:
    """One new version of one resource. `received` is as it came, `content` as it is landed; both None for a deletion."""

    key: Key
    version: int
    method: str
    seq: int = 0
    received: bytes | None = None
    content: dict[str, Any] | None = None
    content_digest: str = ""
    resolved: dict[str, str] = field(default_factory=dict)
    tokens: frozenset[tuple[str, str]] = frozenset()

    @property
    def deleted(self) -> bool:
        return self.content is None


class Planned(NamedTuple):
    """What one Bundle comes to. `first` is the sequence number of the message itself; its versions follow it."""

    first: int
    versions: list[Version]
    created: int
    updated: int
    deleted: int
    unchanged: int


class Group:
    """Plans Bundles one after another. `seq` is the last sequence number given."""

    def __init__(self, known: Known, seq: int) -> None:
        self._known, self.seq = known, seq
        self._changed: dict[Key, Version] = {}
        self._by_value: dict[tuple[str, str], set[Key]] = {}

    def plan(self, incoming: Incoming, name: str) -> Planned:
        """`name` is what no other message has: ids of resources without a name of their own come from it. Raises Refused."""
        transaction = _Transaction(self._known, self._changed, self._by_value, name)
        versions, unchanged = transaction.run(incoming.requests)
        first = self.seq + 1
        for seq, version in enumerate(versions, first + 1):
            version.seq = seq
            self._changed[version.key] = version
            _index(self._by_value, version)
        self.seq = first + len(versions)
        deleted = sum(version.deleted for version in versions)
        created = sum(version.version == 1 for version in versions)
        return Planned(first, versions, created, len(versions) - created - deleted, deleted, unchanged)


@dataclass(slots=True)
class _Settled:
    """What an entry means: the resource it is about, the version it makes (0: it changes nothing)."""

    request: Request
    key: Key
    version: int = 0
    old: Current | None = None


class _Transaction:
    """One Bundle. What it changes is laid over what the group has changed, and that over the database."""

    def __init__(self, known: Known, before: dict[Key, Version], by_value: _ByValue, name: str) -> None:
        self._known, self._name = known, name
        self._own: dict[Key, Version] = {}
        self._by_value: tuple[_ByValue, _ByValue] = ({}, by_value)
        self._changed: MutableMapping[Key, Version] = ChainMap(self._own, before)
        self._identities: dict[str, str] = {}

    def run(self, requests: list[Request]) -> tuple[list[Version], int]:
        """The new versions in the order of the entries, and how many entries change nothing."""
        settled = [self._settle(index, requests[index]) for index in _ordered(requests)]
        written = [self._written(one) for one in settled if one.version]
        versions = [version for version in written if version is not None]
        return versions, len(requests) - len(versions)

    # --- what each entry means -------------------------------------------------------------------

    def _settle(self, index: int, request: Request) -> _Settled:
        settled = {"DELETE": self._delete, "POST": self._create, "PUT": self._update}[request.method](index, request)
        if settled.version:
            self._once(request, settled.key)
            self._own[settled.key] = Version(settled.key, settled.version, request.method, tokens=tokens_of(request.resource))
            _index(self._by_value[0], self._own[settled.key])
            if request.resource is None:
                return settled
            self._own[settled.key].content = request.resource
        if request.full_url and settled.key[1]:
            self._name_it(request.full_url, "/".join(settled.key))
        return settled

    def _name_it(self, url: str, identity: str) -> None:
        self._identities[url] = identity
        if url.startswith("http"):  # entries may also refer to it relative to their own server
            self._identities["/".join(url.rsplit("/", 2)[1:])] = identity

    def _create(self, index: int, request: Request) -> _Settled:
        if request.search is not None and (there := self._match(request.search, request.location)) is not None:
            return _Settled(request, there)
        return _Settled(request, self._new_key(index, request), 1)

    def _new_key(self, index: int, request: Request) -> Key:
        """The UUID that the sender calls it by, where it is not taken; else one that follows from the message."""
        key = (request.resource_type, request.url_id)
        if key[1] and self._current(key) is None:
            return key
        return request.resource_type, sha256(f"{self._name} {index}".encode()).hexdigest()[:32]

    def _update(self, index: int, request: Request) -> _Settled:
        key = (request.resource_type, request.resource_id)
        if request.search is not None:
            given = str((request.resource or {}).get("id", ""))
            there = self._match(request.search, request.location)
            if there is None and given and self._current((request.resource_type, given)) is not None:
                raise Refused("no resource matches the condition, but the id given is taken", location=request.location)
            if there is not None and given and given != there[1]:
                raise Refused("the resource's id is not that of the match", location=request.location)
            key = there or ((request.resource_type, given) if given else self._new_key(index, request))
        old = self._current(key)
        self._check_version(request, old)
        return _Settled(request, key, old.version + 1 if old else 1, old)

    def _delete(self, index: int, request: Request) -> _Settled:
        key: Key | None = (request.resource_type, request.resource_id)
        if request.search is not None:
            key = self._match(request.search, request.location)
        if key:
            self._once(request, key)
        old = self._current(key) if key else None
        self._check_version(request, old)
        if key is None or old is None or old.deleted:
            return _Settled(request, (request.resource_type, ""))
        return _Settled(request, key, old.version + 1, old)

    def _once(self, request: Request, key: Key) -> None:
        if key in self._own:
            raise Refused("two entries of the Bundle are about the same resource", location=request.location)

    def _check_version(self, request: Request, old: Current | None) -> None:
        if request.if_match is not None and (old is None or str(old.version) != request.if_match):
            raise Refused("the resource has another version than ifMatch says", location=request.location)

    def _current(self, key: Key) -> Current | None:
        changed = self._changed.get(key)
        if changed is not None:
            return Current(changed.version, changed.deleted, changed.content_digest)
        return self._known.current(key)

    def _match(self, search: Search, location: str) -> Key | None:
        """The one resource that fits, None where there is none."""
        found: set[str] | None = None
        if search.ids is not None:
            there = ((name, self._current((search.resource_type, name))) for name in search.ids)
            found = {name for name, current in there if current is not None and not current.deleted}
        for term in search.terms:
            fitting = {name for token in term for name in self._holders(search.resource_type, token)}
            found = fitting if found is None else found & fitting
        if found is not None and len(found) > 1:
            raise Refused("several resources match the condition", location=location)
        return (search.resource_type, next(iter(found))) if found else None

    def _holders(self, kind: str, token: Token) -> Iterator[str]:
        yield from (name for name in self._known.holders(kind, token) if (kind, name) not in self._changed)
        for key in {key for index in self._by_value for key in index.get((kind, token.value), ())}:
            version = self._changed.get(key)  # the index also has what they were called before
            if version and any(value == token.value and token.system in (None, system) for system, value in version.tokens):
                yield key[1]

    # --- the new versions ------------------------------------------------------------------------

    def _written(self, settled: _Settled) -> Version | None:
        """None where the content is what it was."""
        version = self._own[settled.key]
        resource = settled.request.resource
        if resource is None:
            return version
        version.received = fhir.dump(resource)
        rest = {name: self._resolved(value, name, version.resolved, settled.request.location) for name, value in resource.items()}
        meta = {name: value for name, value in rest.pop("meta", {}).items() if name not in ("versionId", "lastUpdated")}
        rest.pop("id", None)
        head = {"resourceType": rest.pop("resourceType"), "id": settled.key[1], "meta": meta}
        version.content = {**head, **rest}
        version.content_digest = sha256(fhir.dump(version.content)).hexdigest()
        old = settled.old
        if old is not None and not old.deleted and old.content_digest == version.content_digest:
            del self._own[settled.key]
            return None
        return version

    def _resolved(self, value: Any, name: str, resolved: dict[str, str], location: str) -> Any:
        """A copy with references to entries of this Bundle, and conditional ones, as Type/id; notes in `resolved` what became what."""
        if isinstance(value, dict):
            return {inner: self._resolved(item, inner, resolved, location) for inner, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item, name, resolved, location) for item in value]
        if isinstance(value, str) and (name == "reference" or (name in _URN_ELEMENTS and value.startswith("urn:"))):
            target = self._identities.get(value)
            if target is None and name == "reference" and _SEARCH.match(value):
                target = self._found(value, location)
            if target is not None:
                resolved[value] = target
                return target
        return value

    def _found(self, reference: str, location: str) -> str:
        kind, _, query = reference.partition("?")
        there = self._match(searched(kind, query, location), location)
        if there is None:
            raise Refused(f"no {kind} matches a conditional reference", location=location)
        self._identities[reference] = "/".join(there)
        return self._identities[reference]


def _index(by_value: _ByValue, version: Version) -> None:
    for _, value in version.tokens:
        by_value.setdefault((version.key[0], value), set()).add(version.key)


def _ordered(requests: list[Request]) -> list[int]:
    return sorted(range(len(requests)), key=lambda index: ORDER[requests[index].method])


def tokens_of(resource: Mapping[str, Any] | None) -> frozenset[tuple[str, str]]:
    """(system, value) of the identifiers of a resource, a document's master identifier among them (R4 search parameter identifier)."""
    found = set()
    for element in ("masterIdentifier", "identifier"):
        value = (resource or {}).get(element)
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, dict) and isinstance(item.get("value"), str):
                system = item.get("system")
                found.add((system if isinstance(system, str) else "", item["value"]))
    return frozenset(found)


def wanted(group: Iterable[Incoming]) -> tuple[set[tuple[str, str]], set[Key]]:
    """What the planning of these will most likely ask: (type, value) of identifiers, and resources by id. To be read at once."""
    values: set[tuple[str, str]] = set()
    keys: set[Key] = set()
    for incoming in group:
        for request in incoming.requests:
            if request.search is not None:
                values |= {(request.resource_type, token.value) for term in request.search.terms for token in term}
                keys |= {(request.resource_type, name) for name in request.search.ids or ()}
            names = (request.resource_id, request.url_id if request.method != "DELETE" else "")
            keys |= {(request.resource_type, name) for name in names if name}
    return values, keys
