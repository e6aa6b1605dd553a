"""What a channel file may say under ``http`` of a destination."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from adapters.http.authentication.options import HEADER, SCHEME_OPTIONS
from adapters.http.authentication.schemes import lacking, scheme_of
from adapters.http.client.bodies import form_body, json_body, text_body
from engine import templates
from engine.http_options import AUTH, client_options, in_the_clear
from engine.options import FLAG, TEXT, URL, Faulty, Kind, ListOf, MapOf, Option, Settings, Spec, choice
from engine.secrets import SECRET
from engine.templates import TABLE, Value, check_tables

_RESERVED: Final = frozenset(
    ["content-length", "host", "authorization", "transfer-encoding", "connection", "content-encoding", "expect", "upgrade", "te", "trailer"]
)
_CODE: Final = re.compile(r"([1-5]\d\d)(?:-([1-5]\d\d))?")


@dataclass(frozen=True)
class Target:
    """An address with places for a message's values, in its path and query alone. `text` is it as written, `names` the placeholders."""

    text: str
    names: tuple[str, ...]

    @property
    def root(self) -> str:
        """The server: ``https://host:port``."""
        parts = urlsplit(self.text)
        return f"{parts.scheme}://{parts.netloc}"

    def fill(self, value: Value) -> str:
        """Path and query with the values percent-encoded (RFC 3986 clause 2.1): a value cannot become a segment of a path, nor a
        parameter. A segment that would be ``.`` or ``..`` is encoded too."""
        rest = self.text[len(self.root) :].partition("#")[0] or "/"
        said = templates.text_of(rest if rest.startswith("/") else "/" + rest, value, _encoded)
        return said or "/"


def _encoded(text: str) -> str:
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="", errors="replace")


def _target(raw: Any) -> Target:
    if not isinstance(raw, str):
        raise Faulty(f"{raw!r} is not an http or https address")
    names = templates.names_in([raw], ())
    authority = re.split(r"[/?#]", raw.partition("://")[2], maxsplit=1)[0]
    if "$" in authority or "${" in raw.partition("://")[0]:
        raise Faulty("the server of an address never comes out of a message: ${…} belongs behind its host")
    URL.read(re.sub(r"\$\{[^{}]*\}", "x", raw))
    if any(name.startswith("content.") for name in names):
        raise Faulty("the whole content cannot be in an address")
    if re.search(r"[\x00-\x20\x7f-\U0010ffff]", templates.PLACEHOLDER.sub("", raw)):
        raise Faulty("blanks and other than ASCII letters in an address must be percent-encoded")
    return Target(raw, names)


@dataclass(frozen=True, slots=True)
class Statuses:
    """HTTP statuses from `low` to `high`, both included."""

    low: int
    high: int

    def __contains__(self, status: int) -> bool:
        return self.low <= status <= self.high


def _statuses(raw: Any) -> Statuses:
    match = _CODE.fullmatch(str(raw))
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise Faulty(f"{raw!r} is no status")
    return Statuses(int(match[1]), int(match[2] or match[1]))


def _text(raw: Any) -> str:
    text = str(TEXT.read(raw))
    if any(name.startswith("content.") for name in templates.names_in([text], ())):
        raise Faulty("the whole content cannot be in a header field")
    return text


TARGET: Final = Kind("url", "an http or https address; behind the host with ${…}", _target, {"type": "string"})
STATUSES: Final = Kind("status", "a status such as 404, or 500-599", _statuses, {"type": ["integer", "string"]})
_HEADER_TEXT: Final = Kind("text", "text with ${…}", _text, {"type": "string"})
_JSON: Final = Kind("template", "JSON in YAML, with ${…}", json_body, {"type": ["object", "array", "string"]})
_FORM: Final = Kind("template", "names and texts with ${…}", form_body, {"type": "object"})
_PLAIN: Final = Kind("template", "text with ${…}", text_body, {"type": "string"})

BODY: Final = Spec(
    "body",
    "What is sent, from a template.",
    [
        Option("json", _JSON, 'JSON, written in YAML; a number is written {number: "${OBX-5}"}; so are boolean and json'),
        Option("form", _FORM, "fields of a form"),
        Option("text", _PLAIN, "plain text"),
    ],
    one_of=True,
)


def _grant(options: Settings) -> str:
    if (options.client_secret is None) == (options.private_key is None):
        return "needs one of client_secret and private_key"
    if urlsplit(options.token_url).scheme != "https" and urlsplit(options.token_url).hostname not in ("localhost", "127.0.0.1", "::1"):
        return "the secret would go unencrypted: token_url must be https"
    return ""


