"""What a channel file may say under ``mllp``."""

from __future__ import annotations

from typing import Any, Final

from engine.errors import ParseError
from engine.formats.hl7v2.charsets import named
from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, Faulty, Kind, ListOf, MapOf, Option, Spec, choice, integer
from engine.tls import CLIENT_TLS, SERVER_TLS

DECLARED: Final = "declared"


def _charset(raw: Any) -> str:
    """Gives Python's name of the codec, so that nobody needs to look it up again."""
    if raw == DECLARED:
        return DECLARED
    try:
        return named(str(raw))
    except ParseError as error:
        raise Faulty(error.text) from None


_NAMES: Final = "a name from HL7 table 0211 (UNICODE UTF-8, GB 18030-2000, 8859/1, ISO IR87 …)"
_CHARSET: Final = Kind("charset", f"declared | {_NAMES}", _charset, {"type": "string"})
_FALLBACK: Final = Kind("charset", _NAMES, _charset, {"type": "string"})
_RELEASE: Final = Option(
    "release", integer(1, 2), "MLLP release; 2 adds a commit acknowledgment (`0B 06 1C 0D`, negative `0B 15 1C 0D`)", default=1
)

SOURCE: Final = Spec(
    "mllp source",
    "Listens for HL7 v2 over MLLP. A message is on disk before it is answered. In enhanced mode (MSH-15, MSH-16) the accept "
    "acknowledgment says that it was committed, and so does the application acknowledgment that follows it where it was asked for, "
    "unless the channel answers from a destination: then that destination's answer is the application acknowledgment.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "take TLS connections only; without it anyone on the network can send"),
        Option("charset", _CHARSET, "declared: as MSH-18 says; or a character set that rules over MSH-18", default=DECLARED),
        Option(
            "fallback", _FALLBACK, "character set to try where the bytes are not what MSH-18 says; default: such a message is quarantined"
        ),
        Option(
            "senders",
            MapOf(ListOf(TEXT)),
            "for each party (or address), which APP|FACILITY (MSH-3, MSH-4) it may send as; * for all others; another claim is refused "
            "and audited; default: any",
        ),
        Option("max_size", SIZE, "longest message; a longer one is answered AE (condition 207), what came of it is kept", default="16MB"),
        Option("idle", DURATION, "close a connection that has been silent this long", default="1h"),
        Option(
            "receive_within", DURATION, "a message (and a TLS handshake) must be complete this long after its first byte", default="60s"
        ),
        Option("connections", integer(1, 65535), "connections at once; more are closed at once and audited", default=1000),
        Option("connections_per_address", integer(1, 65535), "connections at once from one address", default=1000),
        Option("in_flight", integer(1, 1024), "messages of one connection under way at once; beyond that it is not read", default=64),
        Option("in_flight_size", SIZE, "the same in bytes; one message may always be under way", default="16MB"),
        Option(
            "batch", integer(1, 10_000_000), "messages in one frame at most; a longer batch is refused and kept as a whole", default=10_000
        ),
        Option(
            "when_unavailable",
            choice("answer", "silent"),
            "when the store cannot take a message: AE/CE with condition 207 (where the sender wants no answer the connection is "
            "closed), or no answer and the connection is closed",
            default="answer",
        ),
        _RELEASE,
    ],
    scalar="listen",
)

DESTINATION: Final = Spec(
    "mllp destination",
    "Sends HL7 v2 over MLLP and waits for the acknowledgment of each message. No acknowledgment in time, a lost connection or an answer "
    "that cannot be read mean that the message is sent again with the same control id (MSH-10).",
    [
        Option("connect", ADDRESS, "host:port of the receiver", required=True),
        Option("tls", CLIENT_TLS, "connect over TLS"),
        Option("connections", integer(1, 64), "connections at once", default=1),
        Option("in_flight", integer(1, 256), "messages under way on one connection; many receivers allow only 1", default=1),
        Option(
            "keep_open",
            FLAG,
            "send the next message over the same connection; false: a new one for each, for receivers that cannot take a second message",
            default=True,
        ),
        Option("timeout", DURATION, "how long to wait for an acknowledgment", default="30s"),
        Option("connect_timeout", DURATION, "how long to wait for a connection, and for its TLS handshake", default="10s"),
        Option("idle", DURATION, "close a connection that was not used this long", default="10m"),
        Option("max_size", SIZE, "longest acknowledgment", default="1MB"),
        Option(
            "on_error",
            choice("dead letter", "retry"),
            "what AE or CE (the content is at fault) means for the message",
            default="dead letter",
        ),
        Option(
            "on_reject",
            choice("dead letter", "retry"),
            "what AR or CR (not for this receiver) means for the message",
            default="dead letter",
        ),
        Option("wait_for_application", FLAG, "a commit acknowledgment (CA) is not enough: wait for AA", default=False),
        Option(
            "when_not_asked",
            choice("wait", "settle"),
            "a message whose MSH-15 and MSH-16 ask for no positive answer: wait for one all the same, or count it as delivered once "
            "written (with release 2: once committed)",
            default="wait",
        ),
        _RELEASE,
    ],
    scalar="connect",
)
