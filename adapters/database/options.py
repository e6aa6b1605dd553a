"""What a channel file may say of a database: how to reach it, and who may know what. Shared by every adapter of this package."""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.database.urls import DATABASE_URL
from engine.options import DURATION, TEXT, Faulty, Kind, MapOf, Option, Settings, Spec, choice, integer
from engine.secrets import SECRET

_NAME: Final = re.compile(r"[^\s\"'`;\x00-\x1f][^\"'`;\x00-\x1f]*")


def _name(raw: Any) -> str:
    if not isinstance(raw, str) or not _NAME.fullmatch(raw):
        raise Faulty(f"{raw!r} is not the name of a column")
    return raw


COLUMN: Final = Kind("column", "the name of a column, as the database spells it", _name, {"type": "string"})
TABLE: Final = Kind("table", "a table or view: lab.result, or result of the database's own schema", _name, {"type": "string"})

_TLS: Final = Spec(
    "tls",
    "TLS to the database; files relative to the site's certs folder. The server's certificate must come from `ca` and be its host's.",
    [
        Option("ca", TEXT, "the authorities that the server must come from", default="ca.pem"),
        Option("certificate", TEXT, "our certificate chain; `none`: the user's password alone", default="node.pem"),
        Option("key", TEXT, "its private key", default="node.key"),
        Option("key_passphrase", SECRET, "what the private key is encrypted with; default: it is not"),
        Option("verify", choice("full", "ca"), "ca: the certificate need not name the host, only come from `ca`", default="full"),
    ],
)


def _fitting(settings: Settings) -> str:
    backend = settings.url.get_backend_name()
    if backend == "sqlite" and (settings.password or settings.user or settings.tls):
        return "sqlite is a file: it has no user, password or tls"
    if backend in ("mssql", "oracle") and settings.tls:
        return f"tls of {backend} is set up in its driver's own configuration, not here"
    return ""


CONNECTION: Final = Spec(
    "connection",
    "How a database is reached. SQL Server and Oracle have been proven by their statements only, not against a live server.",
    [
        Option("url", DATABASE_URL, "the database's address; a file of sqlite relative to the site", required=True),
        Option("user", TEXT, "the user, where the address does not say it"),
        Option("password", SECRET, "the user's password"),
        Option("tls", _TLS, "TLS with the server; default: none"),
        Option("connect_timeout", DURATION, "how long a connection may take", default="10s"),
        Option("statement_timeout", DURATION, "how long a statement may run before the database ends it", default="30s"),
        Option("lock_timeout", DURATION, "how long a statement may wait for somebody's lock", default="5s"),
        Option("pool", integer(1, 64), "connections at most", default=2),
        Option("charset", TEXT, "character set of the connection, as the database calls it; default: all of Unicode"),
        Option("session", MapOf(TEXT), "further settings of each session: name: value", default={}),
    ],
    scalar="url",
    check=_fitting,
)
"""The option `connection`, the same in every part of the package."""
