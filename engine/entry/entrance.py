"""Who may enter: each request of a source that is an HTTP server is one of a registered party, by certificate or token.

    certificate   shown in the handshake, names a party
    token         ``Authorization: Bearer``, of our own token endpoint or of a server that is asked about it
    both          the token's party is that of the certificate or belongs to it, and a token that is bound to a certificate is shown with it
    neither       a source with proofs of its own (`vouched`: shared secrets, signatures) asks `admit` about the party that they are of

The party is looked up in the registry at each request, on connections that are open too: one that is disabled, or belongs to one that
is, hears no at the very next. Every refusal is audited; a token, or a part of one, is in no record and no log.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from os import urandom
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed

from engine.entry.authorization_server import AuthorizationServer
from engine.entry.introspection import Introspection
from engine.entry.rates import Rates
from engine.entry.tokens import Grant, Tokens
from engine.http_answers import Answer, HttpRefusal, Sender
from engine.identity import party_uri

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message
    from engine.options import Settings
    from engine.parties.snapshot import Standing

Page = Callable[["Message", Sender], "Answer | Deferred[Answer]"]
"""Answers a request that the entrance takes itself: its body is small, and nobody is asked who it is from."""

CONFIGURATION: Final = "/.well-known/smart-configuration"
_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9\-._~+/]{1,4096}=*)", re.IGNORECASE)
_IN_QUERY: Final = re.compile(r"[?&]access_token(?:=|&|$)")
_RATES: Final = "engine.entry.rates"


class Entrance:
    """All on the reactor thread. `options` are those of the source, with `auth`;
    `base` is the path below which it answers, `public` are the
    paths below it that anybody may ask for. `name` is that of the adapter in metrics and audit records. `vouched`: Authorization, and who
    shows no certificate, is the matter of the source."""

    def __init__(
        self,
        options: Settings,
        context: Context,
        *,
        name: str,
        base: str,
        public: Collection[str],
        in_thread: Callable[..., Deferred[Any]],
        vouched: bool = False,
        random: Callable[[int], bytes] = urandom,
    ) -> None:
        self._options, self._auth, self._context = options, options.auth, context
        self._name, self._base, self._random, self._in_thread = name, base, random, in_thread
        self._public, self._vouched = frozenset(base + path for path in public), vouched
        self._rates: Rates = context.shared.setdefault(_RATES, Rates())
        self._tokens: Tokens | None = None
        self._outside: Introspection | None = None
        self.pages: Mapping[str, Page] = {}
        """By their paths, from the root."""

    def open(self) -> None:
        """Raises StoreError, ConfigError."""
        if self._auth.introspection is not None:
            self._outside = Introspection(self._auth.introspection, self._context, self._standing)
            self._outside.open()
        if self._auth.tokens is not None:
            self._tokens = Tokens(self._context.data, self._context.name, self._context.clock, self._random)
            server = self._server(self._tokens)
            self.pages = {f"{self._base}/token": server.token, self._base + CONFIGURATION: server.configuration}

    def _server(self, tokens: Tokens) -> AuthorizationServer:
        tls = self._options.tls
        return AuthorizationServer(
            self._auth.tokens,
            self._context,
            tokens,
            name=self._name,
            url=self._options.public_url,
            binds=tls is not None and tls.client_auth != "none",
            standing=self._standing,
            vouches=self._refuses,
            count=self._count,
            in_thread=self._in_thread,
        )

    def close(self) -> Deferred[None]:
        """Let go of files and connections. May be called again."""
        tokens, self._tokens = self._tokens, None
        outside, self._outside = self._outside, None
        if tokens is not None:
            tokens.close()
        return outside.close() if outside is not None else succeed(None)

    # --- requests --------------------------------------------------------------------------------

    def enter(self, target: str, headers: Mapping[str, str], shown: Sender) -> Sender | Deferred[Sender]:
        """Who a request is from: `shown` with the proven party. `headers` by lower-case name. Raises, or fails with, HttpRefusal: 400
        malformed, 401 not proven, 403 may not enter, 503 cannot be told now. May be asked several times for one request."""
        if target.partition("?")[0] in self._public:
            return shown
        if _IN_QUERY.search(target):
            raise self._refusal(400, "invalid_request", "a token is never part of an address (RFC 6750 clause 2.3)", shown)
        said = headers.get("authorization")
        if said is None or self._vouched:
            return shown if self._vouched and not shown.peer else self._by_certificate(shown)
        token = _BEARER.fullmatch(said)
        if token is None:
            raise self._refusal(400, "invalid_request", "Authorization is one Bearer token (RFC 6750 clause 2.1)", shown)
        grant = self._find(token[1])
        if isinstance(grant, Deferred):
            return grant.addCallback(self._by_token, shown)
        return self._by_token(grant, shown)

    def _find(self, token: str) -> Grant | Deferred[Grant | None] | None:
        if self._tokens is not None:
            return self._tokens.find(token)
        return self._outside.find(token) if self._outside is not None else None

    def _by_certificate(self, shown: Sender) -> Sender:
        if not shown.peer or not self._auth.certificates:
            raise self._refusal(401, "", "prove who you are: by a token, or by the certificate of a registered party", shown)
        party = self._standing(shown.peer)
        if party is None:
            raise self._refusal(403, "", "the party of this certificate is not registered", shown)
        if reason := self._refuses(party, shown):
            raise self._refusal(403, "", reason, shown, party.id)
        return replace(shown, peer=party_uri(party.id))  # its certificate may have a name of its own

    def _by_token(self, grant: Grant | None, shown: Sender) -> Sender:
        if grant is None:
            raise self._refusal(401, "invalid_token", "the token is not known, or has expired", shown)
        if grant.certificate and grant.certificate != shown.certificate:
            raise self._refusal(401, "invalid_token", "the token is bound to a certificate, and was shown without it", shown, grant.party)
        party = self._standing(grant.party)
        if party is None:
            raise self._refusal(401, "invalid_token", "the party of this token is not registered", shown, grant.party)
        if reason := self._refuses(party, shown):
            raise self._refusal(401, "invalid_token", reason, shown, party.id)
        return Sender(party_uri(party.id), shown.remote, grant.scopes, shown.certificate)

    def admit(self, peer: str, shown: Sender) -> None:
        """`peer` is the party that a source with proofs of its own has proven, beside the certificate in `shown`. Raises HttpRefusal 401,
        403, 429."""
        if not self._vouched:
            return
        party = self._standing(peer) if peer else None
        if party is None:
            raise self._refusal(403 if peer else 401, "", "the party of these credentials is not registered", shown)
        if reason := self._refuses(party, shown):
            raise self._refusal(403, "", reason, shown, party.id)
        if not shown.peer:
            self._count(party)

    def _refuses(self, party: Standing, shown: Sender) -> str:
        """Why a party may not enter with the certificate that is shown, or without one, "" where it may."""
        if (reason := party.barred(self._context.name)) or not shown.peer:
            return reason
        proven = self._standing(shown.peer)
        return "" if proven is not None and proven.id in party.within else "the certificate is that of another party"

    def count(self, sender: Sender) -> None:
        """One more request of it is carried out. Raises HttpRefusal 429 with Retry-After where that is more than the party may."""
        party = self._standing(sender.peer) if sender.peer else None
        if party is not None:
            self._count(party)

    def _count(self, party: Standing) -> None:
        most = party.party.requests_per_minute
        if not most:
            return
        wait, first = self._rates.take(party.id, most, self._context.reactor.seconds())
        if first:  # not each of a crowd
            self._audit(party.id, f"more than {most} requests per minute")
        if wait:
            raise HttpRefusal(429, "the party sends more requests than it may", headers={"Retry-After": str(math.ceil(wait))})

    def _standing(self, name: str) -> Standing | None:
        return self._context.parties().standing(name)

    def _refusal(self, status: int, error: str, text: str, shown: Sender, party: str = "") -> HttpRefusal:
        self._audit(party, text, remote=shown.remote, proven=shown.peer, status=str(status))
        challenge = 'Bearer realm="meridian"' + (f', error="{error}", error_description="{text}"' if error else "")
        refused = HttpRefusal(status, text, headers={"WWW-Authenticate": challenge} if status != 403 else {})
        refused.audited = True
        return refused

    def _audit(self, party: str, reason: str, **facts: str) -> None:
        self._context.audit(f"{self._name}.refused", channel=self._context.name, party=party, reason=reason, **facts)
