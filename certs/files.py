"""Files of a certs folder, written so that a running node never sees half of one; private keys readable by their owner only."""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import ConfigError


def write(path: Path, content: bytes, *, secret: bool = False) -> None:
    """Write beside, fsync, rename into place. A secret file is 0600 from its first byte. Raises ConfigError where that is not possible."""
    try:
        _write(path, content, 0o600 if secret else 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def is_encrypted(key: Path) -> bool:
    """Whether a private key file needs a passphrase (RFC 5958 clause 3, or OpenSSL's older form); no where there is no such file."""
    return key.is_file() and b"ENCRYPTED" in key.read_bytes()
