"""One client's requests: asyncssh's SFTP server, cut down to what a drop folder allows (SFTP version 3, draft-ietf-secsh-filexfer-02).

Requests that are not on the list are answered SSH_FX_OP_UNSUPPORTED by a table, before any code of theirs runs.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from asyncssh import constants, sftp
from asyncssh.packet import SSHPacket
from asyncssh.stream import SSHReader, SSHServerStreamSession, SSHWriter

if TYPE_CHECKING:
    from adapters.file.drop.folder import DropFolder, Upload

_ALLOWED: Final = (
    constants.FXP_OPEN,
    constants.FXP_CLOSE,
    constants.FXP_WRITE,
    constants.FXP_LSTAT,
    constants.FXP_FSTAT,
    constants.FXP_STAT,
    constants.FXP_SETSTAT,
    constants.FXP_FSETSTAT,
    constants.FXP_OPENDIR,
    constants.FXP_READDIR,
    constants.FXP_REMOVE,
    constants.FXP_REALPATH,
    constants.FXP_RENAME,
    b"posix-rename@openssh.com",
    b"fsync@openssh.com",
    b"lsetstat@openssh.com",
)
_EXTENSIONS: Final = ("posix-rename@openssh.com", "fsync@openssh.com")
_MOST_PACKET: Final = (256 << 10) + 1024
"""OpenSSH's own limit of a packet, and what it writes at most."""
_MOST_HANDLES: Final = 16
_ROOT: Final = 0o040770
_FILE: Final = 0o100660


class DropSession(sftp.SFTPServer):
    """asyncssh calls a method for each request. `active` is told of each, `told` of what came in whole: its name and size."""

    def __init__(self, channel: Any, folder: DropFolder, *, active: Callable[[], None], told: Callable[[str, int], None]) -> None:
        super().__init__(channel)
        self._folder, self._active, self._told = folder, active, told
        self._uploads: set[Upload] = set()
        self.cut = False

    # --- files -------------------------------------------------------------------------------------

    def open(self, path: bytes, pflags: int, attrs: sftp.SFTPAttrs) -> object:
        if not pflags & constants.FXF_WRITE or pflags & constants.FXF_READ:
            raise sftp.SFTPPermissionDenied("files are only put here, not read")
        if len(self._uploads) >= _MOST_HANDLES:
            raise sftp.SFTPFailure("too many files are open")
        upload = self._folder.begin(
            self._name(path),
            create=bool(pflags & constants.FXF_CREAT),
            keep=not pflags & constants.FXF_TRUNC,
            exclusive=bool(pflags & constants.FXF_EXCL),
        )
        self._uploads.add(upload)
        return upload

    def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        self._folder.write(file_obj, offset, data)
        return len(data)

    async def fsync(self, file_obj: Any) -> None:
        await asyncio.to_thread(self._folder.sync, file_obj)

    async def close(self, file_obj: Any) -> None:
        """By request, or for a connection that has ended."""
        try:
            if self.cut or file_obj.broken:
                self._folder.abandon(file_obj)
            else:
                await asyncio.to_thread(self._folder.sync, file_obj)
                self._folder.finish(file_obj)
                self._told(file_obj.name, file_obj.size)
        finally:
            self._folder.abandon(file_obj)
            self._uploads.discard(file_obj)
        if file_obj.broken and not self.cut:
            raise sftp.SFTPFailure("not all of it could be written; upload it again")

    # --- names -------------------------------------------------------------------------------------

    def stat(self, path: bytes) -> Any:
        if not _parts(path):
            return sftp.SFTPAttrs(size=0, permissions=_ROOT, uid=0, gid=0, atime=0, mtime=0)
        return _attributes(self._folder.about(self._name(path)))

    lstat = stat

    def fstat(self, file_obj: Any) -> Any:
        return _attributes(os.fstat(file_obj.handle))

    def setstat(self, path: bytes, attrs: sftp.SFTPAttrs, follow_symlinks: bool = True) -> None:
        """Times and rights are not theirs to set; clients that ask by habit are told that it is well."""
        self.stat(path)
        self.fsetstat(None, attrs)

    def fsetstat(self, file_obj: Any, attrs: sftp.SFTPAttrs) -> None:
        if attrs.size is not None:
            raise sftp.SFTPOpUnsupported("files are not cut here")

    async def scandir(self, path: bytes) -> AsyncIterator[sftp.SFTPName]:
        if _parts(path):
            raise sftp.SFTPNoSuchFile("there are no folders here")
        for name in self._folder.names():
            raw = name.encode("utf-8", "surrogateescape")
            try:
                found = _attributes(self._folder.about(name))
            except FileNotFoundError:  # the node has just taken it in
                continue
            yield sftp.SFTPName(raw, attrs=found)

    def remove(self, path: bytes) -> None:
        self._folder.remove(self._name(path))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._folder.rename(self._name(oldpath), self._name(newpath))

    posix_rename = rename

    def realpath(self, path: bytes) -> bytes:
        return b"/" + b"/".join(_parts(path))

    def exit(self) -> None:
        """Nothing is left open: the handler closes what was."""

    def _name(self, path: bytes) -> str:
        """Raises SFTPPermissionDenied for what is not directly in the folder."""
        parts = _parts(path)
        if len(parts) != 1:
            raise sftp.SFTPPermissionDenied("there are no folders here")
        return parts[0].decode("utf-8", "surrogateescape")

    def touched(self) -> None:
        self._active()


