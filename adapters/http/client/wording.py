"""What the destination would say for a message, without a network: for a channel's tests. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.http.client.options import DESTINATION
from adapters.http.client.request import build
from engine.formats.fhir import dump, parse_any
from engine.options import Settings

if TYPE_CHECKING:
    from engine.message import BodyRef, Parcel

_HIDDEN: Final = "***"


def word(options: Settings, parcel: Parcel) -> str:
    """The request: method and address, header fields, an empty line, the body (JSON of a template is indented). Without what no two
    attempts have in common; credentials are shown as ***. Raises PermanentDelivery."""
    outgoing = build(Settings(DESTINATION, {**options, "gzip": False}), parcel, "test", _no_file)
    headers = dict(outgoing.headers)
    if options.auth is not None:
        headers["Authorization"] = f"{'Basic' if options.auth.basic is not None else 'Bearer'} {_HIDDEN}"
    headers |= dict.fromkeys(options.secret_headers, _HIDDEN)
    lines = [f"{outgoing.method} {options.url.root}{outgoing.target}", *(f"{name}: {value}" for name, value in headers.items()), ""]
    body = outgoing.body
    assert isinstance(body, bytes)
    if options.body is not None and options.body.json is not None:
        body = dump(parse_any(body), indent=True)
    return "\n".join([*lines, body.decode("utf-8", "backslashreplace").replace("\r", "\n")])


def _no_file(body: BodyRef) -> Path:
    raise AssertionError("a test's message is in memory")
