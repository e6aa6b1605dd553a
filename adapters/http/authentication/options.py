"""What a channel file may say of who may post, and of how requests are signed."""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.http.authentication.schemes import ALGORITHMS, BODY, NAMED, PRESETS, TIMED, lacking, scheme_of
from engine.options import DURATION, TEXT, Faulty, Kind, ListOf, Option, Settings, Spec, choice
from engine.secrets import SECRET
from engine.tls import PARTY

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}")


def _header(raw: Any) -> str:
    if not isinstance(raw, str) or not _TOKEN.fullmatch(raw):
        raise Faulty(f"{raw!r} is not the name of a header field")
    return raw


HEADER: Final = Kind("header", "the name of a header field", _header, {"type": "string", "pattern": f"^{_TOKEN.pattern}$"})

SCHEME_OPTIONS: Final = (
    Option("scheme", choice(*PRESETS), "whose way of signing; what is said beside it is otherwise", default="custom"),
    Option("header", HEADER, "where the signature is; custom: X-Signature"),
    Option("algorithm", choice(*ALGORITHMS), "of the HMAC; default: sha256"),
    Option("prefix", TEXT, "what stands before the signature, such as sha256="),
    Option("encoding", choice("hex", "base64"), "how the signature is written; custom: hex"),
    Option("signed", choice(BODY, TIMED, NAMED), "what is signed, joined by dots; custom: body"),
    Option("timestamp_header", HEADER, "where the time is that is signed"),
    Option("timestamp_unit", choice("s", "ms"), "seconds or milliseconds since 1970; default: s"),
    Option("id_header", HEADER, "where the identifier is that is signed"),
    Option("key", choice("text", "base64"), "how secrets are written; standard-webhooks: base64 (whsec_…)"),
)


def _signature(options: Settings) -> str:
    if not options.secrets:
        return "secrets: at least one"
    return lacking(scheme_of(options))


SIGNATURE: Final = Spec(
    "signature",
    "Each request must be signed with a secret that its sender shares with us (HMAC), as webhooks are.",
    [
        *SCHEME_OPTIONS,
        Option("secrets", ListOf(SECRET), "the secrets; any of them will do, so that one can be replaced by another", required=True),
        Option("party", PARTY, "the party that has the secret"),
        Option("tolerance", DURATION, "how far the signed time may be from now", default="5m"),
    ],
    check=_signature,
)
TOKEN: Final = Spec(
    "token",
    "A token or API key, and whose it is. A party may have several.",
    [
        Option("secret", SECRET, "the token", required=True),
        Option("party", PARTY, "the party that has it"),
    ],
    scalar="secret",
)
LOGIN: Final = Spec(
    "basic",
    "A user and a password (RFC 7617), and whose they are.",
    [
        Option("user", TEXT, "the user", required=True),
        Option("password", SECRET, "the password", required=True),
        Option("party", PARTY, "the party that has them"),
    ],
)


def _something(options: Settings) -> str:
    return "" if options.tokens or options.basic or options.signature is not None else "needs tokens, basic or signature"


CREDENTIALS: Final = Spec(
    "credentials",
    "Who may post. One of tokens or basic must be shown, and where signature is said the request be signed besides. A certificate is the "
    "matter of tls.",
    [
        Option("tokens", ListOf(TOKEN), "tokens: Authorization: Bearer … (RFC 6750), or the header field token_header", default=[]),
        Option("token_header", HEADER, "the header field that has the token alone, such as X-API-Key; default: Authorization: Bearer"),
        Option("basic", ListOf(LOGIN), "users with their passwords", default=[]),
        Option("signature", SIGNATURE, "the request must be signed"),
    ],
    check=_something,
)
