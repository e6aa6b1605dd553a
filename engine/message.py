"""What flows through Meridian: an envelope in, parcels out, a receipt or an error back.

Pure data: nothing here knows a socket, a database or a protocol.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from engine.values import value

HL7V2: Final = "application/hl7-v2+er7"
FHIR_JSON: Final = "application/fhir+json"
FHIR_XML: Final = "application/fhir+xml"
ASTM: Final = "application/astm+e1394"
POCT1A: Final = "application/poct1a+xml"
SOAP: Final = "application/soap+xml"
"""A SOAP message as engine.formats.soap keeps it: 1.1 or 1.2, the envelope alone or with attachments."""
CDA: Final = "application/hl7-cda+xml"
"""One clinical document (HL7 CDA release 2)."""
ROWS: Final = "application/rows+json"
"""One business record out of a database, as engine.formats.rows writes it: a row, or a header with its details."""
FILE: Final = "application/vnd.meridian.file"
"""A file with what is known of it beside its content (its name, what was read out of that), as engine.formats.files.labelled writes it."""
JSON: Final = "application/json"
"""Any JSON, as web interfaces send it (RFC 8259)."""
XML: Final = "application/xml"
"""Any XML document (RFC 7303)."""
FORM: Final = "application/x-www-form-urlencoded"
"""The fields of a form (WHATWG URL clause 5)."""
DICOM: Final = "application/dicom"
"""One SOP instance as a file (PS3.10 clause 7): preamble, file meta information, data set."""
DICOM_JSON: Final = "application/dicom+json"
"""Instances of one study without their bulk data (PS3.18 annex F): a list of data sets, as WADO-RS RetrieveMetadata gives them."""


PARTS: Final = "message.parts"
"""Fact of a message that is made of several: the message types of what is in it, divided by comma and space."""


class Status(StrEnum):
    """Where a message stands, in the field's own words."""

    RECEIVED = "RECEIVED"  # committed, not yet decoded and routed
    FILTERED = "FILTERED"  # settled: a rule says that it goes nowhere (or the source refused it and kept it)
    TRANSFORMED = "TRANSFORMED"  # mapped, about to be queued (seen in traces only)
    QUEUED = "QUEUED"  # waits for at least one destination
    PENDING = "PENDING"  # queued, and at least one attempt has failed, or held by an operator
    SENT = "SENT"  # settled: every destination has taken it
    ERROR = "ERROR"  # settled: invalid, unmappable, or dead-lettered for a destination


@value(frozen=True, slots=True)
class BodyRef:
    """A body that lies in the content-addressed store rather than in memory.

    `digest` is the SHA-256 in lower-case hex, `size` is in bytes.
    """

    digest: str
    size: int


ORDER_KEY: Final = "order_key"
"""The fact by which messages of one numbered sequence stay in their order, on the way to destinations that are ordered by patient too:
a terminal's own order says more than whom each line is about."""

WHOLE: Final = 16 << 20
"""Bodies that are files are read into memory up to this many bytes, where a codec, a mapping or a destination wants them so."""


class Excerpt(bytes):
    """The beginning of a body too big for memory, with the digest of all of it and the file where the whole lies. For codecs and
    mappings that read only a header, or the rest piece by piece."""

    digest: str
    file: Path
    begin: int = 0
    """Where in that file it begins, once a mapping has looked at what stands before."""

    def __new__(cls, begin: bytes, digest: str, file: Path) -> Self:
        made = super().__new__(cls, begin)
        made.digest, made.file = digest, file
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Excerpt, (bytes(self), self.digest, self.file)


