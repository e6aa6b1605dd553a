"""Requests to an SFTP server (protocol version 3, draft-ietf-secsh-filexfer-02, with OpenSSH's extensions where they are offered)."""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from io import BufferedReader
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncssh

from adapters.file.places import Entry
from adapters.file.remote import Unanswered
from adapters.file.ssh.attributes import entry_of, kind_of
from adapters.file.ssh.connecting import Connecting
from adapters.file.ssh.faults import is_down, translated
from adapters.file.ssh.loop import shared_loop
from adapters.file.ssh.reading import Reading
from engine.errors import ConfigError

if TYPE_CHECKING:
    from typing import BinaryIO

    from engine.contracts import Context
    from engine.options import Settings

ResultT = TypeVar("ResultT")
_GOODBYE_SECONDS: Final = 1.0
_BLOCK: Final = 1 << 20
"""Bytes of one wait for the other thread; asyncssh cuts them into requests that are under way together."""


class SftpWire:
    """adapters.file.remote.Wire, by the settings of SFTP."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._connecting = Connecting(options, context)
        self._server = f"{options.host}:{options.port}"
        self._folder = options.folder.rstrip("/") or "/"
        self._loop = shared_loop(context.shared)
        self._connection: Any = None
        self._client: Any = None
        self._fsync = True
        self.said = f"folder {options.folder} on {self._server} (SFTP)"

    # --- connection --------------------------------------------------------------------------------

    def check(self) -> None:
        self._connecting.arguments()

    def _connect(self) -> Any:
        try:
            arguments = self._connecting.arguments()
        except ConfigError as error:  # it could be used when the node started
            raise PermissionError(errno.EACCES, str(error)) from None
        self._loop.take()
        try:
            self._connection, self._client = self._loop.run(self._connecting.connect(arguments), self._options.connect_timeout + 5)
        except (asyncssh.Error, OSError, EOFError) as error:
            self._loop.give_back()
            fault = translated(error, self._server)
            self._connecting.failed(fault)
            raise fault from None
        self._connecting.went()
        return self._client

    def disconnect(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is None:
            return
        with suppress(TimeoutError, OSError, asyncssh.Error):
            self._loop.run(_closed(connection), 5.0)
        self._loop.give_back()

    def is_lost(self) -> bool:
        """Whether there was a connection, and is no more."""
        return self._connection is not None and bool(self._connection.is_closed())

    def ask(self, request: Callable[[Any], Awaitable[ResultT]]) -> ResultT:
        """`request` gets the client (asyncssh.SFTPClient)."""
        if self.is_lost():  # the server ends what is silent
            self.disconnect()
        client = self._client or self._connect()
        try:
            return self._loop.run(request(client), self._options.timeout)
        except (asyncssh.Error, OSError, EOFError) as error:
            if is_down(error):
                self.disconnect()
            raise translated(error, self._server) from None

    def _at(self, path: str) -> bytes:
        return f"{self._folder}/{path}".encode("utf-8", "surrogateescape") if path else self._folder.encode()

    # --- looking -----------------------------------------------------------------------------------

    def files(self, folder: str) -> list[Entry]:
        return [entry for entry, kind in self._entries(folder) if kind in (stat.S_IFREG, 0)]

    def folders(self, folder: str) -> list[Entry]:
        return [entry for entry, kind in self._entries(folder) if kind == stat.S_IFDIR]

    def _entries(self, folder: str) -> Iterator[tuple[Entry, int]]:
        for one in self.ask(lambda client: client.readdir(self._at(folder))):
            raw: bytes = one.filename
            if raw in (b".", b"..") or b"/" in raw or b"\0" in raw or not raw:  # what no honest server says
                continue
            yield entry_of(raw.decode("utf-8", "surrogateescape"), one.attrs), kind_of(one.attrs, one.longname)

    def about(self, path: str) -> Entry | None:
        try:
            found = self.ask(lambda client: client.lstat(self._at(path)))
        except FileNotFoundError:
            return None
        kind = kind_of(found, b"")
        if kind not in (stat.S_IFREG, 0):
            number = errno.EISDIR if kind == stat.S_IFDIR else errno.ELOOP
            raise OSError(number, f"it is no regular file: {self.said}")
        return entry_of(path, found)

    # --- content -----------------------------------------------------------------------------------

    def read(self, path: str) -> BinaryIO:
        file = self.ask(lambda client: client.open(self._at(path), "rb", encoding=None))
        return BufferedReader(Reading(self, file), _BLOCK)

    def store(self, path: str, chunks: Iterable[bytes]) -> None:
        with suppress(FileNotFoundError):
            self.remove(path)  # it may be a link by now
        file = self.ask(lambda client: client.open(self._at(path), "xb", encoding=None))
        written = 0
        try:
            for block in _blocks(chunks):
                self.ask(lambda _, block=block: file.write(block))  # type: ignore[misc]
                written += len(block)
            self._sync(file)
        except BaseException as error:
            with suppress(OSError):
                self.let_go(file)
            if isinstance(error, OSError) and error.errno == errno.EIO and self._is_full():
                raise OSError(errno.ENOSPC, f"the disk of {self._server} is full") from None
            raise
        self.let_go(file)
        self._expect(path, written)

    def _is_full(self) -> bool:
        """Version 3 has no status code for it; statvfs@openssh.com tells."""
        try:
            return bool(self.ask(lambda client: client.statvfs(self._at(""))).bavail == 0)
        except OSError:
            return False

    def let_go(self, file: Any) -> None:
        """Close it, unless it was closed with the connection that opened it."""
        if self._client is not None:
            self.ask(lambda _: file.close())

    def _sync(self, file: Any) -> None:
        """fsync@openssh.com (OpenSSH's PROTOCOL, clause 4.5)."""
        if not self._fsync:
            return
        try:
            self.ask(lambda _: file.fsync())
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._fsync = False

    def _expect(self, path: str, size: int) -> None:
        """Some servers take every write, and have not kept all when their disk is full."""
        found = self.about(path)
        if found is None or found.size != size:
            raise OSError(errno.EIO, f"{self._server} has not kept all that was written")

    # --- names -------------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        """posix-rename@openssh.com where there is one; else the plain request, of which OpenSSH lets only one of two win, too."""
        try:
            self.ask(lambda client: client.posix_rename(self._at(old), self._at(new)))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self.ask(lambda client: client.rename(self._at(old), self._at(new)))

    def appear(self, old: str, new: str) -> bool:
        """The plain request, which must not overwrite (clause 6.5); there are servers that do, so the name is looked for before."""
        if self._is_taken(new):
            return False
        try:
            self.ask(lambda client: client.rename(self._at(old), self._at(new)))
        except (ConnectionError, TimeoutError) as error:
            raise Unanswered(errno.ECONNRESET, f"{error.strerror}, after a file was to get its name") from None
        except OSError:
            if self._is_taken(new):
                return False
            raise
        return True

    def _is_taken(self, path: str) -> bool:
        try:
            self.ask(lambda client: client.lstat(self._at(path)))
        except FileNotFoundError:
            return False
        return True

    def remove(self, path: str) -> None:
        self.ask(lambda client: client.remove(self._at(path)))

    def make_folder(self, path: str) -> None:
        try:
            self.ask(lambda client: client.mkdir(self._at(path)))
        except ConnectionError:
            raise
        except OSError:  # not every server says that it is there already
            if not self.ask(lambda client: client.isdir(self._at(path))):
                raise


async def _closed(connection: Any) -> None:
    connection.close()
    try:
        await asyncio.wait_for(connection.wait_closed(), _GOODBYE_SECONDS)
    except TimeoutError:  # it hangs
        connection.abort()


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """As large as one wait takes, however small or large they come."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= _BLOCK:
            yield bytes(held[:_BLOCK])
            del held[:_BLOCK]
    if held:
        yield bytes(held)
