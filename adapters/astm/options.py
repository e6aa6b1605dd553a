"""What a channel file may say under ``astm``."""

from __future__ import annotations

import codecs
from typing import Any, Final

from engine.options import ADDRESS, SIZE, Faulty, Kind, Option, Spec, integer
from engine.tls import SERVER_TLS

_SUPERSETS_OF_ASCII: Final = ("utf-8", "gb18030", "gbk", "gb2312", "big5", "iso8859-1", "cp1252", "ascii")


def _charset(raw: Any) -> str:
    try:
        name = codecs.lookup(str(raw)).name
    except LookupError:
        name = ""
    if name not in _SUPERSETS_OF_ASCII:
        raise Faulty(f"{raw!r} is not a character set that an instrument's line can carry", ", ".join(_SUPERSETS_OF_ASCII))
    return name


_CHARSET: Final = Kind("charset", ", ".join(_SUPERSETS_OF_ASCII), _charset, {"type": "string"})

SOURCE: Final = Spec(
    "astm source",
    "Takes what laboratory instruments send by ASTM E1381/E1394 (CLSI LIS01-A2, LIS02-A2) over TCP. Frames are acknowledged as they "
    "come; the one that ends a message is acknowledged when the message is on disk. A message that does not end is kept as invalid and "
    "never acknowledged.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "take TLS connections only; without it anyone on the network can send"),
        Option("charset", _CHARSET, "character set of the records; the standard has no way to declare one", default="utf-8"),
        Option("max_size", SIZE, "longest message; of a longer one each further frame is answered NAK", default="4MB"),
        Option("connections", integer(1, 65535), "connections at once; more are closed at once and audited", default=1000),
    ],
    scalar="listen",
)
