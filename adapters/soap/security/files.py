"""What a certs folder holds for WS-Security, from the options that name it. New files are used at once: a renewal needs no restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.soap.security.keys import KeyFiles
from adapters.soap.security.options import CLIENT_SECURITY, SECURITY
from adapters.soap.security.outgoing import Login, Outgoing
from adapters.soap.security.trust import TrustFolder
from adapters.soap.security.watched import Watched
from engine.options import Settings

if TYPE_CHECKING:
    from engine.contracts import Context

_SECOND: Final = 1_000_000


def trust_folder(folder: Path, options: Settings) -> TrustFolder:
    """`options` are SECURITY's."""
    return TrustFolder(folder, options.ca, dict(options.certificates), options.crl == "strict")


def key_files(folder: Path, options: Settings) -> KeyFiles:
    """`options` are CLIENT_SECURITY's."""
    return KeyFiles(folder, options.certificate, options.key, options.digest, options.key_passphrase)


def check_files(folder: Path, options: Settings) -> None:
    """For either; other options are none of ours. Raises ConfigError where files cannot be used, or a secret is not there."""
    if options.is_of(SECURITY):
        if options.require == "signature":
            trust_folder(folder, options).read()
        for user in options.users.values():
            user.password.reveal()
        if options.answers is not None:
            check_files(folder, options.answers)
    elif options.is_of(CLIENT_SECURITY):
        if options.sign:
            key_files(folder, options).read()
        if options.username is not None:
            options.username.password.reveal()


def outgoing(options: Settings, context: Context) -> Outgoing:
    """What a destination puts on its envelopes. Raises ConfigError where key, certificate or password cannot be used."""
    check_files(context.tls.folder, options)
    files, login = key_files(context.tls.folder, options), None
    watched = Watched(files.files, files.read, context.log.warning)
    if options.username is not None:
        login = Login(options.username.name, options.username.password.reveal, options.username.type == "text")
    return Outgoing(
        clock=context.clock,
        new_id=context.new_id,
        random=os.urandom,
        signer=watched.current if options.sign else None,
        parts=options.signed,
        login=login,
        lifetime=int(options.lifetime * _SECOND) if options.timestamp else 0,
        role=options.role,
    )
