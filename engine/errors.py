"""Every error Meridian raises on purpose, as one tree.

    MeridianError
    ├── ConfigError            all faults of a site at once, each with file:line
    ├── ProtocolError
    │   ├── LocalProtocolError     our own bug: we were about to break the protocol
    │   └── RemoteProtocolError    the peer broke it; `reply_hint` says what to answer
    │       └── FramingError       bytes that cannot be cut into frames
    ├── MessageError               one message is at fault; never retried
    │   ├── ParseError
    │   ├── ValidationError        carries an HL7 table 0357 code
    │   ├── UnsupportedError
    │   ├── MappingError
    │   └── Quarantined            cannot be made free of what identifies a person, so it does not leave
    ├── DeliveryError
    │   ├── TransientDelivery      not taken; try again after a while
    │   ├── UncertainDelivery      sent, no answer: repeat with the same idempotency key
    │   └── PermanentDelivery      refused for good: dead letter
    ├── StoreError
    │   ├── StoreFull              stop accepting, recover by itself
    │   ├── StoreBusy              another process holds the database: stop accepting, recover by itself
    │   └── StoreCorrupt           stop accepting, an operator is needed
    └── SecurityError
        ├── PeerIdentityError      the proven identity is not one the channel allows
        └── CertificateExpired

Each class has a stable `code` (it appears in logs, in the store and in scripts) and each error a
`location` (``PID-3[1].4``, ``channels/lab.yaml:12``). None carries payload or a patient identifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class MeridianError(Exception):
    """Root of the tree. `text` is one sentence a hospital engineer can act on."""

    code: ClassVar[str] = "meridian"

    def __init__(self, text: str, *, location: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.location = location

    def __str__(self) -> str:
        return f"{self.location}: {self.text}" if self.location else self.text


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a site's files: where, what, and what would be right."""

    file: str
    line: int
    text: str
    allowed: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        hint = f" (did you mean {self.nearest!r}?)" if self.nearest else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{where}: {self.text}{hint}{allowed}"


class ConfigError(MeridianError):
    """A site cannot be used as it is written. `faults` lists all of them, not the first."""

    code = "config"

    def __init__(self, faults: list[Fault] | str) -> None:
        self.faults = [Fault("", 0, faults)] if isinstance(faults, str) else faults
        super().__init__(faults if isinstance(faults, str) else "\n".join(map(str, faults)))


class ProtocolError(MeridianError):
    code = "protocol"


class LocalProtocolError(ProtocolError):
    code = "protocol.local"


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; `reply_hint` is what its protocol would have us answer."""

    code = "protocol.remote"

    def __init__(self, text: str, *, location: str = "", reply_hint: str = "") -> None:
        super().__init__(text, location=location)
        self.reply_hint = reply_hint


class FramingError(RemoteProtocolError):
    code = "protocol.framing"


class MessageError(MeridianError):
    """One message is at fault. `hl7_code` is from HL7 table 0357 (message error condition)."""

    code = "message"
    hl7_code: str = "207"

    def __init__(self, text: str, *, location: str = "", hl7_code: str = "") -> None:
        super().__init__(text, location=location)
        if hl7_code:
            self.hl7_code = hl7_code


class ParseError(MessageError):
    code = "message.parse"
    hl7_code = "100"


class ValidationError(MessageError):
    code = "message.validation"
    hl7_code = "102"


class UnsupportedError(MessageError):
    code = "message.unsupported"
    hl7_code = "200"


class MappingError(MessageError):
    code = "message.mapping"


class Quarantined(MessageError):
    """It cannot be de-identified, or still names a person afterwards. `location` is the attribute; its value is nowhere."""

    code = "message.quarantined"


class DeliveryError(MeridianError):
    """A destination did not settle a message.

    `answer` keeps what the peer said (an OperationOutcome, an ACK), for the store only: it is never
    logged. `whole_destination` tells that the peer as such is out of reach, so that the queue pauses
    instead of trying message after message.
    """

    code = "delivery"

    def __init__(
        self, text: str, *, location: str = "", answer: bytes = b"", retry_after: float | None = None, whole_destination: bool = False
    ) -> None:
        super().__init__(text, location=location)
        self.answer = answer
        self.retry_after = retry_after
        self.whole_destination = whole_destination


class TransientDelivery(DeliveryError):
    code = "delivery.transient"


class UncertainDelivery(DeliveryError):
    code = "delivery.uncertain"


class PermanentDelivery(DeliveryError):
    code = "delivery.permanent"


class StoreError(MeridianError):
    code = "store"


class StoreFull(StoreError):
    code = "store.full"


class StoreBusy(StoreError):
    code = "store.busy"


class StoreCorrupt(StoreError):
    code = "store.corrupt"


class SecurityError(MeridianError):
    """Close the connection and write an audit record."""

    code = "security"


class PeerIdentityError(SecurityError):
    code = "security.peer_identity"


class CertificateExpired(SecurityError):
    code = "security.certificate_expired"
