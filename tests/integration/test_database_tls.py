"""TLS to a database: who the server must be, and that it is used; with a certificate of the node's own."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError
from twisted.internet import reactor

from adapters.database.connection import make_engine
from adapters.database.errors import DatabaseError
from certs import Authority
from engine.errors import ConfigError
from tests.support.capture import LOGGING, Captured
from tests.support.databases import OWN_SERVERS, SERVERS, OwnServer, connection_options, engine_of
from tests.support.fhir import context

USED = {"postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "mysql": "SHOW STATUS LIKE 'Ssl_cipher'"}


def serving(server: str, folder: Path, *, host: str = "127.0.0.1") -> tuple[OwnServer, Authority]:
    """A server with a certificate for `host`, not started yet."""
    authority = Authority.create(folder / "authority", "hospital")
    authority.issue("database", out=folder / "server", dns=("localhost",), ips=(host,))
    own = OWN_SERVERS[server]()
    owner = pwd.getpwnam(own.user)
    for name in ("node.pem", "node.key", "ca.pem"):
        made = Path(shutil.copy(folder / "server" / name, own.folder / name))
        made.chmod(0o600)
        if os.getuid() == 0:
            os.chown(made, owner.pw_uid, owner.pw_gid)
    own._settings |= {  # type: ignore[attr-defined]
        "postgresql": {"ssl": "on", "ssl_cert_file": own.folder / "node.pem", "ssl_key_file": own.folder / "node.key", "ssl_ca_file": own.folder / "ca.pem"},
        "mysql": {"ssl_cert": own.folder / "node.pem", "ssl_key": own.folder / "node.key", "ssl_ca": own.folder / "ca.pem"},
    }[server]  # fmt: skip
    return own, authority


@pytest.mark.parametrize("server", SERVERS)
def test_the_server_is_who_it_must_be(server: str, tmp_path: Path) -> None:
    """Its certificate comes from our authority and names its host; without the authority, or the files, nothing is sent."""
    own, authority = serving(server, tmp_path)
    authority.issue("site", out=tmp_path / "certs", dns=("localhost",))
    (tmp_path / "certs" / "node.key").chmod(0o600)
    Authority.create(tmp_path / "other", "stranger").issue("site", out=tmp_path / "strange", dns=("localhost",))
    made = replace(context(tmp_path, reactor), tls=SimpleNamespace(folder=tmp_path / "certs"))  # type: ignore[arg-type]
    with own:
        engine = make_engine(connection_options(own.url, tls={}), made)
        with engine.connect() as connection:
            assert connection.exec_driver_sql(USED[server]).one()[-1]
        engine.dispose()
        strange = replace(made, tls=SimpleNamespace(folder=tmp_path / "strange"))  # type: ignore[arg-type]
        engine = make_engine(connection_options(own.url, tls={"certificate": "none"}), strange)
        with pytest.raises(OperationalError, match="certificate verify failed"):
            engine.connect()
        engine.dispose()
    with pytest.raises(ConfigError, match=r"cannot read .*missing\.pem"):
        make_engine(connection_options(own.url, tls={"ca": "missing.pem"}), made)


@pytest.mark.parametrize("server", SERVERS)
def test_a_certificate_of_another_host(server: str, tmp_path: Path) -> None:
    """Is refused, unless the site says that the authority is enough."""
    own, _ = serving(server, tmp_path, host="10.9.9.9")
    made = replace(context(tmp_path, reactor), tls=SimpleNamespace(folder=tmp_path / "server"))  # type: ignore[arg-type]
    with own:
        engine = make_engine(connection_options(own.url, tls={"certificate": "none"}), made)
        with pytest.raises(OperationalError):
            engine.connect()
        engine.dispose()
        engine = make_engine(connection_options(own.url, tls={"certificate": "none", "verify": "ca"}), made)
        with engine.connect() as connection:
            assert connection.exec_driver_sql(USED[server]).one()[-1]
        engine.dispose()


@pytest.mark.parametrize("server", SERVERS)
def test_the_log_over_tls(server: str, tmp_path: Path) -> None:
    """Change capture: its first state and its log are read over TLS from a server that takes nothing else, or shows it;
    one of another authority is not read."""
    own, authority = serving(server, tmp_path)
    own._settings |= LOGGING[server][1]  # type: ignore[attr-defined]
    authority.issue("site", out=tmp_path / "certs", dns=("localhost",))
    (tmp_path / "certs" / "node.key").chmod(0o600)
    Authority.create(tmp_path / "other", "stranger").issue("site", out=tmp_path / "strange", dns=("localhost",))
    with own:
        engine = engine_of(own.url)
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE item (id integer PRIMARY KEY)")
            connection.exec_driver_sql("INSERT INTO item VALUES (1)")
            if server == "mysql":
                connection.exec_driver_sql("SET GLOBAL require_secure_transport = ON")
            with Captured(tmp_path, own.url, certs=tmp_path / "certs", connection={"tls": {}}) as captured:
                captured.until_idle()
                connection.exec_driver_sql("INSERT INTO item VALUES (2)")
                captured.until(2)
                if server == "postgresql":
                    used = connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)").scalars().all()
                    assert used == [True]
            assert [record.change for record in captured.kept.records] == ["snapshot", "insert"]
            stranger = {"certs": tmp_path / "strange", "connection": {"tls": {"certificate": "none"}}}
            with Captured(tmp_path, own.url, captured.kept, **stranger) as refused, pytest.raises(DatabaseError):  # type: ignore[arg-type]
                refused.page()
        engine.dispose()
