"""What a channel file may say under ``dicom``."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any, Final

from adapters.dicom.archive.options import QUERY
from adapters.dicom.forward import options as forward
from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, Faulty, Kind, ListOf, MapOf, Option, Spec, choice, integer
from engine.tls import SERVER_TLS

ANY: Final = "*"


def _ae_title(raw: Any) -> str:
    text = str(raw).strip()
    if isinstance(raw, bool) or not 0 < len(text) <= 16 or not text.isascii() or not text.isprintable() or "\\" in text:
        raise Faulty(f"{raw!r} is not an AE title")
    return text


def _uid(raw: Any) -> str:
    text = str(raw)
    if len(text) > 64 or not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
        raise Faulty(f"{raw!r} is not a UID")
    return text


def _whom(settings: Any) -> str:
    """Names of `calling` that look like addresses must be some."""
    for name in settings.calling or {}:
        if re.fullmatch(r"[0-9.]+(/.*)?|[^/]*:.*", name):
            try:
                ip_network(name)
            except ValueError:
                return f"calling: {name!r} is not an address or network"
    return ""


AE_TITLE: Final = Kind("ae_title", "an AE title: 1 to 16 characters of ASCII", _ae_title, {"type": "string", "maxLength": 16})
UID: Final = Kind("uid", "a UID such as 1.2.840.10008.1.2.1", _uid, {"type": "string"})

SOURCE: Final = Spec(
    "dicom source",
    "Listens for DICOM associations: Verification, and Storage of every SOP class in every transfer syntax, kept as received. An instance "
    "is on disk before it is answered 0000H. The same SOP Instance UID with the same data set is settled quietly; what comes with another "
    "is kept and flagged (`duplicates: {reused_key: flag}`, the default of channels that receive DICOM).",
    [
        Option("listen", ADDRESS, "port or host:port to listen on (104, 11112; with tls 2762)", required=True),
        Option("tls", SERVER_TLS, "take TLS connections only; without it anyone on the network can send, under any AE title"),
        Option("called", ListOf(AE_TITLE), "our AE titles; an association for another is rejected; default: any", default=[]),
        Option(
            "calling",
            MapOf(ListOf(TEXT)),
            "for each party, address or network (10.1.0.0/16), which calling AE titles it may use, * for any; `*` for all others; another "
            "association is rejected and audited; default: any",
        ),
        Option("unknown_sop_classes", choice("refuse", "accept"), "store instances of private or unknown SOP classes", default="refuse"),
        Option("transfer_syntaxes", ListOf(UID), "the transfer syntaxes that are taken; default: any", default=[]),
        Option("commitment", forward.COMMITMENT, "storage commitment: answer requests from the archive, take reports"),
        Option("procedure_steps", FLAG, "take MPPS N-CREATE and N-SET as messages (MPPS^CREATE, MPPS^SET)", default=False),
        Option("archive", QUERY, "answer C-FIND, C-MOVE and C-GET from an archive (dicom_archive); default: they are not offered"),
        Option("max_size", SIZE, "largest instance; a larger one is answered C000H", default="16GB"),
        Option("associations", integer(1, 10_000), "associations at once; more are rejected for now (local limit exceeded)", default=200),
        Option("associations_per_address", integer(1, 10_000), "associations at once from one address", default=100),
        Option("pdu_size", SIZE, "longest P-DATA-TF PDU that a peer may send", default="128KB"),
        Option("operations", integer(1, 256), "operations of one association under way at once, for peers that negotiate it", default=16),
        Option("in_flight_size", SIZE, "bytes of one association that wait for the disk; beyond that it is not read", default="8MB"),
        Option("artim", DURATION, "how long a peer may take to begin and to end (and for the TLS handshake)", default="30s"),
        Option("idle", DURATION, "abort an association that has been silent this long", default="5m"),
        Option("receive_within", DURATION, "an instance must be complete this long after its first byte", default="1h"),
    ],
    scalar="listen",
    check=_whom,
)
