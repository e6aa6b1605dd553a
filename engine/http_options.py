"""What a channel file says of an HTTP server that Meridian is a client of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from engine.options import DURATION, SIZE, URL, Faulty, Kind, Option, Settings, Spec, integer
from engine.secrets import SECRET
from engine.tls import CLIENT_TLS


def _user(raw: Any) -> str:
    if not isinstance(raw, str) or not raw or ":" in raw or any(ord(letter) < 32 for letter in raw):
        raise Faulty("is no user name: text without a colon (RFC 7617 clause 2)")
    return raw


_USER: Final = Kind("user", "text without a colon", _user, {"type": "string", "pattern": "^[^:]+$"})

AUTH: Final = Spec(
    "auth",
    "What is shown beside, or instead of, a certificate. Only over https, or to this machine itself.",
    [
        Option("bearer", SECRET, "a bearer token (RFC 6750); a file is read again after the server's 401"),
        Option(
            "basic",
            Spec(
                "basic",
                "User and password (RFC 7617).",
                [Option("user", _USER, "the user", required=True), Option("password", SECRET, "the password", required=True)],
            ),
            "user and password",
        ),
    ],
    one_of=True,
)


def client_options(url: str, connections: int) -> Sequence[Option]:
    """What a channel file says of a server; `url` explains the address. Goes with the check `in_the_clear`."""
    return [
        Option("url", URL, url, required=True),
        Option("tls", CLIENT_TLS, "how to prove who we are, and who the server must be"),
        Option("auth", AUTH, "a token or password to show"),
        Option("connections", integer(1, 256), "connections at once; each has one request under way", default=connections),
        Option("timeout", DURATION, "how long to wait for the answer to a request", default="30s"),
        Option("connect_timeout", DURATION, "how long to wait for a connection", default="10s"),
        Option("idle", DURATION, "close a connection that was not used this long", default="20s"),
        Option("most_answer", SIZE, "largest answer to read", default="16MB"),
    ]


def in_the_clear(options: Settings) -> str:
    """What would go over the network for all to read."""
    parts = urlsplit(options.url)
    if parts.scheme == "https":
        return ""
    if options.tls is not None:
        return "tls is said, but the url is http"
    own = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return "" if options.auth is None or own else "auth would go unencrypted: the url must be https"
