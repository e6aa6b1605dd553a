"""Requests to an FTPS server. FTP renames over what is there, so that `appear` looks before: of two writers of one name one can lose its
file in the moment between. It says nothing of its disk, either; the size is looked at once the server has the file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any, Final, TypeVar

from adapters.file.ftps.session import CertificateRefused, FtpsSession, seconds_of, tls_context
from adapters.file.places import Entry
from adapters.file.remote import Unanswered
from engine.errors import ConfigError, SecurityError

if TYPE_CHECKING:
    from typing import BinaryIO

    from engine.contracts import Context
    from engine.options import Settings

ResultT = TypeVar("ResultT")
_BLOCK: Final = 256 << 10
_IDLE_SECONDS: Final = 4.0
_LOST: Final = (ConnectionError, TimeoutError)


class FtpsWire:
    """adapters.file.remote.Wire, by the settings of FTPS."""

    def __init__(self, options: Settings, context: Context) -> None:
        self._options, self._context = options, context
        self._server = f"{options.host}:{options.port}"
        self._session: FtpsSession | None = None
        self._said: set[str] = set()
        self._asked_at = 0.0
        self.said = f"folder {options.folder} on {self._server} (FTPS)"

    # --- connection --------------------------------------------------------------------------------

    def check(self) -> None:
        tls_context(self._options.tls, self._context.site / "certs")
        self._options.password.reveal()

    def disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _connect(self) -> FtpsSession:
        try:
            context, password = tls_context(self._options.tls, self._context.site / "certs"), self._options.password.reveal()
        except ConfigError as error:  # it could be used when the node started
            raise PermissionError(errno.EACCES, str(error)) from None
        try:
            session = FtpsSession(self._options, context, password)
        except SecurityError as error:
            self._refused(error)
            raise
        self._said.clear()
        return session

    def _refused(self, error: SecurityError) -> None:
        """Audited once, until a connection succeeds again."""
        if error.code in self._said:
            return
        self._said.add(error.code)
        event = "ftps.certificate_refused" if isinstance(error, CertificateRefused) else "ftps.login_refused"
        facts = {"channel": self._context.name, "remote": self._server, "reason": error.text}
        self._context.log.error("an FTPS server is not used", extra=facts)
        self._context.reactor.callFromThread(self._context.audit, event, **facts)

    def _ask(self, request: Callable[[FtpsSession], ResultT]) -> ResultT:
        now = self._context.reactor.seconds()
        if self._session is not None and now - self._asked_at > _IDLE_SECONDS and not self._session.is_alive():
            self.disconnect()
        if self._session is None:
            self._session = self._connect()
        try:
            return request(self._session)
        except _LOST:
            self.disconnect()
            raise
        finally:
            self._asked_at = self._context.reactor.seconds()

    # --- looking -----------------------------------------------------------------------------------

    def files(self, folder: str) -> list[Entry]:
        return self._listed(folder, "file")

    def folders(self, folder: str) -> list[Entry]:
        return self._listed(folder, "dir")

    def _listed(self, folder: str, kind: str) -> list[Entry]:
        found = self._ask(lambda session: list(session.listed(folder)))
        honest = [(name, facts) for name, facts in found if name and "/" not in name]
        return [_entry(name, facts) for name, facts in honest if facts.get("type", "").lower() == kind]

    def about(self, path: str) -> Entry | None:
        facts = self._ask(lambda session: session.facts(path))
        if facts is None:
            return None
        if facts["type"].lower() != "file":
            raise OSError(errno.EISDIR if facts["type"].lower() == "dir" else errno.ELOOP, f"it is no regular file: {self.said}")
        return _entry(path, facts)

    # --- content -----------------------------------------------------------------------------------

    def read(self, path: str) -> BinaryIO:
        """Over a control connection of its own, so that others' requests go on meanwhile."""
        session = self._connect()
        try:
            return BufferedReader(_Reading(session, session.download(path)), _BLOCK)
        except BaseException:
            session.close()
            raise

    def store(self, path: str, chunks: Iterable[bytes]) -> None:
        try:
            written = self._ask(lambda session: session.upload(path, chunks))
        except BaseException:
            self.disconnect()  # the reply to what was cut off is of no use
            raise
        found = self.about(path)
        if found is None or found.size != written:
            raise OSError(errno.EIO, f"{self._server} has not kept all that was written")

    # --- names -------------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        self._ask(lambda session: session.command(f"RNFR {session.at(old)}", f"RNTO {session.at(new)}"))

    def appear(self, old: str, new: str) -> bool:
        if self._ask(lambda session: session.facts(new)) is not None:
            return False
        try:
            self.rename(old, new)
        except _LOST as error:
            raise Unanswered(errno.ECONNRESET, f"{error.strerror}, after a file was to get its name") from None
        return True

    def remove(self, path: str) -> None:
        self._ask(lambda session: session.command(f"DELE {session.at(path)}"))

    def make_folder(self, path: str) -> None:
        try:
            self._ask(lambda session: session.command(f"MKD {session.at(path)}"))
        except _LOST:
            raise
        except OSError:  # there is no reply code for what is there already
            if not self._ask(lambda session: session.is_folder(path)):
                raise


class _Reading(RawIOBase):
    """A remote file from its beginning. Its end is believed only once the server has said that it sent everything."""

    def __init__(self, session: FtpsSession, data: Any) -> None:
        self._session, self._data = session, data
        self._ended = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        if self._ended:
            return 0
        with self._session.sorted():
            count: int = self._data.recv_into(buffer)
        if not count:
            self._ended = True
            self._data.close()
            self._session.downloaded()
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            with suppress(OSError):
                self._data.close()
            self._session.close()


def _entry(name: str, facts: dict[str, str]) -> Entry:
    size = facts.get("size", "")
    return Entry(name, int(size) if size.isdecimal() else 0, seconds_of(facts.get("modify", "")))
