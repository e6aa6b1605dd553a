"""Mutual TLS: contexts from a site's certs folder, identities of peers, renewal and revocation without a restart.

An adapter listens and connects like this, and needs to know no more:

    reactor.listenSSL(port, factory, context.tls.server(options.tls, context.name), interface=host)
    wrapClientTLS(context.tls.client(options.tls, hostname), endpoint)
    party = context.tls.peer(protocol.transport)

The folder holds ``ca.pem`` (one or more trusted authorities), ``crl.pem`` (their revocation lists, optional), ``node.pem`` and
``node.key``. The files are watched: new handshakes use what lies there, open connections go on, except those of a party whose
certificate has just been revoked, which are closed. Every handshake that fails, plain text on a TLS port among them, is audited with
its reason and the remote address, and the wrapped protocol's connectionLost hears a PeerIdentityError or CertificateExpired.

Rules: TLS 1.2 at least; no tickets and no session cache, so that every connection proves itself; a revoked certificate is refused
also by a list that has expired; a list that has expired, or is missing for an authority, is warned of and otherwise tolerated unless
the option says ``crl: strict``, since a hospital whose list was not renewed in time must go on receiving results. Files that cannot
be used leave what was in use before in force.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from engine.certificates import LIST, REVOCATION_LIST, Expiry, expiries, file_stamp, read_lists, shown, thumbprint
from engine.errors import CertificateExpired, ConfigError, PeerIdentityError
from engine.identity import HostIdentity, is_allowed, party_of, party_uri
from engine.options import TEXT, Faulty, Kind, ListOf, Option, Settings, Spec, choice
from engine.secrets import SECRET, Secret

if TYPE_CHECKING:
    from engine.observe import Metrics

WATCH_SECONDS: Final = 2.0
WARN_DAYS: Final = (30, 14, 7, 1, 0)
WARN_DAYS_LIST: Final = (7, 1, 0)
"""Revocation lists live for 30 days."""


def _party(raw: Any) -> str:
    try:
        party_uri(str(raw))
    except ValueError as error:
        raise Faulty(str(error)) from None
    return str(raw)


PARTY: Final = Kind("party", "a party name such as county-hospital", _party, {"type": "string"})
_FILES: Final = [
    Option("certificate", TEXT, "our certificate chain, relative to the certs folder", default="node.pem"),
    Option("key", TEXT, "its private key", default="node.key"),
    Option("key_passphrase", SECRET, "what the private key is encrypted with; default: it is not"),
    Option("ca", TEXT, "the authorities that peers must come from", default="ca.pem"),
    Option("crl", choice("tolerant", "strict"), "strict: a missing or expired revocation list refuses everyone", default="tolerant"),
    Option("min_version", choice("1.2", "1.3"), "lowest TLS version", default="1.2"),
]


def _nobody_is_asked(options: Settings) -> str:
    contradiction = options.allow and options.client_auth == "none"
    return "allow names parties, but client_auth: none asks nobody for a certificate" if contradiction else ""


SERVER_TLS: Final = Spec(
    "tls",
    "How a listener proves itself, and who may connect.",
    [
        Option("client_auth", choice("required", "optional", "none"), "whether a client must show a certificate", default="required"),
        Option("allow", ListOf(PARTY), "parties that may connect; default: every party of our authorities", default=[]),
        *_FILES,
    ],
    check=_nobody_is_asked,
)
CLIENT_TLS: Final = Spec(
    "tls",
    "How we prove ourselves to a server, and who it must be.",
    [Option("peer", PARTY, "party that the server's certificate must name; default: any, its host name decides"), *_FILES],
)

_DAYS_LEFT: Final = "meridian_certificate_days_left"
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_EXPIRED, _REVOKED = 10, 23  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_REVOKED
_LIST_FAULTS: Final = {3: "is missing for an authority", 11: "is not valid yet", 12: "has expired"}
"""What ``crl: tolerant`` tolerates: X509_V_ERR_UNABLE_TO_GET_CRL, _CRL_NOT_YET_VALID, _CRL_HAS_EXPIRED."""
_VERIFY_WORDS: Final = {  # openssl-verification-options
    2: "the issuer of the certificate is unknown",
    3: "there is no revocation list of its authority",
    7: "the signature of the certificate is wrong",
    8: "the signature of the revocation list is wrong",
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    11: "the revocation list is not valid yet",
    12: "the revocation list has expired",
    18: "the certificate is self-signed",
    19: "the chain ends in an unknown self-signed certificate",
    20: "the issuer of the certificate is unknown",
    21: "the chain cannot be verified",
    23: "the certificate has been revoked",
    26: "the certificate is not meant for this purpose",
}
_NO_TLS: Final = "no TLS was spoken: plain text on a TLS port"
_HANDSHAKE_WORDS: Final = {  # the reason strings of OpenSSL, where they do not speak for themselves
    "peer did not return a certificate": "no certificate shown",
    "http request": _NO_TLS,
    "https proxy request": _NO_TLS,
    "wrong version number": _NO_TLS,
    "unsupported protocol": "the TLS version is too old",
    "no shared cipher": "no cipher in common",
    "unexpected message": "this is not a TLS handshake",
}


class HandshakeRefused(PeerIdentityError, SSL.Error):
    """What a connection ends with when its handshake fails; `text` says why. Twisted expects OpenSSL's kind and shape of error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.args = ([("meridian", "", text)],)


