"""What an error of asyncssh means, as the OSError or SecurityError that a place raises. The server's own words are not repeated: they may
name files."""

from __future__ import annotations

import errno
import os
from typing import Final

import asyncssh
from asyncssh import sftp

from engine.errors import PeerIdentityError

_NUMBERS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (sftp.SFTPNoSuchFile, errno.ENOENT),
    (sftp.SFTPNoSuchPath, errno.ENOENT),
    (sftp.SFTPPermissionDenied, errno.EACCES),
    (sftp.SFTPWriteProtect, errno.EROFS),
    (sftp.SFTPFileAlreadyExists, errno.EEXIST),
    (sftp.SFTPNoSpaceOnFilesystem, errno.ENOSPC),
    (sftp.SFTPQuotaExceeded, errno.EDQUOT),
    (sftp.SFTPInvalidFilename, errno.EINVAL),
    (sftp.SFTPNotADirectory, errno.ENOTDIR),
    (sftp.SFTPFileIsADirectory, errno.EISDIR),
    (sftp.SFTPLinkLoop, errno.ELOOP),
    (sftp.SFTPOpUnsupported, errno.EOPNOTSUPP),
)
"""Status codes (draft-ietf-secsh-filexfer-13 clause 9.1) by what POSIX calls the same."""


class HostKeyRefused(PeerIdentityError):
    """The server shows a key that is not the one that is pinned: it is another machine, or somebody is between."""

    code = "security.host_key"


class LoginRefused(PeerIdentityError):
    """The server is the right one, and does not let us in."""

    code = "security.login"


def translated(error: BaseException, server: str) -> Exception:
    """`server` is how it is called, such as ``sftp.example:22``."""
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return HostKeyRefused(
            f"{server} shows a host key that is not the one that is pinned; if it was changed on purpose, pin the new one"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return LoginRefused(f"{server} does not let us in: user, key or password are not the ones that it knows")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return LoginRefused(f"{server} speaks no algorithm that is safe (option old_algorithms)")
    if isinstance(error, TimeoutError):
        return TimeoutError(errno.ETIMEDOUT, f"{server} does not answer in time")
    for kind, number in _NUMBERS:
        if isinstance(error, kind):
            return OSError(number, f"{os.strerror(number)} on {server}")
    if is_down(error):
        return ConnectionError(errno.ECONNRESET, f"{server} is out of reach: {type(error).__name__}")
    if isinstance(error, OSError):
        return error
    return OSError(errno.EIO, f"{server} cannot do it")


def is_down(error: BaseException) -> bool:
    """Whether the connection is of no more use."""
    if isinstance(error, sftp.SFTPNoConnection | sftp.SFTPConnectionLost | sftp.SFTPBadMessage):
        return True
    if isinstance(error, sftp.SFTPError):
        return False
    return isinstance(error, asyncssh.Error | OSError | EOFError)
