"""Access tokens that this node has issued: 256 random bits, of which only a digest is kept, in ``data/entry.db``.

Issuing a token and marking its assertion as used is one transaction on the disk: neither a replay nor a restart gets around it.
"""

from __future__ import annotations

import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Final

from engine.entry.assertions import Assertion, NotProven
from engine.store.schema import connect, migrate, translated
from engine.transaction import transaction

FILE: Final = "entry.db"
MOST_OF_PARTY: Final = 50
"""Tokens of one party on one channel; of more, the oldest are forgotten."""
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for: `party` is an id, `scopes` None where nothing is known of them, `certificate` what it is bound to (RFC
    8705 clause 3.1) or "". `until` in microseconds UTC."""

    party: str
    scopes: frozenset[str] | None
    certificate: str
    until: int


class Tokens:
    """Of one channel. `find` belongs to the reactor thread, `issue` may be called from any; `clock` gives microseconds UTC."""

    def __init__(self, folder: Path, channel: str, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._channel, self._clock, self._random = channel, clock, random
        self._lock = Lock()
        self._live: dict[bytes, Grant] = {}
        with translated(FILE):
            self._connection = connect(folder, file=FILE)
            try:
                migrate(self._connection, "engine.entry")
                self._read()
            except BaseException:
                self._connection.close()
                raise

    def _read(self) -> None:
        rows = self._connection.execute(
            "SELECT digest, party, scopes, certificate, until FROM token WHERE channel = ? AND until > ?", (self._channel, self._clock())
        )
        self._live = {row[0]: Grant(row[1], frozenset(row[2].split()), row[3], row[4]) for row in rows}

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def find(self, token: str) -> Grant | None:
        """None for a token that is none of ours, or has expired."""
        grant = self._live.get(_digest(token))
        return grant if grant is not None and grant.until > self._clock() else None

    def issue(self, assertion: Assertion, scopes: list[str], certificate: str, lifetime: float) -> str:
        """A new token, on the disk. Raises NotProven where the assertion was used before, StoreError."""
        now = self._clock()
        token = urlsafe_b64encode(self._random(_BYTES)).rstrip(b"=").decode()
        grant = Grant(assertion.party.id, frozenset(scopes), certificate, now + int(lifetime * 1e6))
        with self._lock:
            with translated(FILE), transaction(self._connection):
                self._purge(now)
                self._use(assertion)
                self._insert(_digest(token), grant, scopes)
                forgotten = self._forget(grant.party)
            live = {digest: one for digest, one in self._live.items() if one.until > now and digest not in forgotten}
            self._live = {**live, _digest(token): grant}
        return token

    def _purge(self, now: int) -> None:
        self._connection.execute("DELETE FROM assertion WHERE until <= ?", (now,))
        self._connection.execute("DELETE FROM token WHERE until <= ?", (now,))

    def _use(self, assertion: Assertion) -> None:
        row = (assertion.party.id, sha256(assertion.jti.encode(errors="surrogatepass")).digest(), int(assertion.until * 1e6))
        try:
            self._connection.execute("INSERT INTO assertion (client, jti, until) VALUES (?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise NotProven("the assertion was used before (jti)", assertion.party.id) from None

    def _insert(self, digest: bytes, grant: Grant, scopes: list[str]) -> None:
        row = (digest, self._channel, grant.party, " ".join(scopes), grant.certificate, grant.until)
        self._connection.execute("INSERT INTO token (digest, channel, party, scopes, certificate, until) VALUES (?, ?, ?, ?, ?, ?)", row)

    def _forget(self, party: str) -> frozenset[bytes]:
        rows = self._connection.execute(
            "SELECT digest FROM token WHERE party = ? AND channel = ? ORDER BY until DESC LIMIT -1 OFFSET ?",
            (party, self._channel, MOST_OF_PARTY),
        ).fetchall()
        self._connection.executemany("DELETE FROM token WHERE digest = ?", rows)
        return frozenset(row[0] for row in rows)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
