"""Databases for tests: one of its own on the servers that are there, and whole servers of its own, which can be killed and lost.

MERIDIAN_TEST_POSTGRESQL and MERIDIAN_TEST_MARIADB say where the servers are; where none answers one is started. Where the programs of a
server are not installed a test is skipped, except in continuous integration.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from uuid import uuid4

import pytest
import sqlalchemy
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from adapters.database.options import CONNECTION
from engine.bench.loopback import free_port
from engine.options import Settings
from tests.support.killing import kill_tree
from tests.support.waiting import until

_SERVERS: Final = {
    "postgresql": ("MERIDIAN_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test", "postgresql+psycopg"),
    "mysql": ("MERIDIAN_TEST_MARIADB", "mysql://root@127.0.0.1:3306/test", "mysql+pymysql"),
}
SERVERS: Final = tuple(_SERVERS)


def missing(what: str) -> None:
    """Skip this test, or fail it where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def engine_of(url: URL | str, **options: Any) -> Engine:
    """An engine of the test's own, each statement committed at once."""
    return sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", **options)


@contextmanager
def own_database(server: str, charset: str = "") -> Iterator[URL]:
    """A new, empty database on the `server` ("postgresql", "mysql") of this machine; dropped at the end. Gives its address."""
    url = _server(server)
    engine = engine_of(url)
    name = f"meridian_{uuid4().hex[:12]}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}{_encoded(server, charset)}")
    try:
        yield url.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}" + (" WITH (FORCE)" if server == "postgresql" else ""))
        engine.dispose()


@cache
def _server(server: str) -> URL:
    """The machine's server; where none answers, one of this run's own."""
    variable, usual, driver = _SERVERS[server]
    url = make_url(os.environ.get(variable, usual)).set(drivername=driver)
    engine = engine_of(url)
    try:
        with engine.connect():
            return url
    except SQLAlchemyError:
        own = OWN_SERVERS[server]()
        atexit.register(own.__exit__)
        return own.__enter__().url
    finally:
        engine.dispose()


def _encoded(server: str, charset: str) -> str:
    if not charset:
        return ""
    return (
        f" ENCODING '{charset}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0" if server == "postgresql" else f" CHARACTER SET {charset}"
    )


def connection_options(url: URL | str, **options: Any) -> Settings:
    """The option `connection` for an address."""
    return CONNECTION.defaults(url=written(url), **options)


def written(url: URL | str) -> str:
    """As a site writes it."""
    return url if isinstance(url, str) else url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)


class OwnServer:
    """A server of the test's own in a temporary folder on a free port, as a context. A fresh one at the `port` of another that was
    killed is what clients see after a failover to an empty standby."""

    user: ClassVar[str]
    program: ClassVar[str]

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="meridian-server-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._as: list[str] = []
            if os.getuid() == 0:  # neither runs as root
                owner = pwd.getpwnam(self.user)
                os.chown(self.folder, owner.pw_uid, owner.pw_gid)
                self._as = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            self.create()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def url(self) -> URL:
        raise NotImplementedError

    def start(self) -> None:
        """Start, or start again, and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._as + self.command(), stdout=log, stderr=log, cwd=self.folder)
        until(self.answers, f"an answer of {self.program} at port {self.port}")

    def answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
        engine = engine_of(self.url)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            return True
        except SQLAlchemyError:
            return False
        finally:
            engine.dispose()

    def kill(self) -> None:
        """SIGKILL to it and its children, as if the machine had lost its power."""
        if self._process is None:
            return
        kill_tree(self._process.pid)  # a child that is left would keep its shared memory from the next start
        self._process.wait(30)
        self._process = None

    def stop(self) -> None:
        """As an administrator does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT if self.program == "postgres" else signal.SIGTERM)
        self._process.wait(60)
        self._process = None

    def run(self, *command: str) -> None:
        done = subprocess.run([*self._as, *command], check=False, capture_output=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


class OwnPostgres(OwnServer):
    """PostgreSQL. `settings` go into its configuration (wal_level="logical"); `standby_of` is another whose copy it begins as, and
    follows until `promote`."""

    user, program = "postgres", "postgres"

    def __init__(self, port: int = 0, standby_of: OwnPostgres | None = None, **settings: Any) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: float(file.parts[-3]))
        on_path = shutil.which("initdb")
        if not found and not on_path:
            missing("PostgreSQL's initdb")
        self._programs = found[-1].parent if found else Path(str(on_path)).parent
        super().__init__(port)
        self._primary, self._settings = standby_of, settings

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> URL:
        return make_url(f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres")

    def create(self) -> None:
        if self._primary is not None:
            primary = f"host=127.0.0.1 port={self._primary.port} user=postgres"
            self.run(str(self._programs / "pg_basebackup"), "-d", primary, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast")
            return
        self.run(str(self._programs / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def command(self) -> list[str]:
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder, "shared_buffers": "16MB",
                    "max_connections": 40, **self._settings}  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.data), *options]

    def promote(self) -> None:
        """Of a standby: it becomes a primary, on a new timeline."""
        self.run(str(self._programs / "pg_ctl"), "promote", "-w", "-D", str(self.data))


class OwnMariaDB(OwnServer):
    """MariaDB. `settings` are options of its own (log_bin="log", binlog_format="ROW", binlog_row_metadata="FULL", server_id=1)."""

    user, program = "mysql", "mariadbd"

    def __init__(self, port: int = 0, **settings: Any) -> None:
        self._install, self._server = (
            shutil.which("mariadb-install-db"),
            shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin"),
        )
        if not self._install or not self._server:
            missing("mariadb-server")
        super().__init__(port)
        self._settings = settings

    @property
    def url(self) -> URL:
        return make_url(f"mysql+pymysql://root@127.0.0.1:{self.port}/own?charset=utf8mb4")

    def create(self) -> None:
        self.run(
            str(self._install),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.folder}",  # names in it are made of process ids only
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=16M",
        )
        (self.folder / "init.sql").write_text("CREATE DATABASE IF NOT EXISTS own CHARACTER SET utf8mb4;\n")

    def command(self) -> list[str]:
        settings = {
            "datadir": self.folder / "data",
            "tmpdir": self.folder,
            "socket": self.folder / "server.sock",
            "pid_file": self.folder / "server.pid",
            "port": self.port,
            "bind_address": "127.0.0.1",
            "init_file": self.folder / "init.sql",
            "innodb_log_file_size": "8M",
            "innodb_buffer_pool_size": "16M",
            "character_set_server": "utf8mb4",
            **self._settings,
        }
        return [str(self._server), "--no-defaults", "--skip-name-resolve", *(f"--{name}={value}" for name, value in settings.items())]


OWN_SERVERS: Final[dict[str, type[OwnServer]]] = {"postgresql": OwnPostgres, "mysql": OwnMariaDB}