@value(frozen=True, slots=True)
class Envelope:
    """One message as it arrived: the raw bytes, never altered (`as_received`), and what could be read cheaply.

    `received_at` is in microseconds since 1970-01-01 UTC. `sender` is what the message claims
    (HL7: ``MSH-3|MSH-4``), `peer` is what the connection proved (a party URI from the client
    certificate, or "" where nothing was proven), `remote` is ``host:port``.
    `idempotency_key` says which messages are the same one sent again; "" switches the duplicate check off.
    `content_digest` is compared when a key comes again: it tells a repetition from a key used twice.
    `facts` are further header facts for the channel's `accept` expressions (``message.version`` …); `ae_title` and `serial` among them
    are claims like `sender`, which the registry of parties is asked about.
    `checkpoint` is a name and a value of the source's: how far it has read with this message, committed together with it.
    """

    body: bytes | BodyRef
    content_type: str
    message_type: str = ""
    control_id: str = ""
    sender: str = ""
    peer: str = ""
    remote: str = ""
    received_at: int = 0
    patient_ids: tuple[str, ...] = ()
    idempotency_key: str = ""
    content_digest: bytes = b""
    facts: Mapping[str, str] = field(default_factory=dict)
    checkpoint: tuple[str, str] | None = None


ORIGINAL: Final = "request.original"
"""The fact that holds, `packed`, what a source received, where it has converted that to another form of the same content."""


def packed(received: bytes) -> str:
    """Bytes as a fact: gzip, then base64."""
    return base64.b64encode(gzip.compress(received, 6, mtime=0)).decode()


def as_received(envelope: Envelope) -> bytes | BodyRef:
    """The bytes that the sender sent."""
    return gzip.decompress(base64.b64decode(envelope.facts[ORIGINAL])) if ORIGINAL in envelope.facts else envelope.body


class Verdict(StrEnum):
    """What the engine says of a message before it is committed; the source words it in its protocol."""

    ACCEPTED = "accepted"  # HL7 AA/CA, HTTP 2xx, 0000H
    REFUSED = "refused"  # not for this channel, or the sender may not: HL7 AR/CR, HTTP 4xx; kept all the same
    INVALID = "invalid"  # content at fault: HL7 AE/CE, HTTP 422; kept in the invalid-message queue
    UNAVAILABLE = "unavailable"  # the store cannot take it now: HL7 AE/CE or silence, HTTP 503; NOT kept


@value(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason. `hl7_code` (table 0357) and `location` go into an ERR segment or OperationOutcome."""

    verdict: Verdict
    reason: str = ""
    hl7_code: str = ""
    location: str = ""


ACCEPTED: Final = Judgement(Verdict.ACCEPTED)


@value(frozen=True, slots=True)
class Ack:
    """What a source hears after the commit.

    `answer` is the protocol's answer as committed with the message (for a duplicate: the one stored
    with the first). `message_id` is the store's number, 0 when nothing was kept.
    """

    judgement: Judgement
    answer: bytes
    message_id: int = 0
    duplicate: bool = False


@value(frozen=True, slots=True)
class Parcel:
    """One message on its way to one destination.

    `seq` numbers the destination's queue; `idempotency_key` is the same at every attempt and goes
    onto the wire where the protocol has a place for it. `attempt` counts from 1.
    `order_key`: parcels with the same key are delivered in the order of `seq`; "" means unordered. `peer` is the envelope's.
    """

    seq: int
    message_id: int
    body: bytes | BodyRef
    content_type: str
    message_type: str
    control_id: str
    idempotency_key: str
    order_key: str = ""
    attempt: int = 1
    received_at: int = 0
    peer: str = ""


@value(frozen=True, slots=True)
class Receipt:
    """What a destination said when it took a parcel. `reference` is short and shown in traces
    (an ACK's control id, a Location); `answer` is the whole answer for channels that hand it back to the sender."""

    reference: str = ""
    answer: bytes = b""


@value(frozen=True, slots=True)
class Lineage:
    """Where one output element came from: `target` <- `source` by `rule` (map name, table and row)."""

    target: str
    source: str
    rule: str


@value(frozen=True, slots=True)
class Rendition:
    """A mapped message. `order_keys` are the business keys (patient identifiers) of what is inside, `unmapped` how many codes
    in it no table knew that should (they are kept, and flagged)."""

    body: bytes
    content_type: str
    message_type: str = ""
    order_keys: tuple[str, ...] = ()
    unmapped: int = 0
