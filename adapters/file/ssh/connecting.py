"""How a connection to an SFTP server begins: whom it must be, and who we are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncssh
from asyncssh.kex import get_kex_algs

from adapters.file.ssh.algorithms import algorithms, host_key_algorithms
from adapters.file.ssh.faults import HostKeyRefused
from adapters.file.ssh.keys import fingerprint
from engine.errors import ConfigError, SecurityError

if TYPE_CHECKING:
    from engine.contracts import Context
    from engine.options import Settings

_KEEPALIVE_SECONDS: Final = 15
_KEEPALIVE_MOST: Final = 3


class Connecting:
    """Reads keys and secrets anew for each connection, so that they may be replaced while the node runs. What is refused is audited once
    until a connection succeeds again."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._shown = ""
        self._said: set[tuple[str, str]] = set()

    def arguments(self) -> dict[str, Any]:
        """asyncssh's. Raises ConfigError where a file or a secret cannot be used."""
        options = self._options
        pinned = self._pinned()
        secret = options.password.reveal() if options.password is not None else None
        return {
            "host": options.host,
            "port": options.port,
            "username": options.user,
            "client_keys": [self._key()] if options.key is not None else None,
            "password": secret,
            "known_hosts": (pinned, [], []),
            "server_host_key_algs": host_key_algorithms(options.old_algorithms, [key.get_algorithm() for key in pinned]),
            "connect_timeout": options.connect_timeout,
            "login_timeout": options.connect_timeout,
            "keepalive_interval": _KEEPALIVE_SECONDS,
            "keepalive_count_max": _KEEPALIVE_MOST,
            "config": None,  # nothing of the account that the node runs under
            "agent_path": None,
            "gss_host": None,
            "x509_trusted_certs": None,
            "client_version": "Meridian",
            **algorithms(options.old_algorithms, [name.decode() for name in get_kex_algs()]),
        }

    def _pinned(self) -> list[Any]:
        options = self._options
        if options.host_key:
            return [asyncssh.import_public_key(key) for key in options.host_key]
        file = self._context.site / options.known_hosts
        try:
            known = asyncssh.read_known_hosts(str(file))
            keys, _, revoked, *_ = known.match(options.host, options.host if _is_address(options.host) else "", options.port)
        except (OSError, ValueError, asyncssh.Error) as error:
            raise ConfigError(f"{self._context.name}: cannot read known_hosts {options.known_hosts}: {_reason(error)}") from None
        found = [key for key in keys if key not in revoked]
        if not found:
            raise ConfigError(f"{self._context.name}: {options.known_hosts} has no key for {options.host}, port {options.port}")
        return found

    def _key(self) -> Any:
        options = self._options
        phrase = options.key_passphrase.reveal() if options.key_passphrase is not None else None
        try:
            return asyncssh.read_private_key(str(self._context.site / options.key), phrase)
        except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise ConfigError(f"{self._context.name}: cannot use the key {options.key}: {_reason(error)}") from None

    async def connect(self, arguments: dict[str, Any]) -> tuple[Any, Any]:
        """The connection and its SFTP client, whose names are bytes. Raises what asyncssh raises."""
        connection, _ = await asyncssh.create_connection(lambda: _Witness(self), **arguments)
        try:
            return connection, await connection.start_sftp_client(path_encoding=None)
        except BaseException:
            connection.close()
            raise

    def shown(self, key: str) -> None:
        """The server has shown a key that is not pinned."""
        self._shown = key

    def failed(self, fault: Exception) -> None:
        """Audit and log what somebody must look at."""
        if not isinstance(fault, SecurityError):
            return
        seen = self._shown if isinstance(fault, HostKeyRefused) else ""
        if (fault.code, seen) in self._said:
            return
        self._said.add((fault.code, seen))
        event = "sftp.host_key_refused" if isinstance(fault, HostKeyRefused) else "sftp.login_refused"
        facts = {"channel": self._context.name, "remote": f"{self._options.host}:{self._options.port}", "reason": fault.text}
        if seen:
            facts["shown"] = seen
        self._context.log.error("an SFTP server is not used", extra=facts)
        self._context.reactor.callFromThread(self._context.audit, event, **facts)

    def went(self) -> None:
        self._said.clear()


class _Witness(asyncssh.SSHClient):
    """Trusts nothing beyond the pinned keys, and remembers what was shown instead."""

    def __init__(self, connecting: Connecting) -> None:
        self._connecting = connecting

    def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
        self._connecting.shown(fingerprint(key.export_public_key().decode()))
        return False


def _reason(error: Exception) -> str:
    return (error.strerror or "it cannot be read") if isinstance(error, OSError) else "it is not one, or its passphrase is another"


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit() or ":" in host
