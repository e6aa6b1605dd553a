"""A Document Consumer's requests: stored queries to a registry (IHE ITI-18), retrievals from repositories into a file (ITI-43)."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.python.failure import Failure

from adapters.soap.xdr.exchange import Request, Secure, query, read_answer, request, security
from engine.errors import ConfigError, DeliveryError, ParseError, PermanentDelivery, TransientDelivery
from engine.formats.soap import kept_form
from engine.formats.soap.names import RELATED
from engine.formats.xds.model import SubmissionSet
from engine.formats.xds.names import APPROVED, FAILURE, PARTIAL, RETRIEVE
from engine.formats.xds.queries import QUERIES, QueryAnswer, Values, write_query
from engine.formats.xds.queries import read_answer as read_query_answer
from engine.formats.xds.responses import TOO_MANY
from engine.formats.xds.retrieval import Wanted, write_retrieval
from engine.http_client import HttpClient
from engine.options import Settings

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message, Sink

SECOND: Final = "%Y%m%d%H%M%S"
"""DTM with seconds."""
_SUFFIX: Final = ".retrieved"


class Asking:
    """All methods belong to the reactor thread. They fail with a DeliveryError: what a refusal means, and what cannot be read."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._secure: Secure | None = None
        self._registry = self._client(options.url)
        self._repositories = {oid: (url, self._client(url)) for oid, url in options.repositories.items()}

    def _client(self, url: str) -> HttpClient:
        return HttpClient(Settings(self._options._spec, {**self._options, "url": url}), self._context)

    def open(self) -> None:
        """Raises ConfigError."""
        self._secure = security(self._options.security, self._context)
        for rest in self._context.data.glob(f"{self._prefix}*{_SUFFIX}"):  # of a process that was killed
            rest.unlink(missing_ok=True)
        for client in self._clients():
            client.open()

    def close(self) -> Deferred[Any]:
        return DeferredList([client.close() for client in self._clients()], consumeErrors=True)

    def _clients(self) -> list[HttpClient]:
        return [self._registry, *(client for _, client in self._repositories.values())]

    @property
    def _prefix(self) -> str:
        return f"xds-{self._context.name.replace('/', '-')}-"

    def _new_id(self) -> str:
        return f"{self._context.name}/{self._context.new_id()}"

    # --- ITI-18 ----------------------------------------------------------------------------------------

    def query(self, name: str, parameters: Mapping[str, Values], *, leaves: bool = True) -> Deferred[QueryAnswer]:
        """One of engine.formats.xds.queries.QUERIES. Whole objects, or only their ids; none, and TOO_MANY among the codes of the response,
        where they would be too many."""
        payload = write_query(name, parameters, leaves=leaves, home=self._options.home or "")
        out = query(self._options.url, QUERIES[name].action, payload, self._new_id(), self._secure)
        return self._sent(self._registry, out).addCallback(self._answered)

    @inlineCallbacks
    def sets(self, patient: str, since: str, until: str) -> Generator[Deferred[Any], Any, tuple[list[SubmissionSet], bool]]:
        """(the approved submission sets of a patient, whether these are all), from `since` up to, but without, `until` (DTM). Where a time
        has too many for one answer, one half of it after the other."""
        parameters = {
            "$XDSSubmissionSetPatientId": patient,
            "$XDSSubmissionSetStatus": [APPROVED],
            "$XDSSubmissionSetSubmissionTimeFrom": since,
            "$XDSSubmissionSetSubmissionTimeTo": until,
        }
        answer: QueryAnswer = yield self.query("FindSubmissionSets", parameters)
        if TOO_MANY not in answer.response.codes:
            return [one for one in answer.submission.sets if one.id], answer.response.status != PARTIAL
        middle = _middle(since, until)
        if middle == since:
            raise PermanentDelivery("the registry has too many submission sets of one second")
        older, all_older = yield self.sets(patient, since, middle)
        newer, all_newer = yield self.sets(patient, middle, until)
        return [*older, *newer], all_older and all_newer

    def _sent(self, client: HttpClient, out: Request, begin: Any = None) -> Deferred[Message]:
        return client.request("POST", client.path or "/", out.headers, out.pieces(), begin)

    def _answered(self, message: Message) -> QueryAnswer:
        answer = read_answer(message, self._context.clock)
        try:
            found = read_query_answer(answer.payload)
        except ParseError as error:
            raise PermanentDelivery(f"the registry's answer cannot be read: {error.text}") from None
        if found.response.status == FAILURE and TOO_MANY not in found.response.codes:
            codes = ", ".join(dict.fromkeys(one.code for one in found.response.errors)) or "no error code"
            kind = TransientDelivery if found.response.is_transient else PermanentDelivery
            raise kind(f"the registry does not answer the query: {codes}")
        return found

    # --- ITI-43 ----------------------------------------------------------------------------------------

    def retrieve(self, repository: str, documents: Sequence[Wanted]) -> Deferred[Path]:
        """The answer, in the form in which messages are kept, in a file that the caller removes."""
        if repository not in self._repositories:
            raise ConfigError(f"the option repositories has no address for {repository}")
        url, client = self._repositories[repository]
        out = request(url, RETRIEVE, write_retrieval(documents), self._new_id(), (), self._secure)
        into = _Into(self._context.data, self._prefix, self._options.most_retrieved)
        sent = self._sent(client, out, into.begin)
        return sent.addCallback(self._retrieved, into).addErrback(into.failed)

    def _retrieved(self, message: Message, into: _Into) -> Path:
        if into.file is None:  # not 200: a fault, or a refusal
            read_answer(message, self._context.clock)
            raise PermanentDelivery("the repository's answer is no retrieval")
        return into.finish()


def _middle(since: str, until: str) -> str:
    begin, end = (datetime.strptime(one, SECOND).replace(tzinfo=UTC) for one in (since, until))
    return (begin + (end - begin) // 2).strftime(SECOND)


class _Into:
    """Takes an answer's body as it comes."""

    def __init__(self, folder: Path, prefix: str, most: int) -> None:
        self._folder, self._prefix, self._left = folder, prefix, most
        self.file: BinaryIO | None = None

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str]) -> Sink | None:
        if start[1] != "200":
            return None
        said = headers.get("content-type", "")
        try:
            made = tempfile.NamedTemporaryFile(dir=self._folder, prefix=self._prefix, suffix=_SUFFIX, delete=False)  # noqa: SIM115
            self.file = cast("BinaryIO", made)
            if said.lower().startswith(RELATED):
                self.file.write(kept_form(said))
        except OSError as error:
            raise TransientDelivery(f"an answer cannot be kept: {error.strerror}") from None
        except ParseError as error:
            raise PermanentDelivery(error.text) from None
        return self._take

    def _take(self, data: bytes) -> None:
        assert self.file is not None
        self._left -= len(data)
        if self._left < 0:
            raise PermanentDelivery("the repository's answer is larger than allowed")
        try:
            self.file.write(data)
        except OSError as error:
            raise TransientDelivery(f"an answer cannot be kept: {error.strerror}") from None

    def finish(self) -> Path:
        assert self.file is not None
        self.file.close()
        return Path(self.file.name)

    def failed(self, failure: Failure) -> Failure:
        if self.file is not None:
            self.file.close()
            Path(self.file.name).unlink(missing_ok=True)
        failure.trap(DeliveryError, ConfigError)
        return failure
