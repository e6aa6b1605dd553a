"""What a channel file may say under ``dicomweb`` as a source."""

from __future__ import annotations

from typing import Final

from engine.options import ADDRESS, DURATION, SIZE, TEXT, URL, ListOf, Option, Settings, Spec, integer
from engine.tls import PARTY, SERVER_TLS

ARCHIVE: Final = Spec(
    "archive",
    "What QIDO-RS and WADO-RS read: the archive that a dicom_archive destination keeps.",
    [
        Option("folder", TEXT, "folder of the archive, relative to the site's data folder", default="dicom"),
        Option("readers", ListOf(PARTY), "parties that may read; default: everyone who may connect", default=[]),
        Option("most_results", integer(1, 100_000), "results of one search", default=5000),
        Option("most_instances", integer(1, 1_000_000), "instances of one answer of WADO-RS", default=100_000),
    ],
    scalar="folder",
)


def _unproven(options: Settings) -> str:
    if options.archive is not None and options.archive.readers and (options.tls is None or options.tls.client_auth == "none"):
        return "archive.readers names parties, but nobody is asked for a certificate"
    return ""


SOURCE: Final = Spec(
    "dicomweb source",
    "A DICOMweb server (PS3.18): takes instances by STOW-RS, kept as received and on disk before they are answered for; with `archive` it "
    "answers QIDO-RS and WADO-RS.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "serve over TLS; without it anyone on the network can send and read"),
        Option("base", TEXT, "path below which the studies are", default="/dicom-web"),
        Option("public_url", URL, "address of the base as clients see it, for retrieve URLs; default: from the Host header"),
        Option("archive", ARCHIVE, "the archive to read from (none: no reads)"),
        Option("most_instance", SIZE, "largest instance", default="16GB"),
        Option("most_request", SIZE, "largest store request", default="64GB"),
        Option("most_parts", integer(1, 1_000_000), "instances in one store request", default=100_000),
        Option("receive_within", DURATION, "a head must be complete, and a body go on, within this", default="60s"),
        Option("idle", DURATION, "close a connection that has been silent, or taken nothing of its answer, this long", default="5m"),
        Option("connections", integer(1, 65535), "connections at once", default=500),
        Option("requests", integer(1, 65535), "requests under way at once; more are answered 503", default=128),
        Option("requests_per_peer", integer(1, 65535), "requests under way at once from one peer; more are answered 429", default=64),
    ],
    scalar="listen",
    check=_unproven,
)
