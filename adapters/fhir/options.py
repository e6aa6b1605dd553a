"""What a channel file may say under ``fhir`` and ``fhir_repository``."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, URL, Faulty, Kind, Option, Settings, Spec, choice, integer
from engine.secrets import SECRET
from engine.tls import CLIENT_TLS, SERVER_TLS

REPOSITORY_FILE: Final = "fhir-repository.db"


def _user(raw: Any) -> str:
    if not isinstance(raw, str) or not raw or ":" in raw or any(ord(letter) < 32 for letter in raw):
        raise Faulty("is no user name: text without a colon (RFC 7617 clause 2)")
    return raw


_USER: Final = Kind("user", "text without a colon", _user, {"type": "string", "pattern": "^[^:]+$"})

SOURCE: Final = Spec(
    "fhir source",
    "A FHIR R4 server: takes creates, updates, deletes, transaction and batch Bundles; reads from the node's resource repository.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "serve over TLS; without it anyone on the network can send and read"),
        Option("base", TEXT, "path below which the interactions are", default="/fhir"),
        Option("public_url", URL, "address of the base as clients see it, for links; default: from the Host header"),
        Option("repository", TEXT, "file of the resource repository to read from, relative to the site's data folder (none: no reads)"),
        Option("validate", choice("none", "fhir.resources"), "check each resource against the R4 model before the commit", default="none"),
        Option("most_body", SIZE, "largest request body, after decompression too", default="16MB"),
        Option("receive_within", DURATION, "a request must have arrived in full this long after its first byte", default="60s"),
        Option("idle", DURATION, "close a connection that has been silent this long", default="5m"),
        Option("connections", integer(1, 65535), "connections at once", default=1000),
        Option("requests", integer(1, 65535), "requests under way at once; more are answered 503", default=512),
        Option("requests_per_peer", integer(1, 65535), "requests under way at once from one peer; more are answered 429", default=256),
    ],
    scalar="listen",
)

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


def _in_the_clear(options: Settings) -> str:
    """What would go over the network for all to read."""
    parts = urlsplit(options.url)
    if parts.scheme == "https":
        return ""
    if options.tls is not None:
        return "tls is said, but the url is http"
    own = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return "" if options.auth is None or own else "auth would go unencrypted: the url must be https"


DESTINATION: Final = Spec(
    "fhir destination",
    "Posts each Bundle to a FHIR server.",
    [
        Option("url", URL, "base address of the server, such as https://platform.example:8443/fhir", required=True),
        Option("tls", CLIENT_TLS, "how to prove who we are, and who the server must be"),
        Option("auth", AUTH, "a token or password to show"),
        Option("connections", integer(1, 256), "connections at once; each has one request under way", default=8),
        Option("timeout", DURATION, "how long to wait for the answer to a request", default="30s"),
        Option("connect_timeout", DURATION, "how long to wait for a connection", default="10s"),
        Option("idle", DURATION, "close a connection that was not used this long", default="20s"),
        Option("gzip", FLAG, "compress request bodies", default=False),
        Option("most_answer", SIZE, "largest answer to read", default="16MB"),
    ],
    scalar="url",
    check=_in_the_clear,
)

REPOSITORY: Final = Spec(
    "fhir repository destination",
    "Applies each Bundle to the node's own versioned resource repository.",
    [
        Option("path", TEXT, "file of the repository, relative to the site's data folder", default=REPOSITORY_FILE),
        Option("remember", DURATION, "how long the answers to idempotency keys are kept", default="30d"),
    ],
)
