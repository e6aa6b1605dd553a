"""What `meridian doctor` and `meridian check` find out about SFTP and FTPS: keys, who may read them, what others must compare. Connects to
nobody."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from adapters.file.ftps.session import tls_context
from adapters.file.ssh.keys import fingerprint
from engine.errors import ConfigError
from engine.examination import Finding, Level

if TYPE_CHECKING:
    from pathlib import Path

    from engine.examination import View
    from engine.options import Settings

_EXTRA: Final = "pip install 'meridian[sftp]'"


def examine_far(options: Settings, view: View) -> Iterable[Finding]:
    """Of a source or destination whose place is no folder of this machine."""
    for name in ("sftp", "serve"):
        settings = options.get(name)
        if settings is not None:
            yield from _ssh(settings, name)
            yield from (_client if name == "sftp" else _server)(settings, view)
    if options.get("ftps") is not None:
        yield _certificates(options.ftps, view)


def _ssh(settings: Settings, name: str) -> Iterator[Finding]:
    if find_spec("asyncssh") is None:
        yield Finding(Level.FAIL, name, "the package asyncssh is not installed", _EXTRA, name)
    if settings.old_algorithms:
        text = f"speaks {', '.join(settings.old_algorithms)}, which are no longer safe"
        yield Finding(Level.WARN, name, text, "have the other side updated, then leave old_algorithms out", name)


def _client(settings: Settings, view: View) -> Iterator[Finding]:
    if settings.key is not None:
        yield from _private(view.folder / settings.key, "sftp", settings.key_passphrase is not None)
    if settings.known_hosts is not None and not (view.folder / settings.known_hosts).is_file():
        advice = "write the server's key there (ssh-keyscan), once its fingerprint was compared"
        yield Finding(Level.FAIL, "sftp", f"{settings.known_hosts} is not there", advice, "sftp")


def _server(settings: Settings, view: View) -> Iterator[Finding]:
    for name in settings.host_key:
        yield from _private(view.folder / name, "serve", False)
    folder = view.folder / settings.folder
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)):
        text = f"{folder} is no folder that this user can read and write"
        yield Finding(Level.FAIL, "serve", text, "name another, or grant it; one that is not there is made", "serve")


def _private(file: Path, option: str, locked: bool) -> Iterator[Finding]:
    """A private key; senders and servers compare the fingerprint of its public half."""
    try:
        mode, content = file.stat().st_mode, file.read_bytes()
    except OSError as error:
        yield Finding(Level.FAIL, option, f"{file} cannot be read: {error.strerror}", f"ssh-keygen -t ed25519 -N '' -f {file}", option)
        return
    if stat.S_IMODE(mode) & 0o077:
        yield Finding(Level.WARN, option, f"others can read {file}", f"chmod 600 {file}", option)
    if locked:
        return
    try:
        public = load_ssh_private_key(content, None).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield Finding(Level.FAIL, option, f"{file} is no private key of OpenSSH without a passphrase", "", option)
        return
    yield Finding(Level.OK, option, f"{file.name} has the fingerprint {fingerprint(public.decode())}")


def _certificates(settings: Settings, view: View) -> Finding:
    try:
        tls_context(settings.tls, view.folder / "certs")
    except ConfigError as error:
        return Finding(Level.FAIL, "ftps", str(error), "put the authority of the server there, or say another ca", "ftps")
    return Finding(Level.OK, "ftps", f"the certificates for {settings.host} can be used")