OAUTH2: Final = Spec(
    "oauth2",
    "An access token by the grant client_credentials (RFC 6749 clause 4.4), kept until shortly before it expires.",
    [
        Option("token_url", URL, "the token endpoint", required=True),
        Option("client_id", TEXT, "who we are there", required=True),
        Option("client_secret", SECRET, "the secret that we share"),
        Option(
            "method",
            choice("client_secret_basic", "client_secret_post"),
            "how it is shown: in the header (form-encoded, RFC 6749 clause 2.3.1; not all servers undo that), or in the form",
            default="client_secret_basic",
        ),
        Option("private_key", TEXT, "or the file of a private key, relative to the site, for private_key_jwt (RFC 7523): RS384 or ES384"),
        Option("key_id", TEXT, "kid of that key"),
        Option("scope", TEXT, "what is asked for, such as system/*.write"),
        Option("audience", TEXT, "aud of the assertion; default: the token_url"),
    ],
    check=_grant,
)
AUTH_OUT: Final = Spec(
    AUTH.name, AUTH.doc, [*AUTH.options, Option("oauth2", OAUTH2, "an access token of an OAuth 2.0 server")], one_of=True
)
SIGNATURE: Final = Spec(
    "signature",
    "How requests are signed, as webhooks are (HMAC).",
    [*SCHEME_OPTIONS, Option("secret", SECRET, "the secret that we share", required=True)],
    check=lambda options: lacking(scheme_of(options)),
)
ACCEPTED: Final = Spec(
    "accepted_when",
    "Where the body of a good answer says whether the message was accepted.",
    [
        Option("path", TEXT, "what says so: code, data.status; of XML Reply/Result/@code", required=True),
        Option("accepted", ListOf(TEXT), "what it is then", required=True),
        Option("transient", ListOf(TEXT), "what it is when the message may be sent again later", default=[]),
        Option("otherwise", choice("permanent", "transient"), "what anything else means", default="permanent"),
    ],
)


def _check(options: Settings) -> str:
    try:
        check_tables(names_in(options), options.tables)
    except Faulty as faulty:
        return faulty.text + (f"; allowed: {faulty.allowed}" if faulty.allowed else "")
    said = [*options.headers, *options.secret_headers]
    wrong = [name for name in said if name.lower() in _RESERVED or not re.fullmatch(HEADER.schema["pattern"], name)]
    if wrong:
        return f"headers cannot say {wrong[0]!r}"
    plain = Settings(DESTINATION, {**options, "url": options.url.text, "auth": options.auth or options.secret_headers or None})
    return in_the_clear(plain)


def names_in(options: Settings) -> Sequence[str]:
    """Every placeholder of the templates."""
    return [name for _, some in named(options) for name in some]


def named(options: Settings) -> Iterator[tuple[int, Sequence[str]]]:
    """The placeholders of each template, with its line."""
    yield options.lines.get("url", 0), options.url.names
    yield options.lines.get("headers", 0), templates.names_in(options.headers.values(), ())
    if options.body is not None:
        body = template_of(options)
        yield options.lines.get("body", 0), body.names
    for table in options.tables.values():
        yield options.lines.get("tables", 0), templates.names_in([table.of], ())


def template_of(options: Settings) -> Any:
    """The body's template, None where the content goes as it is."""
    body = options.body
    return None if body is None else next(body[kind] for kind in ("json", "form", "text") if body[kind] is not None)


def _options() -> list[Option]:
    """Those of every client, with an address and credentials of our own."""
    own = {"url": Option("url", TARGET, "where to, such as https://lab.example/results/${message.control_id}", required=True),
           "auth": Option("auth", AUTH_OUT, "a token or password to show")}  # fmt: skip
    return [own.get(option.name, option) for option in client_options("", 8)]


DESTINATION: Final = Spec(
    "http destination",
    "Sends each message as a request.",
    [
        *_options(),
        Option("method", choice("POST", "PUT", "PATCH", "DELETE"), "the method", default="POST"),
        Option("headers", MapOf(_HEADER_TEXT), "further header fields, with ${…}", default={}),
        Option("secret_headers", MapOf(SECRET), "header fields that are secrets, such as X-API-Key: env:LAB_KEY", default={}),
        Option("body", BODY, "what is sent; default: the content as it is, however big"),
        Option("content_type", TEXT, "Content-Type; default: that of the content, or of the template"),
        Option("tables", MapOf(TABLE), "tables to look values up in: ${tables.NAME}", default={}),
        Option("gzip", FLAG, "compress what is in memory", default=False),
        Option("signature", SIGNATURE, "how the request is signed; default: not"),
        Option("idempotency_header", HEADER, "the header field that says the same at every attempt", default="Idempotency-Key"),
        Option("success_on", ListOf(STATUSES), "statuses that mean it was taken", default=["200-299"]),
        Option("retry_on", ListOf(STATUSES), "statuses after which it is tried again, beside 401, 403, 408, 425, 429, 500-599", default=[]),
        Option("permanent_on", ListOf(STATUSES), "statuses that make it a dead letter at once", default=[]),
        Option("accepted_when", ACCEPTED, "what in the answer says that it was accepted; default: the status does"),
    ],
    scalar="url",
    check=_check,
)  # fmt: skip
