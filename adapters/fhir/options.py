"""What a channel file may say under ``fhir`` and ``fhir_repository``."""

from __future__ import annotations

from typing import Final

from engine.entry.options import AUTH, entrance_fault
from engine.http_options import client_options, in_the_clear
from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, URL, Option, Spec, choice, integer
from engine.tls import SERVER_TLS

REPOSITORY_FILE: Final = "fhir-repository.db"


SOURCE: Final = Spec(
    "fhir source",
    "A FHIR R4 server: takes creates, updates, deletes, transaction and batch Bundles; reads from the node's resource repository.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "serve over TLS; without it anyone on the network can send and read"),
        AUTH,
        Option("base", TEXT, "path below which the interactions are", default="/fhir"),
        Option("public_url", URL, "address of the base as clients see it, for links; default: from the Host header"),
        Option("repository", TEXT, "file of the resource repository to read from, relative to the site's data folder (none: no reads)"),
        Option("reads", choice("own", "all"), "what a party may read: what it sent itself, or everything", default="own"),
        Option("messages", FLAG, "take message Bundles at $process-message", default=False),
        Option(
            "validate",
            choice("none", "structure", "fhir.resources"),
            "check before the commit: elements, types, cardinalities, codes and contained resources as R4 has them, or the models of"
            " fhir.resources too",
            default="structure",
        ),
        Option("most_body", SIZE, "largest request body, after decompression too", default="16MB"),
        Option("most_upload", SIZE, "largest body of an upload of lines ($upload), after decompression too", default="10GB"),
        Option(
            "lines_at_once", integer(1, 4096), "lines of uploads on their way to the store at once, all terminals together", default=256
        ),
        Option("remember", DURATION, "how long a line that comes again is compared with the one that was kept", default="400d"),
        Option("receive_within", DURATION, "a request must have arrived in full this long after its first byte", default="60s"),
        Option("idle", DURATION, "close a connection that has been silent this long", default="5m"),
        Option("connections", integer(1, 65535), "connections at once", default=1000),
        Option("requests", integer(1, 65535), "requests under way at once; more are answered 503", default=512),
        Option("requests_per_peer", integer(1, 65535), "requests under way at once from one peer; more are answered 429", default=256),
    ],
    scalar="listen",
    check=entrance_fault,
)

DESTINATION: Final = Spec(
    "fhir destination",
    "Posts each Bundle to a FHIR server.",
    [
        *client_options("base address of the server, such as https://platform.example:8443/fhir", 8),
        Option("gzip", FLAG, "compress request bodies", default=False),
    ],
    scalar="url",
    check=in_the_clear,
)

REPOSITORY: Final = Spec(
    "fhir repository destination",
    "Applies each Bundle to the node's own versioned resource repository.",
    [
        Option("path", TEXT, "file of the repository, relative to the site's data folder", default=REPOSITORY_FILE),
        Option("remember", DURATION, "how long the answers to idempotency keys are kept", default="30d"),
        Option(
            "reads", choice("own", "all"), "what the GET entries of a Bundle see: what its party sent itself, or everything", default="own"
        ),
    ],
)
