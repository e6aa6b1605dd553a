"""What a channel file may say under ``mllp``."""

from __future__ import annotations

from typing import Final

from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, ListOf, MapOf, Option, Spec, choice, integer
from engine.tls import CLIENT_TLS, SERVER_TLS

_RELEASE: Final = Option("release", integer(1, 2), "MLLP release; 2 adds a commit acknowledgment after durable storage", default=1)

SOURCE: Final = Spec(
    "mllp source",
    "Listens for HL7 v2 over MLLP.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "take TLS connections only; without it anyone on the network can send"),
        Option("charset", TEXT, "declared: as MSH-18 says; or a character set that rules over MSH-18", default="declared"),
        Option("fallback", TEXT, "character set to try where the bytes are not what MSH-18 says; default: such a message is quarantined"),
        Option("senders", MapOf(ListOf(TEXT)), "for each party, which APP|FACILITY (MSH-3, MSH-4) it may send as; * for any party"),
        Option("max_size", SIZE, "longest message", default="16MB"),
        Option("idle", DURATION, "close a connection that has been silent this long", default="1h"),
        Option("receive_within", DURATION, "a message must be complete this long after its first byte", default="60s"),
        Option("connections", integer(1, 65535), "connections at once", default=1000),
        Option("connections_per_address", integer(1, 65535), "connections at once from one address", default=1000),
        Option("in_flight", integer(1, 1024), "messages of one connection under way at once; beyond that it is not read", default=64),
        Option(
            "when_unavailable", choice("answer", "silent"), "when the store cannot take a message: AE/CE, or no answer", default="answer"
        ),
        _RELEASE,
    ],
    scalar="listen",
)

DESTINATION: Final = Spec(
    "mllp destination",
    "Sends HL7 v2 over MLLP and waits for the acknowledgment of each message.",
    [
        Option("connect", ADDRESS, "host:port of the receiver", required=True),
        Option("tls", CLIENT_TLS, "connect over TLS"),
        Option("connections", integer(1, 64), "connections at once", default=1),
        Option("in_flight", integer(1, 256), "messages under way on one connection; many receivers allow only 1", default=1),
        Option("timeout", DURATION, "how long to wait for an acknowledgment", default="30s"),
        Option("connect_timeout", DURATION, "how long to wait for a connection", default="10s"),
        Option("idle", DURATION, "close a connection that was not used this long", default="10m"),
        Option("max_size", SIZE, "longest acknowledgment", default="1MB"),
        Option("on_error", choice("dead letter", "retry"), "what AE or CE means for the message", default="dead letter"),
        Option("on_reject", choice("dead letter", "retry"), "what AR or CR means for the message", default="dead letter"),
        Option("wait_for_application", FLAG, "a commit acknowledgment (CA) is not enough: wait for AA", default=False),
        _RELEASE,
    ],
    scalar="connect",
)
