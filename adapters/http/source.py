"""The source ``http``: a server that is posted to. Who posts is known, and whether what is said to be sent is taken, before the body is
read; a signature is verified before anything of it is kept; the answer follows the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.defer import Deferred, fail, inlineCallbacks

from adapters.http.answers import Answers, refusal
from adapters.http.authentication.credentials import Credentials
from adapters.http.authentication.signatures import Signatures
from adapters.http.media import medium
from adapters.http.permission import refusal_of
from adapters.http.reading import MOST_KEY, Arrived, Reading
from engine.errors import ConfigError, StoreError
from engine.http_answers import Answer, HttpRefusal
from engine.http_coding import decoder
from engine.http_server import Limits
from engine.http_source import Reception
from engine.http_uploads import WholeBody
from engine.identity import party_uri
from engine.message import Ack, BodyRef, Envelope, Judgement

if TYPE_CHECKING:
    from collections.abc import Generator

    from engine.contracts import Context, Intake
    from engine.http1 import Message
    from engine.http_answers import Sender
    from engine.http_coding import Decoder
    from engine.http_uploads import Upload
    from engine.options import Settings

THREADS: Final = 4
_QUIET: Final = frozenset({404, 405, 429, 503})
"""Refusals that are no attack."""


class HttpSource:
    """engine.contracts.Source, engine.http_source.Desk"""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        limits = Limits(options.receive_within, options.idle, options.connections, complete_within=options.complete_within)
        shown, auth = options.credentials, options.auth
        vouched = shown is not None and auth is not None and auth.tokens is None and auth.introspection is None
        self._reception = Reception(self, options, context, limits, name="http", title="HTTP", threads=THREADS, vouched=vouched)
        self._answers = Answers(options.answer, context.new_id, context.clock)
        self._credentials = Credentials(shown, context.clock) if shown is not None and (shown.tokens or shown.basic) else None
        self._signatures = Signatures(shown.signature, context.clock) if shown is not None and shown.signature is not None else None
        self._intake: Intake | None = None

    @property
    def port(self) -> int:
        """The port that is listened on (of use where 0 was asked for)."""
        return self._reception.port

    def start(self, intake: Intake) -> Deferred[None]:
        self._intake = intake
        try:
            for secrets in (self._credentials, self._signatures):
                if secrets is not None:
                    secrets.read()
        except ConfigError as error:
            return fail(error)
        return self._reception.start()

    def stop(self) -> Deferred[None]:
        return self._reception.stop()

    # --- requests --------------------------------------------------------------------------------

    def begin(self, start: tuple[str, str, str], headers: Mapping[str, str], sender: Sender) -> Upload | None:
        """Desk"""
        method, target, _ = start
        path, _, query = target.partition("?")
        below = self._below(path)
        if method not in self._options.methods:
            allowed = ", ".join(self._options.methods)
            raise HttpRefusal(405, f"here the method must be one of {allowed}", headers={"Allow": allowed})
        self._check_scope(sender)
        peer, who = self._who(headers, sender)
        if self._signatures is None:
            self._reception.proven(peer, sender)
        found = medium(headers, self._options.content)
        undo: Decoder = decoder(headers, self._options.most_body)
        verifying = self._signatures.begin(headers, undo) if self._signatures is not None else None

        def take(body: bytes | BodyRef) -> Deferred[Answer]:
            if verifying is not None:
                self._signed(peer, sender, body)
            signed_id = verifying.signed_id if verifying is not None else ""
            by_content = verifying is not None and not signed_id
            arrived = Arrived(method, below, query, headers, found, who, peer, sender.remote, self._context.clock(), signed_id, by_content)
            return self._take(body, arrived)

        return WholeBody(self._reception, self._context, verifying or undo, take)

    def answer(self, message: Message, sender: Sender) -> Answer:
        """Desk: never asked, since what is posted is an upload and all else refused."""
        raise HttpRefusal(405, "here nothing can be read")

    def worded(self, refused: HttpRefusal) -> Answer:
        """Desk"""
        if refused.status not in _QUIET and not refused.audited:
            who = refused.sender
            self._context.audit(
                "http.refused",
                channel=self._context.name,
                remote=who.remote if who else "",
                party=who.peer if who else "",
                status=refused.status,
                reason=refused.text,
            )
        return refusal(refused)

    def _below(self, path: str) -> str:
        """What of a path is below `base`. Raises HttpRefusal 404."""
        base = self._reception.base
        if path.rstrip("/") == base:
            return ""
        if not self._options.below or not path.startswith(base + "/"):
            raise HttpRefusal(404, "nothing is taken at this path")
        return path[len(base) + 1 :]

    def _who(self, headers: Mapping[str, str], sender: Sender) -> tuple[str, str]:
        """The proven party, "" for none, and whose idempotency keys these are. Raises HttpRefusal 401, 403."""
        parties = {sender.peer} - {""}
        if self._credentials is not None:
            parties |= _uris(self._credentials.party(headers))
        if self._signatures is not None:
            parties |= _uris(self._signatures.party)
        if len(parties) > 1:
            raise HttpRefusal(403, "certificate, credentials and signature are not those of one party")
        peer = next(iter(parties), "")
        shared = self._credentials is not None or self._signatures is not None  # a sender with many addresses
        return peer, peer or ("" if shared else sender.who)

    def _check_scope(self, sender: Sender) -> None:
        """Raises HttpRefusal 403 (RFC 6750 clause 3.1)."""
        scope = self._options.scope
        if scope and sender.scopes is not None and scope not in sender.scopes:
            challenge = f'Bearer realm="meridian", error="insufficient_scope", scope="{scope}"'
            raise HttpRefusal(403, "the token does not have the scope that is needed here", headers={"WWW-Authenticate": challenge})

    def _signed(self, peer: str, sender: Sender, body: bytes | BodyRef) -> None:
        """Only now it is proven who has sent it. Raises HttpRefusal 403, 429."""
        try:
            self._reception.proven(peer, sender)
        except HttpRefusal as refused:
            refused.sender = sender
            if isinstance(body, BodyRef):
                self._context.unspool(body)
            raise

    # --- one message -----------------------------------------------------------------------------

    @inlineCallbacks
    def _take(self, body: bytes | BodyRef, arrived: Arrived) -> Generator[Deferred[Any], Any, Answer]:
        if body == b"":
            raise HttpRefusal(400, "the request has no body")
        file = self._context.body_file(body) if isinstance(body, BodyRef) else None
        reading = Reading(self._options, arrived, body, file)
        try:
            envelope, fault = reading.envelope() if file is None else (yield self._reception.in_thread(reading.envelope))
            self._check(reading, envelope)
            if fault is None and self._options.auth is not None:
                fault = self._refusal(envelope)
            if self._reception.stopping:
                raise StoreError("the server stops; send again later")
        except BaseException:
            if isinstance(body, BodyRef):
                self._context.unspool(body)
            raise

        def reply(judgement: Judgement) -> bytes:
            return self._answers.reply(envelope, judgement, reading.begin)

        assert self._intake is not None
        ack = cast("Ack", (yield self._intake(envelope, reply, fault)))
        return self._answers.of(envelope, ack)

    def _refusal(self, envelope: Envelope) -> Judgement | None:
        """What the registry says at this moment against the message, which is then kept as refused."""
        refused = refusal_of(self._context.parties().standing(envelope.peer), envelope)
        if refused is not None:
            facts = {"remote": envelope.remote, "party": envelope.peer, "control_id": envelope.control_id[:80], "reason": refused.reason}
            self._context.audit("http.refused", channel=self._context.name, status=str(self._options.answer.refused), **facts)
        return refused

    @staticmethod
    def _check(reading: Reading, envelope: Envelope) -> None:
        """Raises HttpRefusal 400 (draft-ietf-httpapi-idempotency-key-header clause 2.7)."""
        if reading.unkeyed:
            raise HttpRefusal(400, "an idempotency key is missing")
        if len(envelope.idempotency_key.partition("|")[2]) > MOST_KEY:
            raise HttpRefusal(400, f"the idempotency key has more than {MOST_KEY} characters")


def _uris(party: str) -> set[str]:
    return {party_uri(party)} if party else set()
