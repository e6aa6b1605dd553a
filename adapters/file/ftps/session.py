"""One control connection of FTP over TLS, with its data connections (RFC 959, RFC 4217, RFC 3659)."""

from __future__ import annotations

import errno
import ftplib
import os
import posixpath
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import ConfigError, PeerIdentityError

if TYPE_CHECKING:
    from engine.options import Settings

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_UNKNOWN: Final = ("500", "501", "502", "504")
"""Replies to a command that the server does not have (RFC 959 clause 4.2.1)."""


class CertificateRefused(PeerIdentityError):
    """The server's certificate is not from our authorities, not for its name, or not valid now."""

    code = "security.certificate"


class LoginRefused(PeerIdentityError):
    """The server is the right one, and does not let us in."""

    code = "security.login"


class _Reusing(ftplib.FTP_TLS):
    """Data connections go on with the TLS session of the control connection, as many servers demand so that nobody else takes them."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321  it is wrapped below
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            wrapped = self.context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session)
        except BaseException:
            connection.close()
            raise
        return wrapped, size


def tls_context(options: Settings, certs: Path) -> ssl.SSLContext:
    """By the settings of TLS. Raises ConfigError where a file cannot be used."""
    try:
        made = ssl.create_default_context(cafile=None if options.ca == "system" else str(certs / options.ca))
        made.minimum_version = _VERSIONS[options.min_version]
        if options.certificate is not None:
            phrase = options.key_passphrase
            # without a passphrase OpenSSL would ask for one at the terminal
            made.load_cert_chain(certs / options.certificate, certs / options.key, phrase.reveal if phrase is not None else lambda: b"")
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else "they do not fit together, or are none"
        raise ConfigError(f"cannot use the certificates of tls (ca, certificate, key): {reason}") from None
    return made


class FtpsSession:
    """Connects when it is made. Names are sent and read as bytes, whatever their charset. All methods raise OSError or SecurityError."""

    def __init__(self, options: Settings, context: ssl.SSLContext, password: str) -> None:
        self._server = f"{options.host}:{options.port}"
        self._text = True
        self._ftp = _Reusing(context=context, timeout=options.connect_timeout, encoding="latin-1")
        try:
            with self.sorted():
                self._log_in(options, password)
        except BaseException:
            self.close()
            raise

    def _log_in(self, options: Settings, password: str) -> None:
        self._ftp.connect(options.host, options.port)
        self._ftp.auth()
        self._ftp.login(options.user, password)
        self._ftp.prot_p()
        assert self._ftp.sock is not None
        self._ftp.sock.settimeout(options.timeout)
        self._ftp.timeout = options.timeout
        self._base = posixpath.join(_name(self._ftp.pwd()), options.folder)
        self._features = self._ask_features()

    def is_alive(self) -> bool:
        """Servers end what is silent, and say so only to the next request."""
        try:
            self._ftp.voidcmd("NOOP")
        except (OSError, EOFError, ftplib.Error):
            return False
        return True

    def _ask_features(self) -> set[str]:
        try:
            return {line.strip().upper().split(" ")[0].split(";")[0] for line in self._ftp.sendcmd("FEAT").splitlines()[1:-1]}
        except ftplib.error_perm:
            return set()

    def close(self) -> None:
        with suppress(OSError, EOFError, ftplib.Error):
            self._ftp.close()

    def sorted(self) -> _Sorted:
        """``with``: what goes wrong inside is raised as OSError or SecurityError."""
        return _Sorted(self._server)

    def at(self, path: str) -> str:
        """As ftplib sends it. Raises OSError for a name that no command can hold."""
        whole = posixpath.normpath(posixpath.join(self._base, path)) if path else self._base
        raw = whole.encode("utf-8", "surrogateescape").decode("latin-1")
        if "\r" in raw or "\n" in raw or "\0" in raw:
            raise OSError(errno.EINVAL, "FTP has no way to say such a name")
        return raw

    # --- requests ----------------------------------------------------------------------------------

    def listed(self, folder: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Names with their facts (RFC 3659 clause 7.5): type, size, modify."""
        if "MLSD" in self._features or "MLST" in self._features:
            self._text = True
            with self.sorted():
                found = list(self._ftp.mlsd(self.at(folder)))
            yield from ((_name(name), facts) for name, facts in found)
            return
        self._text = True
        with self.sorted():
            names = self._ftp.nlst(self.at(folder))
        for name in (posixpath.basename(_name(one)) for one in names):
            path = f"{folder}/{name}" if folder else name
            facts = self.facts(path) or ({"type": "dir"} if self.is_folder(path) else None)
            if facts is not None:
                yield name, facts

    def facts(self, path: str) -> dict[str, str] | None:
        """Of one file; None where there is none."""
        at = self.at(path)
        with self.sorted():
            try:
                if "MLST" in self._features:
                    line = self._ftp.sendcmd(f"MLST {at}").splitlines()[1].strip()
                    return dict(_pair(fact) for fact in line.partition(" ")[0].rstrip(";").split(";"))
                self._binary()  # the size in text would be another
                size, modified = self._ftp.sendcmd(f"SIZE {at}"), self._ftp.sendcmd(f"MDTM {at}")
            except ftplib.error_perm as error:
                if str(error).startswith("550"):
                    return None
                raise
        return {"type": "file", "size": size.split()[1], "modify": modified.split()[1]}

    def is_folder(self, path: str) -> bool:
        with self.sorted():
            try:
                self._ftp.voidcmd(f"CWD {self.at(path)}")
            except ftplib.error_perm:
                return False
        return True

    def command(self, *commands: str) -> None:
        with self.sorted():
            for command in commands[:-1]:
                self._ftp.sendcmd(command)
            self._ftp.voidcmd(commands[-1])

    def upload(self, path: str, chunks: Iterable[bytes]) -> int:
        """Gives the bytes that were sent, once the server has said that it has them all."""
        sent = 0
        with self.sorted():
            self._binary()
            data = self._ftp.transfercmd(f"STOR {self.at(path)}")
        try:
            for chunk in chunks:  # what they raise is theirs
                with self.sorted():
                    data.sendall(chunk)
                sent += len(chunk)
            with self.sorted():
                _said_goodbye(data)
        finally:
            data.close()
        with self.sorted():
            self._ftp.voidresp()
        return sent

    def download(self, path: str) -> Any:
        """The data connection; `downloaded` is to be asked at its end."""
        with self.sorted():
            self._binary()
            return self._ftp.transfercmd(f"RETR {self.at(path)}")

    def _binary(self) -> None:
        """Listings switch to text, in which a server may change line ends (RFC 959 clause 3.1.1.1)."""
        if self._text:
            self._ftp.voidcmd("TYPE I")
            self._text = False

    def downloaded(self) -> None:
        """Raises OSError where the server says that it has not sent everything."""
        with self.sorted():
            self._ftp.voidresp()


