"""What a channel file may say under ``astm``."""

from __future__ import annotations

import codecs
from typing import Any, Final

from adapters.astm.link import LONGEST_TEXT
from engine.options import ADDRESS, SIZE, TEXT, Faulty, Kind, Option, Settings, Spec, choice, integer
from engine.tls import CLIENT_TLS, SERVER_TLS

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

_SERIAL: Final = Spec(
    "serial",
    "A serial port, as the instrument's manual says.",
    [
        Option("port", TEXT, "device, such as /dev/ttyS0 or /dev/ttyUSB0", required=True),
        Option("baud", integer(50, 4_000_000), "bits per second", default=9600),
        Option("parity", choice("none", "even", "odd"), "parity", default="none"),
        Option("data_bits", integer(7, 8), "bits of a character", default=8),
        Option("stop_bits", integer(1, 2), "stop bits", default=1),
    ],
    scalar="port",
)
_FRAME: Final = Option("frame", integer(64, LONGEST_TEXT), "longest text of our frames: 240 (E1381) to 63993 (LIS01-A2)", default=240)
_CONNECT: Final = Option("connect", ADDRESS, "host:port of an instrument that waits to be called; called again when the connection is lost")
_CLIENT_TLS: Final = Option("client_tls", CLIENT_TLS, "with connect: over TLS")


def _one_line(settings: Settings) -> str:
    names = [name for name in ("listen", "connect", "serial", "line") if name in settings]
    said = [name for name in names if settings[name] is not None]
    if len(said) != 1:
        return f"needs exactly one of {', '.join(names)}"
    if settings.client_tls is not None and said != ["connect"]:
        return "client_tls goes with connect"
    return "tls goes with listen" if settings.get("tls") is not None and said != ["listen"] else ""


SOURCE: Final = Spec(
    "astm source",
    "Takes what laboratory instruments send by ASTM E1381/E1394 (CLSI LIS01-A2, LIS02-A2) over TCP or a serial line. Frames are "
    "acknowledged as they come; the one that ends a message is acknowledged when the message is on disk. A message that does not end is "
    "kept as invalid and never acknowledged; what is complete of it (all before another order or patient) is taken. "
    "A query (record Q) is answered on the same line: with what the channel's `answer: from DESTINATION` "
    "says, else that there is no information.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on"),
        _CONNECT,
        Option("serial", _SERIAL, "a serial port of this machine"),
        Option("tls", SERVER_TLS, "with listen: take TLS connections only; without it anyone on the network can send"),
        _CLIENT_TLS,
        Option("charset", _CHARSET, "character set of the records; the standard has no way to declare one", default="utf-8"),
        Option("max_size", SIZE, "longest message; of a longer one each further frame is answered NAK", default="4MB"),
        _FRAME,
        Option("connections", integer(1, 65535), "connections at once; more are closed at once and audited", default=1000),
    ],
    scalar="listen",
    check=_one_line,
)

DESTINATION: Final = Spec(
    "astm destination",
    "Sends messages to an instrument by ASTM E1381 (CLSI LIS01-A2), on a line of its own or on that of a channel's source. A message is "
    "delivered when its last frame was acknowledged. Bytes go as they are, so they must be in the instrument's character set.",
    [
        Option("line", TEXT, "name of the channel on whose line it is sent; exactly one instrument must be connected there"),
        _CONNECT,
        Option("serial", _SERIAL, "a serial port of this machine, for this destination alone"),
        _CLIENT_TLS,
        _FRAME,
        Option("role", choice("host", "instrument"), "who gives way when both ends want to send: the host does", default="host"),
    ],
    scalar="line",
    check=_one_line,
)
