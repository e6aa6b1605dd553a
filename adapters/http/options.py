"""What a channel file may say under ``http`` of a source."""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.http.answers import body_of
from adapters.http.authentication.options import CREDENTIALS
from adapters.http.media import CONTENT, content_types
from adapters.http.places import PLACE
from engine import registry
from engine.entry.options import AUTH, entrance_fault
from engine.options import ADDRESS, DURATION, FLAG, SIZE, TEXT, URL, Faulty, Kind, ListOf, Option, Settings, Spec, choice, integer
from engine.tls import SERVER_TLS

_OWN: Final = ("127.0.0.1", "::1", "localhost")
_PATH: Final = re.compile(r"/?[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


def _path(raw: Any) -> str:
    if not isinstance(raw, str) or not _PATH.fullmatch(raw):
        raise Faulty(f"{raw!r} is not the path of a URL")
    if "//" in raw or {".", ".."} & set(raw.split("/")):
        raise Faulty(f"{raw!r} is no path that a client could ask for: say what stands behind the host, without . and ..")
    return raw


def _body(raw: Any) -> Any:
    return body_of(raw)


_BASE: Final = Kind("path", "a path such as /orders", _path, {"type": "string"})
_ANSWER_BODY: Final = Kind("template", "JSON in YAML, or text; both with ${…}", _body, {"type": ["object", "array", "string"]})

ANSWER: Final = Spec(
    "answer",
    "What a sender hears whose message is on disk; where the channel answers from a destination, that answer goes before.",
    [
        Option("status", integer(200, 299), "the status", default=202),
        Option("body", _ANSWER_BODY, "JSON in YAML, or text: with ${message.control_id}, ${message.type}, ${message.key}; default: none"),
        Option("content_type", TEXT, "of a body that is text", default="text/plain; charset=utf-8"),
        Option(
            "refused",
            integer(200, 499),
            "the status for what `accept` refuses; 200 for senders that switch an endpoint off which refuses",
            default=403,
        ),
    ],
)


def _check(options: Settings) -> str:
    """What can be known before a request comes."""
    if not options.content:
        return "content: at least one"
    return _in_the_clear(options) or _entrance(options) or _paths(options)


def _in_the_clear(options: Settings) -> str:
    shown, (host, _) = options.credentials, options.listen
    secrets = shown is not None and (shown.tokens or shown.basic)
    if not secrets or options.tls is not None or options.tls_at_proxy or host in _OWN:
        return ""
    return "credentials would go unencrypted: say tls, or tls_at_proxy where a proxy before this node has it"


def _entrance(options: Settings) -> str:
    """What `auth`, `scope` and `credentials` say against each other."""
    auth, shown = options.auth, options.credentials
    if options.scope and (auth is None or auth.introspection is None):
        return "scope is one of another server's tokens: it needs auth.introspection"
    if auth is None or shown is None:
        return entrance_fault(options)
    asks = auth.tokens is not None or auth.introspection is not None
    if asks and (shown.basic or (shown.tokens and not shown.token_header)):
        return "auth and credentials both want the Authorization field: say credentials.token_header, or leave one of them away"
    signed = [shown.signature] if shown.signature is not None else []
    if not all(one.party for one in [*shown.tokens, *shown.basic, *signed]):
        return "auth lets in registered parties: say for each of the credentials whose they are (party)"
    return entrance_fault(options)


def _paths(options: Settings) -> str:
    """Paths that none of the contents can have."""
    known = [codec for kind in content_types(options.content) if (codec := registry.codec(kind)) is not None]
    for name in ("type", "control_id", "sender", "patient", "idempotency"):
        for path in (path for place in options[name] or () for path in place.paths):
            reasons = []
            for codec in known:
                try:
                    codec.check_path(path)
                except ValueError as error:
                    reasons.append(str(error))
            if known and len(reasons) == len(known):
                return f"{name}: {reasons[0]}"
    return ""


SOURCE: Final = Spec(
    "http source",
    "Takes what is posted: webhooks, and any system that can POST or PUT.",
    [
        Option("listen", ADDRESS, "port or host:port to listen on", required=True),
        Option("tls", SERVER_TLS, "serve over TLS; webhooks show no certificate: client_auth: none"),
        Option("tls_at_proxy", FLAG, "TLS ends at a proxy before this node", default=False),
        AUTH,
        Option("scope", TEXT, "the scope that a token of auth.introspection must have; default: none is asked for"),
        Option("credentials", CREDENTIALS, "what must be shown to post; default: nothing"),
        Option("base", _BASE, "the path that is posted to", default="/"),
        Option("below", FLAG, "paths below it are taken too", default=False),
        Option("methods", ListOf(choice("POST", "PUT")), "methods that are taken", default=["POST", "PUT"]),
        Option(
            "content", ListOf(choice(*CONTENT)), "what is taken; where two are said alike, the first. any: carried unread", default=["json"]
        ),
        Option("type", ListOf(PLACE), "where the message type is; the first that says something", default=[]),
        Option("control_id", ListOf(PLACE), "where the message's own identifier is; default: the idempotency key", default=[]),
        Option("sender", ListOf(PLACE), "where the sending system is named", default=[]),
        Option("patient", ListOf(PLACE), "where patient identifiers are", default=[]),
        Option(
            "idempotency",
            ListOf(PLACE),
            "what tells a message that comes again from another; the first that says something. Default: Idempotency-Key, of HL7 v2 also "
            "sender and MSH-10; of signed requests the identifier that is signed, else the content",
        ),
        Option("idempotency_required", FLAG, "a request without an idempotency key is refused (400)", default=False),
        Option("check", FLAG, "content that is not what its media type says is kept as invalid, and answered 400", default=True),
        Option("answer", ANSWER, "what the sender hears", default={}),
        Option("public_url", URL, "address of `base` as clients see it"),
        Option("most_body", SIZE, "largest request, after decompression too; facts are read of up to 16MB", default="64MB"),
        Option("receive_within", DURATION, "a head must be complete, and a body go on, within this", default="60s"),
        Option("complete_within", DURATION, "a request must have arrived in full within this", default="1h"),
        Option("idle", DURATION, "close a connection that has been silent this long", default="5m"),
        Option("connections", integer(1, 65535), "connections at once", default=1000),
        Option("requests", integer(1, 65535), "requests under way at once; more are answered 503", default=256),
        Option("requests_per_peer", integer(1, 65535), "requests under way at once from one peer; more are answered 429", default=128),
    ],
    scalar="listen",
    check=_check,
)