class _Requests(sftp.SFTPServerHandler):
    """asyncssh's handler with a short table of requests; it tells the end of a connection from a file that is closed."""

    def __init__(self, server: DropSession, reader: Any, writer: Any) -> None:
        super().__init__(server, reader, writer, 3)
        self._session = server
        opening: Any = _Requests._process_opendir
        handlers = {request: self._packet_handlers[request] for request in _ALLOWED}
        self._packet_handlers = {**handlers, constants.FXP_OPENDIR: opening}
        self._extensions = [(name.encode(), b"1") for name in _EXTENSIONS]

    async def _process_opendir(self, packet: SSHPacket) -> bytes:
        if len(self._dir_handles) >= _MOST_HANDLES:
            raise sftp.SFTPFailure("too many lists are open")
        return await super()._process_opendir(packet)

    async def recv_packet(self) -> SSHPacket:
        assert self._reader is not None
        assert self._writer is not None
        await self._writer.drain()  # a client that takes no answers is asked for no more requests: they would pile up
        length = int.from_bytes(await self._reader.readexactly(4), "big")
        if length > _MOST_PACKET:
            raise sftp.SFTPBadMessage("the packet is too large")
        packet = SSHPacket(await self._reader.readexactly(length))
        self._session.touched()
        return packet

    async def _cleanup(self, exc: Exception | None) -> None:
        self._session.cut = True
        await super()._cleanup(exc)


class DropChannel(SSHServerStreamSession[bytes]):
    """A session channel, on which nothing but the subsystem ``sftp`` can be started: no shell, no command, no scp."""

    def __init__(self, make: Callable[[Any], DropSession], ended: Callable[[], None]) -> None:
        super().__init__(None, None, 3, False)
        self._make, self._ended = make, ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended()

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def session_started(self) -> None:
        assert self._chan is not None
        assert self._conn is not None
        self._chan.set_encoding(None)
        self._encoding = None
        reader, writer = SSHReader[bytes](self, self._chan), SSHWriter[bytes](self, self._chan)
        self._conn.create_task(_Requests(self._make(self._chan), reader, writer).run())


def _parts(path: bytes) -> list[bytes]:
    return [part for part in posixpath.normpath(b"/" + path).split(b"/") if part]


def _attributes(found: os.stat_result) -> sftp.SFTPAttrs:
    """Nothing of the machine: no owner, no rights of its own."""
    assert stat.S_ISREG(found.st_mode)
    return sftp.SFTPAttrs(size=found.st_size, permissions=_FILE, uid=0, gid=0, atime=int(found.st_mtime), mtime=int(found.st_mtime))