class HandshakeExpired(HandshakeRefused, CertificateExpired):
    """The same for a certificate that has expired."""

    code = CertificateExpired.code


def check_files(folder: Path, options: Settings) -> None:
    """Raises ConfigError where the files that these options name cannot be used."""
    _Files.of(options, options.get("client_auth") or "required").build(folder)


class TlsProvider:
    """One for a node. `audit` takes an event and its facts."""

    def __init__(self, folder: Path, *, reactor: Any, log: logging.Logger, metrics: Metrics, audit: Callable[..., None]) -> None:
        self.folder = folder
        self.log, self.audit = log, audit
        self._metrics = metrics
        self._contexts: dict[_Files, SSL.Context] = {}
        self._revoked: frozenset[tuple[x509.Name, int]] = frozenset()
        self._live: weakref.WeakSet[_Handshake] = weakref.WeakSet()
        self._expiries: list[Expiry] = []
        self._said: set[str] = set()
        self._stamp: tuple[Any, ...] = ()
        self._stale = False
        self._loop = LoopingCall(self.look_again)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin to watch the files."""
        self._loop.start(WATCH_SECONDS).addErrback(
            lambda failure: self.log.critical("certificates are watched no more", exc_info=failure.value)
        )

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def server(self, options: Settings, channel: str = "") -> Any:
        """For listenSSL; `channel` goes into the audit. Raises ConfigError when the files or options cannot be used."""
        if options.allow and options.client_auth == "none":
            raise ConfigError(f"{channel or 'tls'}: allow names parties, but client_auth: none asks nobody for a certificate")
        side = _Side(self, options, None, channel)
        side.context()
        return side

    def client(self, options: Settings | None, hostname: str, channel: str = "") -> Any:
        """For wrapClientTLS and connectSSL. The server must be from our authorities, be called `hostname`, and name the party asked for.
        Raises ConfigError when the files or the host name cannot be used."""
        side = _Side(self, options or CLIENT_TLS.defaults(), _host(hostname), channel)
        side.context()
        return side

    def peer(self, transport: Any) -> str:
        """The party that a connection has proven, "" when none."""
        found = shown(transport)
        return party_of(found) if found is not None else ""

    def thumbprint(self, transport: Any) -> str:
        """The digest of the certificate that a connection has shown, as RFC 8705 3.1 writes it (x5t#S256); "" when none."""
        found = shown(transport)
        return thumbprint(found) if found is not None else ""

    def authorize(self, party: str, allow: Sequence[str]) -> None:
        """Raises PeerIdentityError where `party` is not among `allow`; for adapters that ask after the handshake."""
        if not is_allowed(party, allow):
            raise PeerIdentityError(f"{party or 'nobody who has shown a certificate'} may not connect here")

    # --- files -----------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Use new files for new handshakes; close what has been revoked; keep the metric up to date. Files that could not be
        used are tried again each time."""
        stamp = self._stamps()
        if stamp != self._stamp or self._stale:
            if stamp != self._stamp:
                self._said.clear()
            self._stamp = stamp
            self.reload()
        self._watch_expiry()

    def _stamps(self) -> tuple[Any, ...]:
        """What tells that a file has changed: those of the folder, and those that options name elsewhere."""
        files = {file for file in self.folder.glob("*") if file.suffix in (".pem", ".key")}
        files.update(self.folder / name for used in self._contexts for name in used.names)
        return tuple(file_stamp(file) for file in sorted(files))

    def reload(self) -> None:
        """Build every context anew. One that cannot be built stays as it was, and the log says why, once."""
        self._stale = False
        fresh = {}
        for used, old in self._contexts.items():
            try:
                fresh[used] = used.build(self.folder)
            except ConfigError as error:
                fresh[used], self._stale = old, True
                self._say_once(logging.ERROR, f"certificates not reloaded: {error}")
        self._contexts = fresh
        self._read_revoked()
        self._expiries = expiries(self.folder, {name for used in self._contexts for name in (used.certificate, used.ca)})
        if not self._stale:
            self.log.info("certificates loaded", extra={"folder": str(self.folder)})

    def _read_revoked(self) -> None:
        try:
            lists = read_lists(self.folder)
        except (OSError, ValueError):
            self._stale = True
            self._say_once(logging.ERROR, f"{REVOCATION_LIST} cannot be read; the one before it stays in force")
            return
        self._revoked = frozenset((one.issuer, entry.serial_number) for one in lists for entry in one)
        for handshake in [one for one in self._live if one.leaf in self._revoked]:
            handshake.close_revoked()

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        """By the newest list, which a handshake that began under an older context has not seen."""
        return (certificate.issuer, certificate.serial_number) in self._revoked

    def follow(self, handshake: _Handshake) -> None:
        """Remember a live connection, so that it can be closed when its certificate is revoked."""
        self._live.add(handshake)

    def _watch_expiry(self) -> None:
        now = datetime.now(UTC)
        self._metrics.clear(_DAYS_LEFT)  # a file may be gone, or be another authority's now
        for one in sorted(self._expiries, key=lambda one: one.until, reverse=True):  # of two with the same labels the sooner counts
            days = (one.until - now).total_seconds() / 86400
            doc = "days until a certificate or revocation list expires"
            self._metrics.gauge(_DAYS_LEFT, doc, certificate=one.file, kind=one.kind, subject=one.name).set(days)
            due = [limit for limit in (WARN_DAYS_LIST if one.kind == LIST else WARN_DAYS) if days <= limit]
            if due:
                state = "has expired" if days <= 0 else f"expires in less than {min(due)} days" if min(due) > 1 else "expires within a day"
                self._say_once(logging.WARNING, f"{one.file}: {one.kind} {one.name} {state}", until=one.until.isoformat())

    def _say_once(self, level: int, text: str, **facts: str) -> None:
        """Log the same thing only once until the files change: a handshake or a look may come every moment."""
        if text not in self._said:
            self._said.add(text)
            self.log.log(level, text, extra=facts)

    def tolerate(self, error: int) -> None:
        """Say that a revocation list is not as it should be, and that peers are let in all the same."""
        self._say_once(logging.WARNING, f"the revocation list {_LIST_FAULTS[error]}; peers are let in unless it names them")

    def context_for(self, options: Settings, client_auth: str) -> SSL.Context:
        """The context for these options, from the newest files."""
        used = _Files.of(options, client_auth)
        context = self._contexts.get(used)
        if context is None:
            context = self._contexts[used] = used.build(self.folder)
            self._read_revoked()
        return context


@dataclass(frozen=True)
class _Files:
    """What a context is made from."""

    certificate: str
    key: str
    ca: str
    crl: str
    min_version: str
    client_auth: str
    passphrase: Secret | None

    @classmethod
    def of(cls, options: Settings, client_auth: str) -> _Files:
        names = options.certificate, options.key, options.ca
        return cls(*names, options.crl, options.min_version, client_auth, options.key_passphrase)

    @property
    def names(self) -> tuple[str, str, str]:
        return self.certificate, self.key, self.ca

    def build(self, folder: Path) -> SSL.Context:
        """Raises ConfigError."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(_VERSIONS[self.min_version])
        context.set_cipher_list(_CIPHERS)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        try:
            self._load(context, folder)
        except (OSError, ValueError, TypeError, SSL.Error) as error:
            reason = "the files do not fit together or cannot be read"
            if isinstance(error, OSError):
                reason = f"{Path(str(error.filename)).name}: {error.strerror}"
            raise ConfigError(f"the certificates in {folder} cannot be used ({', '.join(self.names)}): {reason}") from None
        if self.client_auth != "none":
            mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if self.client_auth == "required" else 0)
            context.set_verify(mode, _verify)
        return context

    def _load(self, context: SSL.Context, folder: Path) -> None:
        chain = x509.load_pem_x509_certificates((folder / self.certificate).read_bytes())
        context.use_certificate(chain[0])
        for more in chain[1:]:
            context.add_extra_chain_cert(more)
        context.use_privatekey(self._private_key(folder))
        context.check_privatekey()
        store = context.get_cert_store()
        assert store is not None
        for authority in x509.load_pem_x509_certificates((folder / self.ca).read_bytes()):
            store.add_cert(crypto.X509.from_cryptography(authority))
        lists = read_lists(folder)
        for revocations in lists:
            store.add_crl(revocations)
        if lists or self.crl == "strict":
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK)

    def _private_key(self, folder: Path) -> Any:
        content = (folder / self.key).read_bytes()
        passphrase = None if self.passphrase is None else self.passphrase.reveal().encode()
        try:
            return load_pem_private_key(content, passphrase)
        except TypeError:
            wrong = "is encrypted: say where its key_passphrase is" if passphrase is None else "is not encrypted, and has a key_passphrase"
        except ValueError:
            if passphrase is None:
                raise
            wrong = "does not open with its key_passphrase"
        raise ConfigError(f"{folder / self.key} {wrong}")


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class _Side:
    """Makes the connections of one listener (`wanted` is None) or of one client."""

    def __init__(self, provider: TlsProvider, options: Settings, wanted: HostIdentity | None, channel: str) -> None:
        self.provider, self.options, self.wanted, self.channel = provider, options, wanted, channel

    def context(self) -> SSL.Context:
        return self.provider.context_for(self.options, self.options.client_auth if self.wanted is None else "required")

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return _Connection(self.context(), _Handshake(self, protocol))

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = _ClientConnection(self.context(), _Handshake(self, protocol))
        if self.wanted is not None and self.wanted.server_name:
            connection.set_tlsext_host_name(self.wanted.server_name)
        return connection


