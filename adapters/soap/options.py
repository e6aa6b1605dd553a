"""What a channel file may say of a SOAP endpoint: what all have in common, and ``soap`` as a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from adapters.soap.security.options import SECURITY
from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, URL, ListOf, Option, Settings, choice, integer
from engine.tls import SERVER_TLS

VERSIONS: Final = choice("1.1", "1.2")


def no_version(settings: Settings) -> str:
    """engine.options.Spec.check"""
    return "" if settings.versions else "versions: at least one"


def endpoint_options(base: str) -> Sequence[Option]:
    """The options of adapters.soap.source.SoapSource. `base` is the path where none is said."""
    return [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "serve over TLS; without it anyone on the network can send"),
        Option("security", SECURITY, "what WS-Security must prove of each message; default: nothing, and no Security header is understood"),
        Option("base", TEXT, "path of the endpoint", default=base),
        Option("public_url", URL, "address of the endpoint as clients see it, for the WSDL; default: from the Host header"),
        Option("versions", ListOf(VERSIONS), "versions of SOAP that are taken, the best first", default=["1.2", "1.1"]),
        Option("gzip", FLAG, "compress answers for clients that take it; compressed requests are always taken", default=True),
        Option("most_envelope", SIZE, "largest envelope, after decompression too", default="16MB"),
        Option("most_body", SIZE, "largest request with attachments", default="4GB"),
        Option("most_depth", integer(8, 1000), "levels of elements in an envelope", default=200),
        Option("receive_within", DURATION, "a head must be complete, and a body go on, within this", default="60s"),
        Option("complete_within", DURATION, "a request must have arrived in full within this", default="1h"),
        Option("examine_within", DURATION, "a sender whose message takes longer to read hears a fault", default="30s"),
        Option("idle", DURATION, "close a connection that has been silent, or taken nothing of its answer, this long", default="5m"),
        Option("connections", integer(1, 65535), "connections at once", default=500),
        Option("requests", integer(1, 65535), "requests under way at once; more are answered 503", default=128),
        Option("requests_per_peer", integer(1, 65535), "requests under way at once from one peer; more are answered 429", default=64),
    ]
