"""Mutual TLS: contexts from a site's certs folder, identities of peers, renewal and revocation without a restart.

An adapter listens and connects like this, and needs to know no more:

    reactor.listenSSL(port, factory, context.tls.server(options.tls), interface=host)
    wrapClientTLS(context.tls.client(options.tls, hostname), endpoint)
    party = context.tls.peer(protocol.transport)

The folder holds ``ca.pem`` (one or more trusted authorities), ``crl.pem`` (their revocation lists, optional), ``node.pem`` and
``node.key``. The files are watched: new handshakes use what lies there, open connections go on, except those of a party whose
certificate has just been revoked, which are closed. Every refused handshake is audited with its reason and the remote address.

Rules: TLS 1.2 at least; no tickets and no session cache, so that every connection proves itself; a revocation list that has
expired, or that is missing for an authority, is warned of and tolerated unless the option says ``crl: strict``.
"""

from __future__ import annotations

import ipaddress
import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import service_identity
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from service_identity.hazmat import DNS_ID, DNSPattern, IPAddress_ID, IPAddressPattern, verify_service_identity
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from engine.errors import ConfigError
from engine.identity import is_allowed, party_of, party_uri
from engine.options import TEXT, ListOf, Option, Settings, Spec, choice

if TYPE_CHECKING:
    from engine.observe import Metrics

WATCH_SECONDS: Final = 2.0
WARN_DAYS: Final = (30, 14, 7, 1)

_FILES: Final = [
    Option("certificate", TEXT, "our certificate chain, relative to the certs folder", default="node.pem"),
    Option("key", TEXT, "its private key", default="node.key"),
    Option("ca", TEXT, "the authorities that peers must come from", default="ca.pem"),
    Option("crl", choice("tolerant", "strict"), "strict: a missing or expired revocation list refuses everyone", default="tolerant"),
    Option("min_version", choice("1.2", "1.3"), "lowest TLS version", default="1.2"),
]
SERVER_TLS: Final = Spec(
    "tls",
    "How a listener proves itself, and who may connect.",
    [
        Option("client_auth", choice("required", "optional", "none"), "whether a client must show a certificate", default="required"),
        Option("allow", ListOf(TEXT), "parties that may connect; default: every party of our authorities", default=[]),
        *_FILES,
    ],
)
CLIENT_TLS: Final = Spec(
    "tls",
    "How we prove ourselves to a server, and who it must be.",
    [Option("peer", TEXT, "party that the server's certificate must name; default: any, its host name decides"), *_FILES],
)

_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_CRL_MISSING, _CRL_EXPIRED = 3, 12  # X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_CRL_HAS_EXPIRED
_ALERT_WRITTEN: Final = SSL.SSL_CB_WRITE_ALERT
_ALERT_READ: Final = SSL.SSL_CB_READ_ALERT
_ALERTS: Final = {  # RFC 8446 clause 6.2
    40: "handshake failure: nothing in common",
    42: "bad certificate",
    43: "unsupported certificate",
    44: "certificate revoked",
    45: "certificate expired",
    46: "certificate refused",
    48: "unknown authority",
    70: "TLS version too old, or no TLS at all",
    116: "no certificate shown",
}


