"""Reads of the source: read, vread, search, history, each audited (who read what; never what was in it).

With `reads: own` a party has what it sent itself, version by version; of others' resources it hears what it would hear if there were none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred

from adapters.fhir import views
from adapters.fhir.outcome import Answer, FhirRefusal
from adapters.fhir.requests import check_form, decode_body, preference
from adapters.fhir.search import parse_query

if TYPE_CHECKING:
    from adapters.fhir.repository import Reading
    from adapters.fhir.requests import Route
    from engine.contracts import Context
    from engine.http1 import Message
    from engine.http_answers import Sender

_MOST_FORM = 65536


class Reads:
    """`in_thread` runs a function off the reactor thread; `every`: a party may read what others sent."""

    def __init__(self, reading: Reading | None, context: Context, in_thread: Callable[..., Deferred[Any]], *, every: bool) -> None:
        self._reading, self._context, self._in_thread, self._every = reading, context, in_thread, every

    def read(self, found: Route, message: Message, sender: Sender, base: str) -> Deferred[Answer]:
        """Answer a GET, HEAD or POST _search. Raises FhirRefusal; the Deferred fails with it too."""
        reading = self._readable()
        query = found.query
        if found.kind == "search":
            check_form(message.headers)
            form = decode_body(message.body, message.headers, _MOST_FORM).decode("latin-1")
            query = "&".join(part for part in (found.query, form) if part)
        self._audit(found, sender, query)
        name, address, reader = found.resource_type, f"{base}/{found.resource_type}", self._reader(sender)
        if found.kind == "instance":
            answer = self._in_thread(reading.read, views.read, name, found.resource_id, reader)
            return answer.addCallback(_unless_known, message.headers.get("if-none-match", ""))
        if found.kind == "version":
            return self._in_thread(reading.read, views.vread, name, found.resource_id, found.version, reader)
        if found.kind == "history":
            address = f"{address}/{found.resource_id}/_history"
            return self._in_thread(reading.read, views.history, name, found.resource_id, address, found.parameters(), reader)
        wanted = parse_query(name, query, lenient=preference(message.headers, "handling") == "lenient")
        return self._in_thread(reading.read, views.search, wanted._replace(sender=reader), address, query)

    def _reader(self, sender: Sender) -> str | None:
        return None if self._every else sender.peer

    def version(self, location: str, sender: Sender) -> Deferred[Answer]:
        """What a write has made, by its ``Type/id/_history/version``. Raises FhirRefusal 404 without a repository."""
        resource_type, resource_id, _, version = location.split("/")
        return self._in_thread(self._readable().read, views.vread, resource_type, resource_id, version, self._reader(sender))

    @property
    def possible(self) -> bool:
        return self._reading is not None

    def _readable(self) -> Reading:
        if self._reading is None:
            raise FhirRefusal(404, "nothing can be read from this server; it only takes messages", issue="not-supported")
        return self._reading

    def _audit(self, found: Route, sender: Sender, query: str) -> None:
        """Names of search parameters are recorded, their values (identifiers) are not."""
        kind = {"instance": "read", "version": "vread", "history": "history"}.get(found.kind, "search")
        names = ",".join(sorted({name for name, _ in parse_qsl(query, keep_blank_values=True)})) if kind == "search" else ""
        self._context.disclose(
            "fhir.read",
            channel=self._context.name,
            peer=sender.peer,
            remote=sender.remote,
            interaction=kind,
            resource=f"{found.resource_type}/{found.resource_id}" if found.resource_id else found.resource_type,
            parameters=names,
        )


def _unless_known(answer: Answer, known: str) -> Answer:
    """304 where the client already has this version (R4 3.1.0.1.5)."""
    if known and answer.headers.get("ETag") in [tag.strip() for tag in known.split(",")]:
        return Answer(304, b"", answer.headers)
    return answer
