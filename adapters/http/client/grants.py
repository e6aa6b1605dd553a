"""Access tokens by the grant client_credentials: asked for once, shared by all requests, kept until shortly before they expire.

Who we are is said by a shared secret (RFC 6749 clause 2.3.1) or by an assertion that our private key signs (RFC 7523 clause
2.2; RS384 and ES384, as SMART App Launch 2.0 "backend services" has it). A server that gives no token is no fault of a message: it is
tried again later.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from engine.errors import ConfigError, DeliveryError, TransientDelivery
from engine.http_client import HttpClient
from engine.message import FORM
from engine.options import Settings

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.http1 import Message

_EARLY: Final = 30.0
_USUAL: Final = 300.0
"""Seconds that a token is kept which does not say how long it holds."""
_MOST: Final = 86400.0
_ASSERTION_SECONDS: Final = 240
_LEAST_BITS: Final = 2048
"""Of an RSA key (RFC 7518 clause 3.3)."""
_BEARER: Final = re.compile(r"[\x21-\x7e]{1,8192}")
_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Grants:
    """`options` are those of adapters.http.client.options.OAUTH2; `client` are the destination's, for TLS and time limits."""

    def __init__(self, options: Settings, client: Settings, context: Context) -> None:
        self._options, self._context = options, context
        secure = urlsplit(options.token_url).scheme == "https"
        self._client = HttpClient(_settings(client, options.token_url, tls=secure), context)
        self._assertion = Assertion(options, context.site, context.clock, context.new_id) if options.private_key else None
        self._token, self._until = "", 0.0
        self._waiting: list[Deferred[str]] | None = None

    def open(self) -> None:
        """Raises ConfigError where a secret or key is not there."""
        self._client.open()
        if self._assertion is not None:
            self._assertion.made()
        else:
            self._options.client_secret.reveal()

    def close(self) -> Deferred[None]:
        return self._client.close()

    def forget(self, token: str) -> None:
        """The server does not take it any more."""
        if token == self._token:
            self._token = ""

    def token(self) -> Deferred[str]:
        """Fails with TransientDelivery for the whole destination."""
        if self._token and self._context.reactor.seconds() < self._until:
            return succeed(self._token)
        waits: Deferred[str] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waits)
            return waits
        self._waiting = [waits]
        self._ask().addCallback(self._read).addBoth(self._tell)
        return waits

    def _ask(self) -> Deferred[Any]:
        fields = {"grant_type": "client_credentials", **({"scope": self._options.scope} if self._options.scope else {})}
        headers = {"Content-Type": FORM, "Accept": "application/json"}
        try:
            if self._assertion is not None:
                fields |= {"client_assertion_type": _JWT_BEARER, "client_assertion": self._assertion.made()}
            elif self._options.method == "client_secret_post":
                fields |= {"client_id": self._options.client_id, "client_secret": self._options.client_secret.reveal()}
            else:
                headers["Authorization"] = self._basic()
        except ConfigError as error:
            return fail(TransientDelivery(f"no access token: {error.text}", whole_destination=True))
        parts = urlsplit(self._options.token_url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return self._client.request("POST", target, headers, urlencode(fields).encode("ascii"))

    def _basic(self) -> str:
        """Each half form-encoded first (RFC 6749 clause 2.3.1)."""
        pair = f"{quote_plus(self._options.client_id)}:{quote_plus(self._options.client_secret.reveal())}"
        return f"Basic {b64encode(pair.encode()).decode()}"

    def _read(self, message: Message) -> str:
        """RFC 6749 clause 5.1."""
        status = int(message.start[1])
        if status != 200:
            raise TransientDelivery(f"the token endpoint answered {status}{_error(message.body)}", whole_destination=True)
        try:
            said = orjson.loads(message.body)
            token, kind, lasts = said["access_token"], str(said.get("token_type", "bearer")), float(said.get("expires_in", _USUAL))
        except (ValueError, TypeError, KeyError, AttributeError):
            token, kind, lasts = None, "", 0.0
        if not isinstance(token, str) or not _BEARER.fullmatch(token) or kind.lower() != "bearer":
            raise TransientDelivery("the token endpoint gave no bearer token", whole_destination=True)
        self._token, self._until = token, self._context.reactor.seconds() + max(min(lasts, _MOST) - _EARLY, 1.0)
        return token

    def _why(self, error: BaseException | None) -> str:
        if isinstance(error, DeliveryError):
            return error.text if error.text.startswith("no access token") else f"no access token: {error.text}"
        self._context.log.error("unexpected failure in asking for a token", exc_info=error, extra={"channel": self._context.name})
        return "no access token"

    def _tell(self, result: Any) -> None:
        waiting, self._waiting = self._waiting or [], None
        if isinstance(result, Failure):
            result = Failure(TransientDelivery(self._why(result.value), whole_destination=True))
        for one in waiting:
            one.callback(result)  # a Failure too


def _settings(client: Settings, url: str, *, tls: bool) -> Settings:
    """A client of the token endpoint: without the credentials of the service, and by its host name rather than the service's party."""
    from adapters.http.client.options import DESTINATION

    own = None if client.tls is None or not tls else Settings(client.tls._spec, {**client.tls, "peer": None})
    return Settings(DESTINATION, {**client, "url": url, "auth": None, "tls": own, "connections": 1})


def _error(body: bytes) -> str:
    """Its error code (RFC 6749 clause 5.2), which is a word."""
    try:
        code = orjson.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return ""
    return f": {code}" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""


class Assertion:
    """Signs who we are. The key is read again for each, so that it can be replaced while the node runs."""

    def __init__(self, options: Settings, site: Path, clock: Callable[[], int], new_id: Callable[[], str]) -> None:
        self._options, self._file, self._clock, self._new_id = options, site / options.private_key, clock, new_id

    def made(self) -> str:
        """A JWT (RFC 7523 clause 3). Raises ConfigError."""
        key = self._key()
        now, options = self._clock() // 1_000_000, self._options
        claims = {"iss": options.client_id, "sub": options.client_id, "aud": options.audience or options.token_url}
        claims |= {"iat": now, "exp": now + _ASSERTION_SECONDS, "jti": f"{self._new_id()}-{self._clock()}"}
        algorithm = "RS384" if isinstance(key, rsa.RSAPrivateKey) else "ES384"
        return jwt.encode(claims, key, algorithm, headers={"kid": options.key_id} if options.key_id else None)

    def _key(self) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
        try:
            key = load_pem_private_key(self._file.read_bytes(), None)
        except OSError as error:
            raise ConfigError(f"cannot read {self._options.private_key}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError(f"{self._options.private_key} is no private key in PEM without a passphrase") from None
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_BITS:
            return key
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1":
            return key
        raise ConfigError(f"{self._options.private_key} is neither an RSA key of {_LEAST_BITS} bits or more nor one on the curve P-384")
