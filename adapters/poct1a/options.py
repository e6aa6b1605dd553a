"""What a channel file may say under ``poct1a``."""

from __future__ import annotations

from typing import Final

from engine.options import ADDRESS, DURATION, FLAG, SIZE, Option, Spec, integer
from engine.tls import SERVER_TLS

SOURCE: Final = Spec(
    "poct1a source",
    "Takes what point-of-care devices measure, by POCT1-A2 (CLSI POCT01) over TCP. Each observation is acknowledged when it is on disk.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "take TLS connections only; without it anyone on the network can send"),
        Option(
            "continuous",
            FLAG,
            "ask each device to send what it measures at once from then on; without it the conversation is ended",
            default=True,
        ),
        Option("set_time", FLAG, "set each device's clock by ours when it connects", default=False),
        Option("idle", DURATION, "close a connection that has been silent this long; default: what the device states, else 60s"),
        Option("max_size", SIZE, "longest message; a longer one ends the connection", default="4MB"),
        Option("connections", integer(1, 65535), "connections at once; more are closed at once and audited", default=1000),
    ],
    scalar="listen",
)
