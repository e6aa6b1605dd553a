"""How webhooks are signed: which header, what over, how written. A shared secret and an HMAC (RFC 2104). Pure.

    github              X-Hub-Signature-256: sha256=HEX                     over the body
    stripe              Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX]         over SECONDS.BODY
    standard-webhooks   webhook-signature: v1,BASE64 [v1,BASE64]            over ID.SECONDS.BODY; the secret is whsec_BASE64
    custom              as the channel file says

Sources: GitHub "Validating webhook deliveries"; Stripe "Verify webhook signatures manually"; Standard Webhooks 1.0.0.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from engine.errors import ConfigError
from engine.options import Settings
from engine.secrets import Secret

BODY: Final = "body"
TIMED: Final = "timestamp.body"
NAMED: Final = "id.timestamp.body"
ALGORITHMS: Final = ("sha256", "sha384", "sha512", "sm3")
_STRIPE_PART: Final = re.compile(r"\s*([A-Za-z0-9_]+)=([^,\s]+)\s*")
_SECONDS: Final = re.compile(r"[0-9]{1,13}")
_PREFIX: Final = "whsec_"


@dataclass(frozen=True, slots=True)
class Scheme:
    """`header`, `timestamp_header` and `id_header` by lower-case name. `form`: the header is ``plain`` (prefix and signature),
    ``stripe`` or ``standard``. `unit`: how many of the timestamp's units are a second."""

    form: str = "plain"
    header: str = "x-signature"
    algorithm: str = "sha256"
    prefix: str = ""
    encoding: str = "hex"
    signed: str = BODY
    timestamp_header: str = ""
    id_header: str = ""
    unit: int = 1
    key: str = "text"

    @property
    def timed(self) -> bool:
        return self.signed != BODY

    def begin(self, key: bytes, message_id: str, timestamp: str) -> hmac.HMAC:
        """An HMAC over what stands before the body."""
        mac = hmac.new(key, digestmod=self.algorithm)
        before = {BODY: "", TIMED: f"{timestamp}.", NAMED: f"{message_id}.{timestamp}."}[self.signed]
        mac.update(before.encode("latin-1", "replace"))
        return mac

    def claimed(self, headers: Mapping[str, str]) -> Claimed:
        """What a request says of its signature; missing parts are ""."""
        value = headers.get(self.header, "")
        timestamp = headers.get(self.timestamp_header, "")
        message_id = headers.get(self.id_header, "")
        if self.form == "stripe":
            parts = [match.groups() for part in value.split(",") if (match := _STRIPE_PART.fullmatch(part))]
            times = [text for name, text in parts if name == "t"]
            return Claimed("", times[0] if len(times) == 1 else "", self._macs(text for name, text in parts if name == "v1"))
        if self.form == "standard":
            return Claimed(message_id, timestamp, self._macs(part[3:] for part in value.split(" ") if part.startswith("v1,")))
        return Claimed(message_id, timestamp, self._macs([value.removeprefix(self.prefix)] if value.startswith(self.prefix) else []))

    def _macs(self, texts: Iterable[str]) -> tuple[bytes, ...]:
        return tuple(mac for text in texts if (mac := self._decoded(text)))

    def _decoded(self, text: str) -> bytes:
        try:
            return bytes.fromhex(text) if self.encoding == "hex" else b64decode(text, validate=True)
        except ValueError:
            return b""

    def seconds(self, timestamp: str) -> float | None:
        """Since 1970, None for what is no such time."""
        return int(timestamp) / self.unit if _SECONDS.fullmatch(timestamp) else None

    def headers(self, mac: bytes, message_id: str, timestamp: str) -> dict[str, str]:
        """What a sender says."""
        text = mac.hex() if self.encoding == "hex" else b64encode(mac).decode("ascii")
        if self.form == "stripe":
            return {self.header: f"t={timestamp},v1={text}"}
        value = f"v1,{text}" if self.form == "standard" else self.prefix + text
        more = {self.timestamp_header: timestamp} if self.timed else {}
        return {self.header: value, **more, **({self.id_header: message_id} if self.signed == NAMED else {})}

    def key_of(self, secret: Secret) -> bytes:
        """Raises ConfigError."""
        text = secret.reveal()
        if self.key == "text":
            return text.encode()
        try:
            key = b64decode(text.removeprefix(_PREFIX), validate=True)
        except ValueError:
            key = b""
        if not key:
            raise ConfigError(f"{secret.place.path or secret}: the secret is not in base64 (such as whsec_MfKQ9r…)")
        return key


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a request says: `macs` are the signatures, of which one must be right."""

    message_id: str
    timestamp: str
    macs: Sequence[bytes]


PRESETS: Final[Mapping[str, Scheme]] = {
    "github": Scheme(header="x-hub-signature-256", prefix="sha256="),
    "stripe": Scheme("stripe", "stripe-signature", signed=TIMED),
    "standard-webhooks": Scheme(
        "standard", "webhook-signature", "sha256", "", "base64", NAMED, "webhook-timestamp", "webhook-id", key="base64"
    ),
    "custom": Scheme(),
}


def scheme_of(options: Settings) -> Scheme:
    """The preset, and what the channel file says otherwise."""
    said: dict[str, Any] = {
        name: options[name] for name in ("algorithm", "prefix", "encoding", "signed", "key") if options[name] is not None
    }
    said |= {name: options[name].lower() for name in ("header", "timestamp_header", "id_header") if options[name] is not None}
    if options.timestamp_unit is not None:
        said["unit"] = 1000 if options.timestamp_unit == "ms" else 1
    return replace(PRESETS[options.scheme], **said)


def lacking(scheme: Scheme) -> str:
    """Which option is missing, "" where none is."""
    if scheme.form != "plain":
        return ""
    if scheme.timed and not scheme.timestamp_header:
        return f"signed: {scheme.signed} needs timestamp_header"
    return "signed: id.timestamp.body needs id_header" if scheme.signed == NAMED and not scheme.id_header else ""
