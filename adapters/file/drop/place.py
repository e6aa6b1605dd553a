"""The folders of all the users of our server, as one place: a name begins with its user's, ``USER/NAME``."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.file.drop.folder import DropFolder
from adapters.file.drop.server import DropServer, host_keys, limits_of
from adapters.file.local_folder import LocalFolder
from adapters.file.places import Entry
from adapters.file.ssh.loop import shared_loop
from engine.errors import ConfigError

if TYPE_CHECKING:
    from typing import BinaryIO

    from engine.contracts import Context
    from engine.options import Settings


class DropPlace:
    """adapters.file.places.Place and Listening. What the server takes in lies in folders of this machine, one for each user, with claims
    and folders of their own."""

    def __init__(self, options: Settings, context: Context, owner: str) -> None:
        self._options, self._context = options, context
        self._root = Path(context.site / options.folder)
        self._folders = {user: LocalFolder(self._root / user, owner) for user in options.users}
        self._drops = {user: DropFolder(self._root / user, limits_of(options), context.reactor.seconds) for user in options.users}
        self._own = LocalFolder(self._root, owner)
        self._server = DropServer(options, context, self._drops)
        self._loop = shared_loop(context.shared)
        self._open = False
        host, port = options.listen
        self.said = f"SFTP server on {host or '*'}:{port}"

    def open(self) -> None:
        """Nothing is held open but the listener, which `listen` opens."""

    def close(self) -> None:
        """See `open`."""

    # --- adapters.file.places.Listening ----------------------------------------------------------------

    def listen(self) -> None:
        if self._open:
            return
        host_keys(self._options, self._context)
        try:
            for drop in self._drops.values():
                drop.make()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigError(f"channel {self._context.name}: cannot use the folder {self._options.folder}: {reason}") from None
        self._loop.take()
        try:
            self._loop.run(self._server.start())
        except OSError as error:
            self._loop.give_back()
            raise OSError(error.errno or errno.EIO, f"cannot listen: {error.strerror or error}") from None
        except BaseException:
            self._loop.give_back()
            raise
        self._open = True

    def stop_listening(self) -> None:
        if not self._open:
            return
        self._open = False
        with suppress(OSError):
            self._loop.run(self._server.stop(), 10.0)
        self._loop.give_back()

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        return self._server.port

    def party(self, name: str) -> str:
        return self._server.parties.get(name.partition("/")[0], "")

    # --- adapters.file.places.Place ------------------------------------------------------------------

    def list(self) -> Sequence[Entry]:
        return [_of(user, entry) for user, folder in self._folders.items() for entry in folder.list()]

    def read(self, name: str) -> BinaryIO:
        folder, rest = self._split(name)
        return folder.read(rest)

    def local(self, name: str) -> Path | None:
        folder, rest = self._split(name)
        return folder.local(rest)

    def claim(self, name: str) -> str | None:
        folder, rest = self._split(name)
        claimed = folder.claim(rest)
        return None if claimed is None else _under(name, claimed)

    def claimed(self) -> Sequence[Entry]:
        return [_of(user, entry) for user, folder in self._folders.items() for entry in folder.claimed()]

    def holds(self, claimed: str) -> bool:
        folder, rest = self._split(claimed)
        return folder.holds(rest)

    def beat(self) -> None:
        for folder in self._folders.values():
            folder.beat()

    def take_over(self, silent: float) -> Sequence[str]:
        return [f"{user}/{name}" for user, folder in self._folders.items() for name in folder.take_over(silent)]

    def move(self, name: str, folder: str) -> str:
        own, rest = self._split(name)
        return _under(name, own.move(rest, folder))

    def write(self, name: str, chunks: Iterable[bytes], folder: str = "") -> bool:
        own, rest = self._split(f"{folder}/") if folder else (self._own, "")
        return own.write(name, chunks, rest.strip("/"))

    def find(self, name: str, folder: str = "") -> Entry | None:
        own, rest = self._split(f"{folder}/") if folder else (self._own, "")
        found = own.find(name, rest.strip("/"))
        return found if found is None or own is self._own else _of(folder.partition("/")[0], found)

    def _split(self, name: str) -> tuple[LocalFolder, str]:
        user, _, rest = name.partition("/")
        folder = self._folders.get(user)
        return (self._own, name) if folder is None else (folder, rest)


def _of(user: str, entry: Entry) -> Entry:
    return Entry(f"{user}/{entry.name}", entry.size, entry.modified)


def _under(name: str, rest: str) -> str:
    return f"{name.partition('/')[0]}/{rest}"