class TlsProvider:
    """One for a node. `audit` takes an event and its facts."""

    def __init__(self, folder: Path, *, reactor: Any, log: logging.Logger, metrics: Metrics, audit: Callable[..., None]) -> None:
        self.folder = folder
        self.log, self.audit = log, audit
        self._reactor, self._metrics = reactor, metrics
        self._contexts: dict[tuple[Any, ...], SSL.Context] = {}
        self._stamp = self._stamps()
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()
        self._warned: set[tuple[str, int]] = set()
        self._loop = LoopingCall(self.look_again)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin to watch the folder."""
        self._loop.start(WATCH_SECONDS)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def server(self, options: Settings) -> Any:
        """For listenSSL. Raises ConfigError when the files cannot be used."""
        side = _Side(self, options, None)
        side.context()
        return side

    def client(self, options: Settings | None, hostname: str) -> Any:
        """For wrapClientTLS and connectSSL. The server must be from our authorities, be called `hostname`, and name the party asked for."""
        side = _Side(self, options or CLIENT_TLS.defaults(), hostname)
        side.context()
        return side

    def peer(self, transport: Any) -> str:
        """The party that a connection has proven, "" when none."""
        get = getattr(transport, "getPeerCertificate", None)
        found = get() if get is not None else None
        return party_of(found.to_cryptography()) if found is not None else ""

    # --- files -----------------------------------------------------------------------------------

    def _stamps(self) -> tuple[tuple[str, int, int], ...]:
        if not self.folder.is_dir():
            return ()
        found = [file for file in sorted(self.folder.iterdir()) if file.suffix in (".pem", ".key")]
        return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in found)

    def look_again(self) -> None:
        """Use new files for new handshakes; close what has been revoked; keep the metric up to date."""
        stamp = self._stamps()
        if stamp != self._stamp:
            self._stamp = stamp
            self.reload()
        self._watch_expiry()

    def reload(self) -> None:
        """Build every context anew. Where that fails the old ones stay in use, and the log says why."""
        try:
            fresh = {key: self._build(key) for key in self._contexts}
        except ConfigError as error:
            self.log.error("certificates not reloaded", extra={"reason": str(error)})
            return
        self._contexts = fresh
        self.log.info("certificates reloaded", extra={"folder": str(self.folder)})
        self._close_revoked()

    def _close_revoked(self) -> None:
        crl = self.folder / "crl.pem"
        lists = x509_crls(crl.read_bytes()) if crl.exists() else []
        for protocol in list(self._live):
            certificate = protocol.getPeerCertificate()
            if certificate is None:
                continue
            shown = certificate.to_cryptography()
            if any(crl.issuer == shown.issuer and crl.get_revoked_certificate_by_serial_number(shown.serial_number) for crl in lists):
                self.audit("tls.closed", party=party_of(shown), reason="the certificate has been revoked")
                protocol.abortConnection()

    def follow(self, protocol: Any) -> None:
        """Remember a live connection, so that it can be closed when its certificate is revoked."""
        self._live.add(protocol)

    def _watch_expiry(self) -> None:
        for name, days in days_left(self.folder).items():
            self._metrics.gauge("meridian_certificate_days_left", "days until a certificate expires", certificate=name).set(days)
            due = [limit for limit in WARN_DAYS if days <= limit]
            if due and (name, min(due)) not in self._warned:
                self._warned.add((name, min(due)))
                self.log.warning("certificate expires soon", extra={"certificate": name, "days_left": round(days, 1)})

    # --- contexts --------------------------------------------------------------------------------

    def context_for(self, options: Settings, client_auth: str) -> SSL.Context:
        """The context for these options, from the newest files."""
        key = (options.certificate, options.key, options.ca, options.crl, options.min_version, client_auth)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = self._build(key)
        return context

    def _build(self, key: tuple[Any, ...]) -> SSL.Context:
        certificate, private_key, authorities, _, min_version, client_auth = key
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(_VERSIONS[min_version])
        context.set_cipher_list(_CIPHERS)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        try:
            self._load(context, certificate, private_key, authorities)
        except (OSError, ValueError, SSL.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else "the files do not fit together or cannot be read"
            raise ConfigError(
                f"the certificates in {self.folder} cannot be used ({certificate}, {private_key}, {authorities}): {reason}"
            ) from None
        if client_auth != "none":
            mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if client_auth == "required" else 0)
            context.set_verify(mode, _Side.verify)
        context.set_info_callback(_Side.informed)
        return context

    def _load(self, context: SSL.Context, certificate: str, private_key: str, authorities: str) -> None:
        chain = x509.load_pem_x509_certificates((self.folder / certificate).read_bytes())
        context.use_certificate(chain[0])
        for more in chain[1:]:
            context.add_extra_chain_cert(more)
        context.use_privatekey(load_pem_private_key((self.folder / private_key).read_bytes(), None))  # type: ignore[arg-type]
        context.check_privatekey()
        store = context.get_cert_store()
        assert store is not None
        for authority in x509.load_pem_x509_certificates((self.folder / authorities).read_bytes()):
            store.add_cert(crypto.X509.from_cryptography(authority))
        crl = self.folder / "crl.pem"
        if crl.exists():
            for revocations in x509_crls(crl.read_bytes()):
                store.add_crl(revocations)
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK)


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class _Side:
    """Makes the connections of one listener or one client."""

    def __init__(self, provider: TlsProvider, options: Settings, hostname: str | None) -> None:
        self.provider, self.options, self.hostname = provider, options, hostname

    def context(self) -> SSL.Context:
        client_auth = self.options.client_auth if self.hostname is None else "required"
        return self.provider.context_for(self.options, client_auth)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self.context(), None)
        self._begin(protocol)
        return connection

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self.context(), None)
        assert self.hostname is not None
        if not _is_ip(self.hostname):
            connection.set_tlsext_host_name(self.hostname.encode("idna"))
        self._begin(protocol)
        return connection

    def _begin(self, protocol: Any) -> None:
        protocol.meridian_handshake = _Handshake(self, protocol)  # Twisted makes the protocol the connection's app data
        self.provider.follow(protocol)

    @staticmethod
    def verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        """Called by OpenSSL for each certificate of the peer's chain."""
        handshake: _Handshake = connection.get_app_data().meridian_handshake
        return handshake.verify(certificate.to_cryptography(), error, depth, bool(ok))

    @staticmethod
    def informed(connection: SSL.Connection, where: int, value: int) -> None:
        """Called by OpenSSL at each alert: what went wrong is audited, once."""
        handshake: _Handshake | None = getattr(connection.get_app_data(), "meridian_handshake", None)
        if handshake is not None and where in (_ALERT_WRITTEN, _ALERT_READ) and value >> 8 == 2:
            number = value & 0xFF
            said = _ALERTS.get(number, f"alert {number}")
            handshake.failed(said if where == _ALERT_WRITTEN else f"the peer refused us: {said}")