class _Connection(SSL.Connection):
    """A connection that says why its handshake failed."""

    def __init__(self, context: SSL.Context, handshake: _Handshake) -> None:
        super().__init__(context, None)
        self.handshake = handshake
        handshake.side.provider.follow(handshake)

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except SSL.WantReadError:
            raise
        except SSL.Error as error:
            raise self.handshake.failed(_words(error)) from None


class _ClientConnection(_Connection):
    """In TLS 1.3 a server looks at the client's certificate after the client's handshake is over (RFC 8446 clause 4.4.2.4)."""

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        try:
            return super().recv(bufsiz, flags)
        except (SSL.WantReadError, SSL.ZeroReturnError, SSL.SysCallError):
            raise
        except SSL.Error as error:
            if " alert " in _openssl_reason(error):
                self.handshake.failed(_words(error))
            raise


def _verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """Called by OpenSSL for each certificate of the peer's chain, and for each thing wrong with it."""
    assert isinstance(connection, _Connection)
    return connection.handshake.verify(certificate.to_cryptography(), error, depth, bool(ok))


@dataclass(eq=False)
class _Handshake:
    """One connection's handshake: judges the peer's certificate, and says once why it failed."""

    side: _Side
    protocol: Any
    reason: str = ""
    expired: bool = False
    party: str = ""
    leaf: tuple[x509.Name, int] | None = None
    told: bool = False

    def verify(self, certificate: x509.Certificate, error: int, depth: int, ok: bool) -> bool:
        provider = self.side.provider
        if not ok and error in _LIST_FAULTS and self.side.options.crl == "tolerant":
            provider.tolerate(error)
            ok = True
        if depth == 0:
            self.party, self.leaf = party_of(certificate), (certificate.issuer, certificate.serial_number)
        if not ok:
            self.reason = _VERIFY_WORDS.get(error, f"the certificate does not verify (X.509 error {error})")
            self.expired = error == _EXPIRED
        elif provider.is_revoked(certificate):
            self.reason = _VERIFY_WORDS[_REVOKED]
        elif depth == 0:
            self.reason = self._wrong(certificate)
        return not self.reason

    def _wrong(self, certificate: x509.Certificate) -> str:
        """Why a valid certificate is not the one that is wanted here, "" when it is."""
        options, wanted = self.side.options, self.side.wanted
        if wanted is None:
            return "" if is_allowed(self.party, options.allow) else f"{self.party or 'a certificate without a party'} may not connect here"
        if options.peer and self.party != party_uri(options.peer):
            return f"the server is {self.party or 'nobody we know'}, not {options.peer}"
        return "" if wanted.named_by(certificate) else f"the server's certificate is not for {wanted}"

    def failed(self, said: str) -> HandshakeRefused:
        """Audit and log it, once; gives the error to raise."""
        reason = self.reason or said
        if not self.told:
            self.told = True
            facts = self._facts(reason)
            self.side.provider.audit("tls.refused" if self.side.wanted is None else "tls.failed", **facts)
            self.side.provider.log.warning("TLS handshake failed", extra=facts)
        return HandshakeExpired(reason) if self.expired else HandshakeRefused(reason)

    def close_revoked(self) -> None:
        if self.protocol.connected:
            self.side.provider.audit("tls.closed", **self._facts(_VERIFY_WORDS[_REVOKED]))
            self.protocol.abortConnection()

    def _facts(self, reason: str) -> dict[str, str]:
        """`local` tells which listener it was."""
        wire = self.protocol.transport
        ends = {"remote": _address(wire.getPeer()), "local": _address(wire.getHost())} if wire is not None else {}
        return {"channel": self.side.channel, **ends, "party": self.party, "reason": reason}


def _address(address: Any) -> str:
    return f"{address.host}:{address.port}" if hasattr(address, "port") else ""


def _openssl_reason(error: SSL.Error) -> str:
    queue = error.args[0] if error.args else ()
    return str(queue[0][-1]) if isinstance(queue, list) and queue else "the connection broke off"


def _words(error: SSL.Error) -> str:
    """What OpenSSL says, in words for the audit: ours, or those of an alert that the peer has sent (RFC 8446 clause 6.2)."""
    reason = _openssl_reason(error)
    _, alert, said = reason.partition(" alert ")
    return f"the peer refused us: {said}" if alert else _HANDSHAKE_WORDS.get(reason, reason)


def _host(name: str) -> HostIdentity:
    try:
        return HostIdentity(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
