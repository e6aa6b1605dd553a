"""Addresses of databases as a site writes them: dialects, drivers, and no password."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from engine.options import Faulty, Kind

DRIVERS: Final = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "sqlite": "sqlite",
    "mssql": "mssql+pymssql",
    "oracle": "oracle+oracledb",
}
"""Each dialect with the driver that Meridian uses for it."""
UNPROVEN: Final = ("mssql", "oracle")
"""Dialects whose statements are tested as text only: no such server was at hand."""
_EXAMPLE: Final = "such as postgresql://user@host/database, mysql://user@host/database, sqlite:///data/lis.db"


def _url(raw: Any) -> URL:
    try:
        url = make_url(str(raw))
    except (ArgumentError, ValueError):  # neither repeats what was written: a password may be in it
        raise Faulty("this is not the address of a database", _EXAMPLE) from None
    if url.password is not None or "password" in url.query:
        raise Faulty("an address must not hold a password; say where it is with `password`", "env:VARIABLE or file:PATH")
    name = url.get_backend_name()
    if name not in DRIVERS or url.drivername not in (name, DRIVERS[name], "mariadb+pymysql"):
        raise Faulty(f"there is no driver for {url.drivername!r}", ", ".join(DRIVERS.values()))
    return url.set(drivername=DRIVERS[name])


DATABASE_URL: Final = Kind("database url", f"an address without a password, {_EXAMPLE}", _url, {"type": "string", "format": "uri"})


def engine_text(engine: Engine) -> str:
    """host:port of a database, or its file's name."""
    url = engine.url
    return f"{url.host}:{url.port or _PORTS.get(url.get_backend_name(), '')}" if url.host else Path(url.database or "").name


_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mssql": 1433, "oracle": 1521}
