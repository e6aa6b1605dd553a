"""Meridian's own authorization server for systems: the token endpoint and what is said of it (SMART App Launch 2.2, backend services;
RFC 6749 clause 4.4, RFC 7523 clause 2.2, RFC 8705 clause 3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import orjson
from twisted.internet.defer import Deferred

from engine.entry.assertions import Assertion, NotProven, verified
from engine.entry.scopes import granted
from engine.errors import SecurityError, StoreError
from engine.http_answers import Answer, HttpRefusal, Sender

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.entry.tokens import Tokens
    from engine.http1 import Message
    from engine.options import Settings
    from engine.parties.snapshot import Standing

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FORM: Final = re.compile(r"application/x-www-form-urlencoded\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_KNOWN: Final = frozenset({"grant_type", "scope", "client_assertion_type", "client_assertion", "client_id"})
_NEVER_KEPT: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_MOST_FIELDS: Final = 20


class OAuthRefusal(SecurityError):
    """What the client hears (RFC 6749 clause 5.2): `error` is its code. `party` is an id, where one is known."""

    code = "security.oauth"

    def __init__(self, error: str, text: str, *, status: int = 400, party: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.error, self.status, self.party = error, status, party
        self.headers = headers or {}

    def answer(self) -> Answer:
        return _json(self.status, {"error": self.error, "error_description": self.text}, self.headers)


class AuthorizationServer:
    """For one source. `url` is its base as clients see it. `standing` finds a party by its id, `vouches` gives the reason why a party may
    not enter with what is shown, "" where it may, `count` raises HttpRefusal 429, `in_thread` runs a function off the reactor thread."""

    def __init__(
        self,
        options: Settings,
        context: Context,
        tokens: Tokens,
        *,
        name: str,
        url: str,
        binds: bool,
        standing: Callable[[str], Standing | None],
        vouches: Callable[[Standing, Sender], str],
        count: Callable[[Standing], None],
        in_thread: Callable[..., Deferred[Any]],
    ) -> None:
        self._options, self._context, self._tokens, self._name = options, context, tokens, name
        self._url, self._binds = url, binds
        self._standing, self._vouches, self._count, self._in_thread = standing, vouches, count, in_thread

    def configuration(self, message: Message, sender: Sender) -> Answer:
        """``/.well-known/smart-configuration``: what there is, and nothing else."""
        if message.start[0] not in ("GET", "HEAD"):
            return _json(405, {"error": "invalid_request"}, {"Allow": "GET, HEAD"})
        return _json(200, {
            "issuer": self._url,
            "token_endpoint": f"{self._url}/token",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
            "scopes_supported": ["system/*.cruds"],
            "response_types_supported": [],
            "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
            "tls_client_certificate_bound_access_tokens": self._binds,
        })  # fmt: skip

    # --- the token endpoint ----------------------------------------------------------------------

    def token(self, message: Message, sender: Sender) -> Answer | Deferred[Answer]:
        """``POST token``. Every refusal is audited."""
        try:
            form = self._form(message)
            assertion = self._assertion(form)
            scopes = self._scopes(form, assertion.party, sender)
        except OAuthRefusal as refused:
            return self._refused(refused, sender)
        issued = self._in_thread(self._tokens.issue, assertion, scopes, sender.certificate, self._options.lifetime)
        return issued.addCallback(self._issued, scopes).addErrback(lambda failure: self._not_issued(failure.value, sender))

    def _form(self, message: Message) -> dict[str, str]:
        if message.start[0] != "POST":
            raise OAuthRefusal("invalid_request", "tokens are asked for by POST", status=405, headers={"Allow": "POST"})
        if not _FORM.fullmatch(message.headers.get("content-type", "")):
            raise OAuthRefusal("invalid_request", "the body is application/x-www-form-urlencoded")
        if "authorization" in message.headers or "?" in message.start[1]:
            raise OAuthRefusal("invalid_request", "a client proves itself by client_assertion in the body, and by nothing else")
        try:
            fields = parse_qsl(message.body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            raise OAuthRefusal("invalid_request", "the form cannot be read") from None
        known = [(name, value) for name, value in fields if name in _KNOWN]
        if len(dict(known)) < len(known):
            raise OAuthRefusal("invalid_request", "a parameter is there twice")
        return dict(known)

    def _assertion(self, form: Mapping[str, str]) -> Assertion:
        if not form.get("grant_type"):
            raise OAuthRefusal("invalid_request", "grant_type is missing")
        if form["grant_type"] != "client_credentials":
            raise OAuthRefusal("unsupported_grant_type", "grant_type is client_credentials")
        if form.get("client_assertion_type") != ASSERTION_TYPE or not form.get("client_assertion"):
            raise OAuthRefusal("invalid_request", f"client_assertion is missing, or its type is not {ASSERTION_TYPE}")
        try:
            found = verified(
                form["client_assertion"],
                audience=(f"{self._url}/token", self._url),
                now=self._context.clock() / 1e6,
                skew=self._options.clock_skew,
                standing=self._standing,
            )
        except NotProven as error:
            raise OAuthRefusal("invalid_client", error.text, party=error.party) from None
        if form.get("client_id", found.party.id) != found.party.id:
            raise OAuthRefusal("invalid_client", "client_id is not whom the assertion is of", party=found.party.id)
        return found

    def _scopes(self, form: Mapping[str, str], party: Standing, sender: Sender) -> list[str]:
        if reason := self._vouches(party, sender):
            raise OAuthRefusal("invalid_client", reason, party=party.id)
        try:
            self._count(party)
        except HttpRefusal as refused:
            raise OAuthRefusal("temporarily_unavailable", refused.text, status=429, party=party.id, headers=refused.headers) from None
        asked = form.get("scope", "")
        scopes = granted(asked, party)
        if asked.strip() and not scopes:
            raise OAuthRefusal("invalid_scope", "nothing of what is asked for may be granted", party=party.id)
        return scopes

    def _issued(self, token: str, scopes: list[str]) -> Answer:
        self._said("issued")
        granted = {"access_token": token, "token_type": "bearer", "expires_in": int(self._options.lifetime), "scope": " ".join(scopes)}
        return _json(200, granted)

    def _not_issued(self, error: BaseException | None, sender: Sender) -> Answer:
        if isinstance(error, NotProven):
            return self._refused(OAuthRefusal("invalid_client", error.text, party=error.party), sender)
        if isinstance(error, StoreError):
            self._context.log.error("no token can be issued", extra={"channel": self._context.name, "reason": str(error)})
            return OAuthRefusal("temporarily_unavailable", "try again later", status=503, headers={"Retry-After": "5"}).answer()
        assert error is not None
        raise error

    def _refused(self, refused: OAuthRefusal, sender: Sender) -> Answer:
        facts = {"remote": sender.remote, "proven": sender.peer, "party": refused.party, "reason": refused.text, "error": refused.error}
        self._context.audit(f"{self._name}.token_refused", channel=self._context.name, **facts)
        self._said("refused")
        return refused.answer()

    def _said(self, result: str) -> None:
        name, about = f"meridian_{self._name}_tokens_total", "requests for an access token, by result"
        self._context.metrics.counter(name, about, channel=self._context.name, result=result).inc()


def _json(status: int, said: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, [orjson.dumps(said)], "application/json", {**_NEVER_KEPT, **(headers or {})})
