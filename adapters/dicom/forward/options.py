"""What a channel file may say of the destinations ``dicom`` and ``dicomweb``."""

from __future__ import annotations

from typing import Any, Final

from engine.http_options import client_options, in_the_clear
from engine.options import ADDRESS, DURATION, SIZE, TEXT, Faulty, Kind, MapOf, Option, Settings, Spec, choice, integer
from engine.tls import CLIENT_TLS


def _ae_title(raw: Any) -> str:
    """PS3.5 table 6.2-1, AE."""
    title = str(raw).strip()
    if not 0 < len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise Faulty(f"{title!r} is no AE title")
    return title


AE_TITLE: Final = Kind("ae_title", "an AE title: 1 to 16 letters, digits and signs", _ae_title, {"type": "string", "maxLength": 16})
COMMITMENT_FILE: Final = "dicom-commitment.db"

STOW: Final = Spec(
    "dicomweb destination",
    "Stores instances on a DICOMweb server (STOW-RS).",
    [
        *client_options("base address of the service, such as https://pacs.example:8443/dicom-web", 4),
        Option("together", integer(1, 1000), "most instances in one request", default=32),
        Option("together_size", SIZE, "most bytes of the instances in one request; a larger one goes alone", default="8MB"),
        Option("verify", choice("none", "retrieve"), "retrieve: read each instance back (WADO-RS) and compare it", default="none"),
    ],
    scalar="url",
    check=in_the_clear,
)


def _peer_and_proof(options: Settings) -> str:
    if not options.peer[0]:
        return "peer needs a host: pacs.example:104"
    if options.verify != "none" and options.transcode != "none":
        return "verify compares data sets byte by byte, and transcode changes them"
    return ""


STORE: Final = Spec(
    "dicom destination",
    "Stores instances on an application entity (C-STORE), as they are; with commitment, delivered means that it has committed them.",
    [
        Option("peer", ADDRESS, "host:port of the application entity", required=True),
        Option("called_ae", AE_TITLE, "its AE title", required=True),
        Option("calling_ae", AE_TITLE, "ours", default="MERIDIAN"),
        Option("tls", CLIENT_TLS, "connect over TLS"),
        Option("associations", integer(1, 64), "associations at once", default=4),
        Option(
            "transcode",
            choice("none", "implicit-le", "explicit-le"),
            "what an instance may be changed to where the peer does not take its transfer syntax; none: it is never changed",
            default="none",
        ),
        Option("max_pdu", SIZE, "longest PDU that the peer may send us", default="128KB"),
        Option("timeout", DURATION, "how long to wait for the response to an instance", default="60s"),
        Option(
            "connect_timeout", DURATION, "how long to wait for a connection, and for the answer to an association request", default="10s"
        ),
        Option("idle", DURATION, "release an association that was not used this long", default="10s"),
        Option(
            "commitment",
            choice("none", "required"),
            "required: delivered means that the peer has committed (storage commitment)",
            default="none",
        ),
        Option("commitment_quiet", DURATION, "ask for commitment when nothing more was sent for this long", default="1s"),
        Option("commitment_together", integer(1, 1000), "or when so many instances wait for it", default=500),
        Option("commitment_within", DURATION, "how long to wait for the report before the instances are sent again", default="1h"),
        Option("commitment_linger", DURATION, "how long to keep the association open for the report", default="5s"),
        Option("commitment_file", TEXT, "file of the transactions, relative to the site's data folder", default=COMMITMENT_FILE),
        Option("verify", choice("none", "retrieve"), "retrieve: read each instance back (C-GET) and compare it", default="none"),
    ],
    check=_peer_and_proof,
)

_KNOWN: Final = Spec(
    "application entity",
    "Where an application entity listens.",
    [
        Option("address", ADDRESS, "host:port", required=True),
        Option("tls", CLIENT_TLS, "connect over TLS"),
    ],
    scalar="address",
)

COMMITMENT: Final = Spec(
    "commitment",
    "Storage commitment of a listener: what is in the archive is committed; reports of other application entities are taken.",
    [
        Option("archive", TEXT, "folder of the archive, relative to the site's data folder; none: no requests are taken"),
        Option("file", TEXT, "file of the transactions, relative to the site's data folder", default=COMMITMENT_FILE),
        Option("known", MapOf(_KNOWN), "AE title: where to report when its association has ended", default={}),
        Option("within", DURATION, "how long to wait for instances that are not in the archive yet", default="1m"),
        Option("give_up_after", DURATION, "how long to try to report", default="1d"),
        Option("timeout", DURATION, "how long to wait for the response to a report", default="30s"),
    ],
)