@dataclass
class _Handshake:
    """One connection's handshake: judges the peer's certificate, and says once why it failed."""

    side: _Side
    protocol: Any
    reason: str = ""
    party: str = ""
    told: bool = False

    def verify(self, certificate: x509.Certificate, error: int, depth: int, ok: bool) -> bool:
        tolerant = self.side.options.crl == "tolerant"
        if not ok and error in (_CRL_MISSING, _CRL_EXPIRED) and tolerant:
            what = "has expired" if error == _CRL_EXPIRED else "is missing for an authority"
            self.side.provider.log.warning(f"the revocation list {what}")
            ok = True
        if depth == 0:
            self.party = party_of(certificate)
        if not ok:
            self.reason = _verify_words(error)
        elif depth == 0:
            self.reason = self._wrong(certificate)
        return not self.reason

    def _wrong(self, certificate: x509.Certificate) -> str:
        """Why a valid certificate is not the one that is wanted here, "" when it is."""
        options, hostname = self.side.options, self.side.hostname
        if hostname is None:
            return "" if is_allowed(self.party, options.allow) else f"{self.party or 'a certificate without a party'} may not connect here"
        if options.peer and self.party != party_uri(options.peer):
            return f"the server is {self.party or 'nobody we know'}, not {options.peer}"
        return _name_fault(certificate, hostname)

    def failed(self, said: str) -> None:
        if self.told:
            return
        self.told = True
        address: Any = self.protocol.transport.getPeer() if self.protocol.transport is not None else None
        remote = f"{address.host}:{address.port}" if hasattr(address, "port") else ""
        event = "tls.refused" if self.side.hostname is None else "tls.failed"
        reason = self.reason or said
        self.side.provider.audit(event, remote=remote, party=self.party, reason=reason)
        self.side.provider.log.warning("TLS handshake failed", extra={"remote": remote, "party": self.party, "reason": reason})


def _verify_words(error: int) -> str:
    """The X.509 verification errors that happen, in words (openssl-verification-options)."""
    return {
        2: "the issuer of the certificate is unknown",
        7: "the signature of the certificate is wrong",
        9: "the certificate is not valid yet",
        10: "the certificate has expired",
        12: "the revocation list has expired",
        18: "the certificate is self-signed",
        19: "the chain ends in an unknown self-signed certificate",
        20: "the issuer of the certificate is unknown",
        21: "the chain cannot be verified",
        23: "the certificate has been revoked",
        26: "the certificate is not meant for this purpose",
    }.get(error, f"the certificate does not verify (X.509 error {error})")


def _name_fault(certificate: x509.Certificate, hostname: str) -> str:
    """RFC 9525, on DNS names and addresses alone; service_identity refuses the party URI, which has no host in it."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    patterns: list[Any] = [DNSPattern.from_bytes(name.encode()) for name in names.get_values_for_type(x509.DNSName)]
    patterns += [IPAddressPattern(ipaddress.ip_address(str(ip))) for ip in names.get_values_for_type(x509.IPAddress)]
    wanted = IPAddress_ID(ipaddress.ip_address(hostname)) if _is_ip(hostname) else DNS_ID(hostname)
    try:
        verify_service_identity(patterns, [wanted], [])
    except service_identity.VerificationError:
        return f"the server's certificate is not for {hostname}"
    return ""


def _is_ip(hostname: str) -> bool:
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True


def x509_crls(pem: bytes) -> Sequence[x509.CertificateRevocationList]:
    """All revocation lists of a PEM file."""
    end = b"-----END X509 CRL-----"
    return [x509.load_pem_x509_crl(part + end) for part in pem.split(end) if b"BEGIN X509 CRL" in part]


def days_left(folder: Path) -> dict[str, float]:
    """Days until each certificate of a folder expires, by file name."""
    now = datetime.now(UTC)
    found = {}
    for file in sorted(folder.glob("*.pem")) if folder.is_dir() else ():
        data = file.read_bytes()
        if b"BEGIN CERTIFICATE" in data:
            soonest = min(certificate.not_valid_after_utc for certificate in x509.load_pem_x509_certificates(data))
            found[file.name] = (soonest - now).total_seconds() / 86400
    return found
