"""Tokens of another authorization server, which is asked about each (RFC 7662)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import orjson
from twisted.internet.defer import Deferred, DeferredSemaphore

from engine.entry.tokens import Grant
from engine.errors import DeliveryError
from engine.http_answers import HttpRefusal
from engine.http_client import HttpClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from engine.contracts import Context
    from engine.http1 import Message
    from engine.options import Settings
    from engine.parties.snapshot import Standing

MOST_REMEMBERED: Final = 10_000
MOST_ASKED: Final = 1000
"""Tokens that are being asked about: who invents them, and does not wait for the answer, fills no memory."""
_HEADERS: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_LATER: Final = {"Retry-After": "5"}


class Introspection:
    """Asks, once for each token at a time, and believes what it hears for a moment, also that a token is not active. While the server does
    not answer as it should nobody is let in by what it would have to say. `standing` finds a party by its id."""

    def __init__(self, options: Settings, context: Context, standing: Callable[[str], Standing | None]) -> None:
        self._options, self._context, self._standing = options, context, standing
        self._client = HttpClient(options, context)
        self._turns = DeferredSemaphore(options.connections)
        parts = urlsplit(options.url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._known: OrderedDict[str, tuple[int, Grant | None]] = OrderedDict()
        self._asked: dict[str, list[Deferred[Grant | None]]] = {}

    def open(self) -> None:
        """Raises ConfigError."""
        self._client.open()

    def close(self) -> Deferred[None]:
        return self._client.close()

    def find(self, token: str) -> Grant | Deferred[Grant | None] | None:
        """What the token is good for, None where nothing. Raises, or fails with, HttpRefusal 503."""
        now = self._context.clock()
        until, grant = self._known.get(token, (0, None))
        if until > now:
            return grant
        if token not in self._asked and len(self._asked) >= MOST_ASKED:
            raise _cannot_tell()
        waiting: Deferred[Grant | None] = Deferred()
        asked = self._asked.setdefault(token, [])
        asked.append(waiting)
        if len(asked) == 1:
            self._turns.run(self._ask, token).addCallback(self._read, token).addErrback(self._failed).addBoth(self._tell, token)
        return waiting

    def _ask(self, token: str) -> Deferred[Message]:
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        return self._client.request("POST", self._target, _HEADERS, body)

    def _read(self, message: Message, token: str) -> Grant | None:
        said = _json(message.body) if message.start[1] == "200" else None
        if said is None or not isinstance(said.get("active"), bool):
            self._context.log.error(
                "the introspection endpoint does not answer as it should",
                extra={"channel": self._context.name, "status": message.start[1]},
            )
            raise _cannot_tell()
        grant = self._grant(said) if said["active"] else None
        now = self._context.clock()
        until = now + int(self._options.cache * 1e6)
        self._known[token] = (until if grant is None else min(until, grant.until), grant)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return grant

    def _grant(self, said: dict[str, Any]) -> Grant | None:
        """None where the token is not for us, nobody's whom we know, or over."""
        named = said.get("aud")
        if self._options.audience and self._options.audience not in (named if isinstance(named, list) else [named]):
            return None
        party = next((one for name in ("client_id", "sub") if (one := self._party(said.get(name))) is not None), None)
        expires, bound, scope = said.get("exp"), said.get("cnf", {}), said.get("scope")
        if party is None or not isinstance(bound, dict) or not isinstance(expires, int | float | None):
            return None
        certificate = bound.get("x5t#S256", "")
        if not isinstance(certificate, str) or bound.keys() - {"x5t#S256"}:
            return None  # bound to what cannot be checked here
        until = int(expires * 1e6) if expires is not None else self._context.clock() + int(self._options.cache * 1e6)
        scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset()
        return Grant(party.id, scopes, certificate, until) if until > self._context.clock() else None

    def _party(self, name: Any) -> Standing | None:
        return self._standing(name) if isinstance(name, str) and name else None

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(DeliveryError):
            self._context.log.error(
                "the introspection endpoint cannot be asked", extra={"channel": self._context.name, "reason": str(failure.value)}
            )
            raise _cannot_tell() from None
        return failure

    def _tell(self, result: Any, token: str) -> None:
        for waiting in self._asked.pop(token):
            waiting.callback(result)  # a failure is a failure to each


def _cannot_tell() -> HttpRefusal:
    return HttpRefusal(503, "the authorization server cannot be asked; try again later", headers=_LATER)


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
