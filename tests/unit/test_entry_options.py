"""What a channel file may say of who may enter: contradictions are said before a node runs."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.fhir.options import SOURCE
from engine.errors import Fault
from engine.options import Place

OUTSIDE = {"url": "https://as.example/introspect", "auth": {"bearer": "env:TOKEN"}}
URL = "https://ward.example/fhir"
FINE: dict[str, dict[str, Any]] = {
    "certificates": {"tls": {}, "auth": {}},
    "tokens": {"tls": {"client_auth": "none"}, "public_url": URL, "auth": {"tokens": {}}},
    "behind a proxy": {"listen": "127.0.0.1:1", "public_url": URL, "auth": {"tokens": {"lifetime": "1m"}}},
    "another server": {"tls": {}, "auth": {"introspection": OUTSIDE}},
    "nobody is asked": {},
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "in the clear": ({"public_url": URL, "auth": {"tokens": {}}}, "auth needs tls"),
    "to all interfaces in the clear": ({"listen": "0.0.0.0:1", "auth": {"introspection": OUTSIDE}}, "auth needs tls"),
    "no public_url": ({"tls": {}, "auth": {"tokens": {}}}, "auth.tokens needs public_url"),
    "two servers": ({"tls": {}, "public_url": URL, "auth": {"tokens": {}, "introspection": OUTSIDE}}, "tokens come from one server"),
    "nobody": ({"tls": {}, "auth": {"certificates": False}}, "nobody could enter"),
    "nobody is asked": ({"tls": {"client_auth": "none"}, "auth": {}}, "nobody could enter"),
    "a long life": ({"tls": {}, "public_url": URL, "auth": {"tokens": {"lifetime": "6m"}}}, "lifetime is 1s to 5m"),
    "a wide skew": ({"tls": {}, "public_url": URL, "auth": {"tokens": {"clock_skew": "1h"}}}, "clock_skew is 2m at most"),
    "a long belief": ({"tls": {}, "auth": {"introspection": {**OUTSIDE, "cache": "1h"}}}, "cache is 5m at most"),
    "nobody asks": ({"tls": {}, "auth": {"introspection": {"url": OUTSIDE["url"]}}}, "introspection endpoint wants to know who asks"),
    "a secret in the clear": ({"tls": {}, "auth": {"introspection": {**OUTSIDE, "url": "http://as.example/i"}}}, "unencrypted"),
}


def faults(said: dict[str, Any]) -> list[str]:
    found: list[Fault] = []
    SOURCE.parse({"listen": "8443", **said}, Place("c.yaml"), found)
    return [str(fault) for fault in found]


@pytest.mark.parametrize("way", FINE)
def test_what_is_fine(way: str) -> None:
    """Each way of entering by itself."""
    assert faults(FINE[way]) == []


@pytest.mark.parametrize("way", WRONG)
def test_what_is_not(way: str) -> None:
    """One fault, in words that say what to do."""
    said, text = WRONG[way]
    (fault,) = faults(said)
    assert text in fault
