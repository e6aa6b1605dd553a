"""Signatures of requests, computed while the body comes, so that its size costs no memory. What is signed is the body as it was sent,
before its content coding is undone. Pure but for the files of secrets.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from adapters.http.authentication.schemes import NAMED, scheme_of
from engine.errors import ConfigError
from engine.http_answers import HttpRefusal
from engine.options import Settings

if TYPE_CHECKING:
    from adapters.http.authentication.schemes import Claimed
    from engine.http_coding import Decoder

_MOST_CLAIMED: Final = 16


class Signatures:
    """`options` are those of adapters.http.authentication.options.SIGNATURE, `clock` in microseconds UTC. Secrets are read for each
    request, so that one can be replaced while the node runs."""

    def __init__(self, options: Settings, clock: Callable[[], int]) -> None:
        self._options, self._clock = options, clock
        self.scheme = scheme_of(options)
        self.party: str = options.party or ""
        self._keys: Sequence[bytes] = ()

    def read(self) -> None:
        """Raises ConfigError where a secret is not there, or cannot be one."""
        self._keys = [self.scheme.key_of(secret) for secret in self._options.secrets]

    def begin(self, headers: Mapping[str, str], inner: Decoder) -> Verifying:
        """For a request whose body is now to come through `inner`. Raises HttpRefusal 401."""
        claimed = self.scheme.claimed(headers)
        if not claimed.macs or len(claimed.macs) > _MOST_CLAIMED:
            raise HttpRefusal(401, "this server wants the request signed")
        if self.scheme.timed:
            self._check_time(claimed.timestamp)
        if self.scheme.signed == NAMED and not claimed.message_id:
            raise HttpRefusal(401, "the identifier that is signed is missing")
        try:
            self.read()
        except ConfigError:
            if not self._keys:
                raise
        macs = [self.scheme.begin(key, claimed.message_id, claimed.timestamp) for key in self._keys]
        return Verifying(macs, claimed, inner, claimed.message_id if self.scheme.signed == NAMED else "")

    def _check_time(self, timestamp: str) -> None:
        at = self.scheme.seconds(timestamp)
        if at is None:
            raise HttpRefusal(401, "the time that is signed is missing, or none")
        if abs(self._clock() / 1e6 - at) > self._options.tolerance:
            raise HttpRefusal(401, "the time that is signed is too far from now")


class Verifying:
    """engine.http_coding.Decoder: hands the body on to another, and ends well only where one of the signatures is right. `signed_id` is the
    identifier that is signed, "" where none is."""

    def __init__(self, macs: Sequence[hmac.HMAC], claimed: Claimed, inner: Decoder, signed_id: str) -> None:
        self._macs, self._claimed, self._inner, self.signed_id = macs, claimed, inner, signed_id

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoder"""
        for mac in self._macs:
            mac.update(data)
        return self._inner.feed(data)

    def finish(self) -> None:
        """Decoder. Raises HttpRefusal 401 too."""
        made = [mac.digest() for mac in self._macs]
        right = [hmac.compare_digest(one, claimed) for one in made for claimed in self._claimed.macs]  # all of them, whatever is found
        if not any(right):
            raise HttpRefusal(401, "the signature is not right")
        self._inner.finish()
