"""What a site says of WS-Security: `SECURITY` of a source, `CLIENT_SECURITY` of a destination. Files are in the node's certs folder."""

from __future__ import annotations

from typing import Any, Final

from adapters.soap.security.verify import ADDRESSING, BODY, TIMESTAMP
from engine.identity import party_uri
from engine.options import DURATION, FLAG, TEXT, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice
from engine.secrets import SECRET
from engine.tls import PARTY

_PART: Final = choice(BODY, TIMESTAMP, ADDRESSING)


def _lifetime(raw: Any) -> float:
    seconds = float(DURATION.read(raw))
    if not 1 <= seconds <= 86400:
        raise Faulty(f"{raw!r} is not between a second and a day")
    return seconds


_LIFETIME: Final = Kind("duration", "a duration from 1s to 24h", _lifetime, DURATION.schema)


def _destination_contradiction(options: Settings) -> str:
    if options.sign and BODY not in options.signed:
        return f"signed must name {BODY}"
    if options.sign and TIMESTAMP in options.signed and not options.timestamp:
        return "signed names the timestamp, but timestamp: false sends none"
    return ""


_LOGIN: Final = Spec(
    "username",
    "A UsernameToken to send.",
    [
        Option("name", TEXT, "the user name", required=True),
        Option("password", SECRET, "its password", required=True),
        Option("type", choice("digest", "text"), "how the password is sent; text only goes over TLS", default="digest"),
    ],
)
CLIENT_SECURITY: Final = Spec(
    "security",
    "What WS-Security says of us in each message (OASIS WSS 1.1).",
    [
        Option("sign", FLAG, "sign with our certificate", default=True),
        Option("signed", ListOf(_PART), "what the signature covers", default=[BODY, TIMESTAMP, ADDRESSING]),
        Option("digest", choice("sha256", "sha384", "sha512"), "the hash of the signature", default="sha256"),
        Option("certificate", TEXT, "our certificate", default="node.pem"),
        Option("key", TEXT, "its private key, RSA or elliptic curve", default="node.key"),
        Option("key_passphrase", SECRET, "what the private key is encrypted with; default: it is not"),
        Option("username", _LOGIN, "a UsernameToken to send; default: none"),
        Option("timestamp", FLAG, "send a Timestamp", default=True),
        Option("lifetime", _LIFETIME, "how long a message says that it is good for", default="5m"),
        Option("role", TEXT, "the SOAP actor or role that the Security header is for; default: none", default=""),
    ],
    check=_destination_contradiction,
)
_USER: Final = Spec(
    "user",
    "Who a user name stands for.",
    [
        Option("party", PARTY, "the party that it proves", required=True),
        Option("password", SECRET, "what the password is", required=True),
    ],
)


def _source_contradiction(options: Settings) -> str:
    if options.require == "signature" and BODY not in options.signed:
        return f"signed must name {BODY}: a signature over anything else proves nothing of the message"
    for party in options.certificates:
        try:
            party_uri(party)
        except ValueError as error:
            return f"certificates: {error}"
    if options.require == "username" and not options.users:
        return "require: username needs users"
    if options.users and options.require != "username":
        return "users are given, but require is not username"
    return "answers say no password of ours" if options.answers and options.answers.username else ""


SECURITY: Final = Spec(
    "security",
    "What WS-Security must prove of each message (OASIS WSS 1.1).",
    [
        Option("require", choice("signature", "username", "none"), "by an X.509 signature, or by a UsernameToken", default="signature"),
        Option(
            "signed",
            ListOf(_PART),
            "what the signature must cover; addressing: each WS-Addressing header that there is",
            default=[BODY, TIMESTAMP, ADDRESSING],
        ),
        Option("allow", ListOf(PARTY), "parties that may send; default: every party that was proven", default=[]),
        Option("ca", TEXT, "the authorities that certificates must come from", default="ca.pem"),
        Option("crl", choice("tolerant", "strict"), "strict: a missing or expired revocation list refuses everyone", default="tolerant"),
        Option("certificates", MapOf(TEXT), "certificates that are known, by party: of other authorities, or not sent along", default={}),
        Option("users", MapOf(_USER), "who may say a UsernameToken, by user name", default={}),
        Option("freshness", _LIFETIME, "how old a message may be, and how long it may say that it is good for", default="10m"),
        Option("clock_skew", DURATION, "how far the sender's clock may be off", default="1m"),
        Option("sha1", choice("refuse", "allow"), "allow: signatures and digests with SHA-1, for old toolkits", default="refuse"),
        Option(
            "replay",
            choice("answer", "refuse"),
            "a message that comes again as the very same bytes: answer it as the first time, or refuse it",
            default="answer",
        ),
        Option("role", TEXT, "the SOAP actor or role whose Security header is for us; default: that of no role", default=""),
        Option("answers", CLIENT_SECURITY, "what WS-Security says of us in answers; default: nothing"),
    ],
    check=_source_contradiction,
)
