"""Tokens and passwords of requests. Compared in constant time, each with all that there are. Pure but for the files of secrets.

Secrets are read again after a request whose credentials are none of those known, at most once in `_READ_AGAIN` seconds, so that one can
be replaced while the node runs.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from engine.errors import ConfigError
from engine.http_answers import HttpRefusal
from engine.options import Settings

_READ_AGAIN: Final = 10_000_000


class Credentials:
    """`options` are those of adapters.http.authentication.options.CREDENTIALS, `clock` in microseconds UTC."""

    def __init__(self, options: Settings, clock: Callable[[], int]) -> None:
        self._options, self._clock = options, clock
        self._header = (options.token_header or "").lower()
        self._known: Sequence[tuple[bytes, str]] = ()
        self._read_at = 0

    def read(self) -> None:
        """Raises ConfigError where a secret is not there."""
        tokens = [(_digest(f"token {one.secret.reveal()}"), one.party or "") for one in self._options.tokens]
        logins = [(_digest(f"basic {one.user}:{one.password.reveal()}"), one.party or "") for one in self._options.basic]
        self._known, self._read_at = [*tokens, *logins], self._clock()

    @property
    def asked(self) -> bool:
        return bool(self._options.tokens or self._options.basic)

    def party(self, headers: Mapping[str, str]) -> str:
        """Whose credentials are shown, "" where the channel file does not say. Raises HttpRefusal 401."""
        shown = self._shown(headers)
        if shown is None:
            raise self._refusal("this server wants credentials")
        found = self._find(shown)
        if found is None and self._clock() - self._read_at > _READ_AGAIN:
            self._read_again()
            found = self._find(shown)
        if found is None:
            raise self._refusal("these credentials are not known", invalid=True)
        return found

    def _read_again(self) -> None:
        try:
            self.read()
        except ConfigError:
            self._read_at = self._clock()  # those that were good go on

    def _find(self, shown: bytes) -> str | None:
        found = None
        for digest, party in self._known:  # to the end, whatever was found
            if hmac.compare_digest(digest, shown):
                found = party
        return found

    def _shown(self, headers: Mapping[str, str]) -> bytes | None:
        """The digest of what is shown: of equal length, whatever was sent."""
        if self._header and self._header in headers:
            return _digest(f"token {headers[self._header]}")
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and not self._header:
            return _digest(f"token {rest.strip()}")
        if scheme.lower() != "basic":
            return None
        try:
            return _digest(f"basic {b64decode(rest.strip(), validate=True).decode()}")
        except ValueError:
            return _digest("")

    def _refusal(self, text: str, *, invalid: bool = False) -> HttpRefusal:
        """With the challenges of RFC 9110 clause 11.6.1."""
        error = ', error="invalid_token"' if invalid else ""
        challenges = ['Basic realm="meridian", charset="UTF-8"'] if self._options.basic else []
        challenges += [f'Bearer realm="meridian"{error}'] if self._options.tokens and not self._header else []
        return HttpRefusal(401, text, headers={"WWW-Authenticate": ", ".join(challenges)} if challenges else {})


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
