"""Our certificate and private key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from adapters.soap.security.algorithms import check_key
from adapters.soap.security.outgoing import Signer
from adapters.soap.security.refusal import Refusal
from engine.errors import ConfigError
from engine.secrets import Secret


@dataclass(frozen=True)
class KeyFiles:
    """Files in a certs folder."""

    folder: Path
    certificate: str
    key: str
    digest: str
    passphrase: Secret | None = None

    @property
    def files(self) -> Sequence[Path]:
        return [self.folder / self.certificate, self.folder / self.key]

    def read(self) -> Signer:
        """Raises ConfigError."""
        phrase = None if self.passphrase is None else self.passphrase.reveal().encode()
        try:
            certificate = x509.load_pem_x509_certificate((self.folder / self.certificate).read_bytes())
            key = load_pem_private_key((self.folder / self.key).read_bytes(), phrase)
            check_key(certificate.public_key())
        except OSError as error:
            raise ConfigError(f"{Path(str(error.filename)).name} in {self.folder} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError):
            raise ConfigError(
                f"{self.certificate} and {self.key} in {self.folder} cannot be read, or need another key_passphrase"
            ) from None
        except Refusal as refusal:
            raise ConfigError(f"{self.certificate} in {self.folder} cannot sign: {refusal.text}") from None
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) or _public(key.public_key()) != _public(
            certificate.public_key()
        ):
            raise ConfigError(f"{self.key} in {self.folder} is not the key of {self.certificate}")
        return Signer(certificate, key, self.digest)


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
