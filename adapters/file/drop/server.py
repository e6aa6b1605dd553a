"""The listener: who may come in, how many, and for how long. Lives in asyncio's thread; what it tells goes to the reactor's."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import asyncssh
from asyncssh.kex import get_kex_algs

from adapters.file.drop.folder import DropFolder, Limits
from adapters.file.drop.session import DropChannel, DropSession
from adapters.file.drop.tries import Tries
from adapters.file.ssh.algorithms import algorithms
from adapters.file.ssh.keys import fingerprint
from engine.errors import ConfigError
from engine.identity import party_uri
from engine.listening import BACKLOG

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_WATCH_SECONDS: Final = 0.5
_MOST_KEYS_SHOWN: Final = 12
"""Keys that one connection may try; OpenSSH's client shows all that it has."""
_MOST_SESSIONS: Final = 10
"""Of one connection at a time, as OpenSSH's MaxSessions."""
_BY_APPLICATION: Final = 11
"""SSH_DISCONNECT_BY_APPLICATION (RFC 4253 clause 11.1)."""


class DropServer:
    """`folders` by user name. `start` and `stop` are called in any thread but the loop's, by the place."""

    def __init__(self, options: Settings, context: Context, folders: dict[str, DropFolder]) -> None:
        self.options, self.context, self.folders = options, context, folders
        self.parties = {name: party_uri(user.party or name) for name, user in options.users.items()}
        self._keys = {name: frozenset(user.public_keys) for name, user in options.users.items()}
        self._tries = Tries(options.tries)
        self._connections: set[_Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._listener: Any = None
        self._ending: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Raises ConfigError (host keys), OSError (the port is taken)."""
        options = self.options
        host, port = options.listen
        self._listener = await asyncssh.listen(
            host or None,
            port,
            backlog=BACKLOG,
            server_factory=lambda: _Connection(self),
            server_host_keys=host_keys(options, self.context),
            agent_forwarding=False,
            x11_forwarding=False,
            allow_pty=False,
            allow_scp=False,
            gss_host=None,
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            x509_trusted_certs=None,
            login_timeout=options.login_timeout,
            server_version="Meridian",
            config=None,
            **algorithms(options.old_algorithms, [name.decode() for name in get_kex_algs()]),
        )
        self._look()

    async def stop(self) -> None:
        """What is being uploaded stays begun."""
        if self._watch is not None:
            self._watch.cancel()
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
            self._listener = None
        ending = [one.end("the node stops") for one in list(self._connections)]
        await asyncio.gather(*ending, return_exceptions=True)

    @property
    def port(self) -> int:
        return int(self._listener.get_port())

    # --- who comes in ------------------------------------------------------------------------------

    def admit(self, connection: _Connection) -> bool:
        """Whether one more may begin to log in."""
        address = connection.address
        now = asyncio.get_running_loop().time()
        if not self._tries.may_try(address, now):
            return False
        if len(self._connections) >= self.options.most_connections or self._per_address[address] >= self.options.most_per_address:
            self.count("meridian_file_drop_refused_total", "connections refused because there were too many")
            return False
        self._connections.add(connection)
        self._per_address[address] += 1
        return True

    def gone(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._per_address[connection.address] -= 1
            if not self._per_address[connection.address]:
                del self._per_address[connection.address]

    def proves(self, user: str, key: str) -> bool:
        return key in self._keys.get(user, ())

    def disabled(self, user: str) -> bool:
        return self.context.disabled(self.parties[user])

    def failed(self, address: str, user: str, reason: str, shown: str = "") -> None:
        """A login failed: audited, and counted against its address."""
        known = user if user in self._keys else ""  # what a stranger calls himself may be anything
        last = self._tries.failed(address, asyncio.get_running_loop().time())
        self.audit("sftp.login_failed", remote=address, user=known, reason=reason, shown=shown)
        if last:
            self.audit("sftp.logins_limited", remote=address, reason=f"{self.options.tries} failed logins in a minute")

    # --- sessions ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Close what is idle, has lasted too long, or is of a party that was disabled meanwhile."""
        loop = asyncio.get_running_loop()
        for connection in list(self._connections):
            reason = connection.overdue(loop.time())
            if reason:
                ending = loop.create_task(connection.end(reason))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)
        self._watch = loop.call_later(_WATCH_SECONDS, self._look)

    # --- what it tells -----------------------------------------------------------------------------

    def audit(self, event: str, **facts: Any) -> None:
        given = {"channel": self.context.name, **{name: fact for name, fact in facts.items() if fact != ""}}
        self.context.reactor.callFromThread(self.context.audit, event, **given)

    def count(self, name: str, doc: str) -> None:
        self.context.reactor.callFromThread(lambda: self.context.metrics.counter(name, doc, channel=self.context.name).inc())