class _Sorted:
    """What an error of ftplib, ssl or a socket means, by its reply code (RFC 959 clause 4.2). The server's words are not repeated."""

    def __init__(self, server: str) -> None:
        self._server = server

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            raise CertificateRefused(f"the certificate of {self._server} is not taken: {error.verify_message}") from None
        if isinstance(error, ftplib.error_perm | ftplib.error_temp):
            raise self._replied(str(error)[:3]) from None
        if isinstance(error, TimeoutError):
            raise TimeoutError(errno.ETIMEDOUT, f"{self._server} does not answer in time") from None
        if isinstance(error, OSError | EOFError | ftplib.Error):
            raise ConnectionError(errno.ECONNRESET, f"{self._server} is out of reach: {type(error).__name__}") from None

    def _replied(self, code: str) -> Exception:
        if code in ("530", "532"):
            return LoginRefused(f"{self._server} does not let us in: user, password or certificate are not the ones that it knows")
        if code == "421":
            return ConnectionError(errno.ECONNRESET, f"{self._server} ends the connection")
        numbers = {"550": errno.ENOENT, "552": errno.ENOSPC, "452": errno.ENOSPC, "553": errno.EINVAL, "425": errno.ECONNREFUSED}
        number = errno.EOPNOTSUPP if code in _UNKNOWN else numbers.get(code, errno.ECONNRESET if code == "426" else errno.EIO)
        return OSError(number, f"{os.strerror(number)} on {self._server} (reply {code})")


def seconds_of(fact: str) -> int:
    """``20260131093000.123`` (RFC 3659 clause 2.3) in microseconds since 1970; 0 where it cannot be read."""
    try:
        return int(datetime.strptime(fact[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()) * 1_000_000
    except ValueError:
        return 0


def _said_goodbye(data: Any) -> None:
    """The end of TLS tells the server that nothing was cut off; servers that close without theirs are many."""
    with suppress(ssl.SSLError, OSError):
        data.unwrap()


def _pair(fact: str) -> tuple[str, str]:
    name, _, value = fact.partition("=")
    return name.strip().lower(), value


def _name(raw: str) -> str:
    return raw.encode("latin-1").decode("utf-8", "surrogateescape")
