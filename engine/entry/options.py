"""What a channel file says of who may enter a source that is an HTTP server."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from engine.http_options import client_options, in_the_clear
from engine.options import DURATION, FLAG, TEXT, Option, Settings, Spec

MOST_LIFETIME: Final = 300.0
"""SMART App Launch 2.2, backend services: access tokens live five minutes at most."""
_MOST_SKEW: Final = 120.0
_MOST_CACHE: Final = 300.0


def _lifetimes(options: Settings) -> str:
    if not 1 <= options.lifetime <= MOST_LIFETIME:
        return "lifetime is 1s to 5m"
    return "" if options.clock_skew <= _MOST_SKEW else "clock_skew is 2m at most"


TOKENS: Final = Spec(
    "tokens",
    "Meridian's own token endpoint below the base, for parties with a registered key (SMART backend services). Needs `public_url`.",
    [
        Option("lifetime", DURATION, "how long an access token lives, 5m at most", default="5m"),
        Option("clock_skew", DURATION, "how far the clocks of clients may be off", default="30s"),
    ],
    check=_lifetimes,
)


def _introspects(options: Settings) -> str:
    if options.auth is None:
        return "needs auth: an introspection endpoint wants to know who asks (RFC 7662 clause 2.1)"
    return in_the_clear(options) or ("" if options.cache <= _MOST_CACHE else "cache is 5m at most")


INTROSPECTION: Final = Spec(
    "introspection",
    "Tokens of another server, which is asked about each (RFC 7662); its `client_id` or `sub` is a registered party.",
    [
        *client_options("address of the introspection endpoint", 4),
        Option("cache", DURATION, "how long an answer is believed: a token that is revoked there works here as long", default="10s"),
        Option("audience", TEXT, "what the token must be for (`aud`); default: not asked"),
    ],
    check=_introspects,
)


def _somebody(options: Settings) -> str:
    if options.tokens is not None and options.introspection is not None:
        return "says tokens and introspection: tokens come from one server"
    tokens = options.tokens is not None or options.introspection is not None
    return "" if options.certificates or tokens else "nobody could enter: certificates is false, and there are no tokens"


SERVER_AUTH: Final = Spec(
    "auth",
    "Who may enter: parties of the registry (`meridian parties`) that are not disabled, each by its rules there.",
    [
        Option("certificates", FLAG, "a client certificate is enough; false: a token is needed beside it", default=True),
        Option("tokens", TOKENS, "take tokens of Meridian's own token endpoint"),
        Option("introspection", INTROSPECTION, "take tokens of another authorization server"),
    ],
    check=_somebody,
)

AUTH: Final = Option("auth", SERVER_AUTH, "registered parties only, by certificate or token; default: whom `tls` lets in")
"""For sources over engine.http_source; goes with the check `entrance_fault`."""


def entrance_fault(options: Settings) -> str:
    """What is wrong between `auth` and the other options of a listener, "" when nothing is."""
    auth, tls = options.auth, options.tls
    if auth is None:
        return ""
    if auth.tokens is not None and not options.public_url:
        return "auth.tokens needs public_url: what clients sign for must not follow from what a request says"
    if tls is None and not options.get("tls_at_proxy") and not _is_own(options.listen[0]):
        return "auth needs tls: tokens would go unencrypted (without tls: listen on 127.0.0.1, behind what has it)"
    asks = tls is not None and tls.client_auth != "none"
    if not asks and auth.tokens is None and auth.introspection is None and options.get("credentials") is None:
        return "auth has no tokens, and nobody is asked for a certificate: nobody could enter"
    return ""


def _is_own(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