class _Connection(asyncssh.SSHServer):
    """One client's connection, from its first byte to its last."""

    def __init__(self, server: DropServer) -> None:
        self._server = server
        self._wire: Any = None
        self._began_at = self._active_at = asyncio.get_running_loop().time()
        self._shown: list[str] = []
        self._sessions = 0
        self.address = self.user = ""
        self.logged_in = self._refused = False

    def connection_made(self, conn: Any) -> None:
        self._wire = conn
        self.address = str((conn.get_extra_info("peername") or ("",))[0])
        if not self._server.admit(self):
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.user and not self.logged_in and not self._refused:
            self._server.failed(self.address, self.user, "no key of the user was shown", self._shown[-1] if self._shown else "")
        elif self.logged_in:
            self._server.audit("sftp.closed", remote=self.address, user=self.user)
        self._server.gone(self)

    # --- logging in (RFC 4252) ---------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        self.user = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: Any) -> bool:
        """Asked when a key is shown, and again when it has signed; asyncssh checks the signature itself."""
        text = " ".join(key.export_public_key().decode().split()[:2])
        if not self._server.proves(username, text):
            self._shown.append(fingerprint(text))
            if len(self._shown) >= _MOST_KEYS_SHOWN:
                self._wire.disconnect(_BY_APPLICATION, "too many keys")
            return False
        if self._server.disabled(username):
            self._refuse(username, "the party has been disabled")
            return False
        self.user = username
        return True

    def _refuse(self, user: str, reason: str) -> None:
        if not self._refused:
            self._refused = True
            self._server.failed(self.address, user, reason)

    def auth_completed(self) -> None:
        self.logged_in = True
        self._active_at = asyncio.get_running_loop().time()
        self._server.audit("sftp.opened", remote=self.address, user=self.user, proven=self._server.parties[self.user])

    # --- what may be asked for ---------------------------------------------------------------------

    def session_requested(self) -> Any:
        if self._sessions >= _MOST_SESSIONS:
            return False
        self._sessions += 1
        return DropChannel(self._session, self._session_ended)

    def _session_ended(self) -> None:
        self._sessions -= 1

    def _session(self, channel: Any) -> DropSession:
        return DropSession(channel, self._server.folders[self.user], active=self._active, told=self._uploaded)

    def _active(self) -> None:
        self._active_at = asyncio.get_running_loop().time()

    def _uploaded(self, name: str, size: int) -> None:
        """The name is in the message that comes of it; the audit log has no names, which may be patients'."""
        self._server.audit("sftp.uploaded", remote=self.address, user=self.user, bytes=size)
        self._server.count("meridian_file_drop_uploads_total", "files that senders have put and closed")

    # --- its end -----------------------------------------------------------------------------------

    def overdue(self, now: float) -> str:
        """Why it must end now, "" where it need not."""
        options = self._server.options
        if self.logged_in and self._server.disabled(self.user):
            return "the party has been disabled"
        if self.logged_in and now - self._active_at > options.idle:
            return "no request came"
        return "it has lasted too long" if now - self._began_at > options.longest else ""

    async def end(self, reason: str) -> None:
        self._server.audit("sftp.ended", remote=self.address, user=self.user if self.logged_in else "", reason=reason)
        self._server.gone(self)
        self._wire.disconnect(_BY_APPLICATION, reason)
        self._wire.abort()
        await self._wire.wait_closed()


def limits_of(options: Settings) -> Limits:
    return Limits(options.most_size, options.quota_size, options.quota_files, options.half_written)


def host_keys(options: Settings, context: Context) -> list[Any]:
    """Raises ConfigError."""
    found = []
    for name in options.host_key:
        try:
            found.append(asyncssh.read_private_key(str(context.site / name)))
        except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            reason = (
                error.strerror if isinstance(error, OSError) and error.errno != errno.EIO else "it is no private key without a passphrase"
            )
            raise ConfigError(f"channel {context.name}: cannot use the host key {name}: {reason}") from None
    return found
