"""One file under way: digested, cut page by page, moved away when all of it is kept. Blocking, in the source's own thread."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from adapters.file.attended import attended
from adapters.file.envelopes import Content, envelope_of, facts_of, invalid, is_labelled, label, where
from adapters.file.places import Entry, Listening, beside, last_part, numbered, shown, unclaimed
from adapters.file.reports import Report
from adapters.file.splitting import UNKNOWN, Part, content_type_of, is_whole, parts
from engine.errors import ParseError, StoreError
from engine.formats.files import Piece
from engine.message import BodyRef, Envelope, Judgement

if TYPE_CHECKING:
    from adapters.file.places import Place
    from engine.contracts import Context

CHECKPOINT: Final = "file"
_CHUNK: Final = 1 << 20
_IN_MEMORY: Final = 64 << 10
"""Bytes of a whole file that go in as they are; a bigger one is a body file."""
_PAGE: Final = 500
_PAGE_BYTES: Final = 4 << 20


class Item(NamedTuple):
    """One message to hand in."""

    envelope: Envelope
    invalid: Judgement | None


class Reading:
    """`resumed` is the checkpoint: how far a file was kept when the node was last ended. It is cut again from its beginning, where alone
    lines and quotes are known, but what was kept is not handed in again. `alive` tells the place that its owner is there, and raises
    OSError where the node stops."""

    def __init__(self, place: Place, claimed: Entry, options: Any, context: Context, resumed: str, alive: Callable[[], None]) -> None:
        self._place, self._entry, self._options, self._context, self._alive = place, claimed, options, context, alive
        self.name = shown(last_part(claimed.name))
        self._party = place.party(claimed.name) if isinstance(place, Listening) else ""
        self._report = Report()
        self._fetched: Path | None = None
        self._stream: BinaryIO | None = None
        self.pieces = 0
        self._changed_told = False
        self._last = Part(Piece(0, None, ""))
        self._parts = self._opened(resumed)
        self._facts: dict[str, str] = {}
        self.content = Content(self.name, claimed.size, claimed.modified, "", "", self._party)

    @property
    def faults(self) -> int:
        return self._report.faults

    @property
    def _unread(self) -> str:
        """Content type of a file that cannot be cut."""
        return content_type_of(self._options) if is_whole(self._options) else UNKNOWN

    # --- cutting -----------------------------------------------------------------------------------

    def page(self) -> list[Part]:
        """The next pieces; none when there are no more. Raises OSError, StoreError."""
        found: list[Part] = []
        size = 0
        for part in self._parts:
            found.append(part)
            size += len(part.piece.body or b"")
            if len(found) == _PAGE or size > _PAGE_BYTES:
                break
        if not found and self._is_changed():
            self._changed_told = True
            found = [self._stopped(ParseError("the file was changed while it was read: its sender had not been ready"))]
        return found

    def _is_changed(self) -> bool:
        """Somebody may have gone on writing into a file that had settled; looked at when all of it is kept."""
        here = next((one for one in self._place.claimed() if one.name == self._entry.name), self._entry)
        return not self._changed_told and (here.size, here.modified) != (self._entry.size, self._entry.modified)

    def _opened(self, resumed: str) -> Iterator[Part]:
        """What is not kept yet."""
        if self._entry.size > self._options.most_size:
            known = hashlib.sha256(f"{self.name}|{self._entry.size}|{self._entry.modified}".encode()).hexdigest()
            self.content = replace(self.content, sha256=known)
            yield self._faulty(Part(Piece(1, b"", self._unread, fault=self._too_big())))
            return
        stream = self._stream = self._at_random()
        self.content = self._digested(stream)
        skip = _resumed(resumed, self.content.identity(self._options))
        for part in self._counted(stream):
            if part.at > skip:
                yield part

    def _too_big(self) -> ParseError:
        return ParseError(f"the file has more than {self._options.most_size} bytes, and was not read")

    def _counted(self, stream: BinaryIO) -> Iterator[Part]:
        """All of its pieces, the faults noted."""
        try:
            self._facts = facts_of(self.name, self._options)
            if not self.content.size:
                raise ParseError("the file is empty")
            for part in parts(stream, self.content.size, self.name, self._options):
                self._last = part
                self.pieces += 1
                yield self._faulty(part) if part.piece.fault is not None else part
                if self.faults >= self._options.most_faults:
                    raise ParseError(f"{self.faults} pieces are bad: the rest of the file was not read")
        except ParseError as error:
            yield self._stopped(error)
        except (OSError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001  whatever a file makes of a library, it is said, and never taken for the file's end
            yield self._stopped(ParseError(f"the file cannot be cut: {type(error).__name__}"))

    def _stopped(self, error: ParseError) -> Part:
        """It cannot be cut any further: a last bad piece, for which the whole file stands."""
        last = self._last.piece
        piece = Piece(last.number + 1, None, self._unread, last.line, fault=error)
        self._last = self._last._replace(piece=piece)
        return self._faulty(self._last)

    def _faulty(self, part: Part) -> Part:
        piece = part.piece
        self._report.add(where(self.name, part._replace(piece=replace(piece, line=0))), piece.line, piece.number, str(piece.fault))
        return part

    # --- bytes -------------------------------------------------------------------------------------

    def _at_random(self) -> BinaryIO:
        """The file where it lies, or a copy of what lies on another machine."""
        if self._place.local(self._entry.name) is not None:
            return attended(self._place.read(self._entry.name), self._alive)
        folder = self._context.data / "files"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fetched = folder / f"{self._context.name.replace('/', '-')}.fetched"
        with attended(self._place.read(self._entry.name), self._alive) as far, self._fetched.open("wb") as near:
            while chunk := far.read(_CHUNK):
                near.write(chunk)
                if near.tell() > self._options.most_size:  # whatever the server says of its size
                    raise OSError(errno.EFBIG, "the server gives more of a file than is taken")
        return attended(self._fetched.open("rb"), self._alive)

    def _digested(self, stream: BinaryIO) -> Content:
        first, second, size = hashlib.sha256(), hashlib.sha1(usedforsecurity=False), 0
        while chunk := stream.read(_CHUNK):
            first.update(chunk)
            second.update(chunk)
            size += len(chunk)
        stream.seek(0)
        return Content(self.name, size, self._entry.modified, first.hexdigest(), second.hexdigest(), self._party)

    def _body(self, part: Part) -> bytes | BodyRef:
        """Of the piece, or the whole file with its label."""
        labelled = is_labelled(self._options) and part.piece.fault is None
        content = self.content if part.piece.body is None else _content_of(part.piece.body, self.content)
        head = label(part, content, self._facts) if labelled else b""
        if part.piece.body is not None:
            return head + part.piece.body
        if self.content.size <= _IN_MEMORY:
            with self._again() as file:
                return head + file.read()
        spool = self._context.spool()
        try:
            with self._again() as file:
                spool.write(head)
                while chunk := file.read(_CHUNK):
                    spool.write(chunk)
            return spool.finish()
        except (OSError, StoreError):
            spool.abort()
            raise

    def _again(self) -> BinaryIO:
        there = self._fetched.open("rb") if self._fetched is not None else self._place.read(self._entry.name)
        return attended(there, self._alive)

    def items(self, page: list[Part]) -> list[Item]:
        """The page's messages; made again for each attempt, since a body file that was not kept is spooled anew."""
        now, remote = self._context.clock(), self._place.said
        made = []
        for part in page:
            envelope = envelope_of(part, self._body(part), self.content, self._facts, self._options, remote, now)
            made.append(Item(envelope, invalid(part, self.name)))
        if made:  # only when all before it are kept is it handed in
            made[-1] = made[-1]._replace(envelope=replace(made[-1].envelope, checkpoint=self._checkpoint(page[-1])))
        return made

    def _checkpoint(self, part: Part) -> tuple[str, str]:
        return CHECKPOINT, json.dumps([self.content.identity(self._options), *part.at])

    # --- the end -----------------------------------------------------------------------------------

    def holds(self) -> bool:
        """Whether the file is still ours."""
        return self._place.holds(self._entry.name)

    def finish(self) -> str:
        """Move it away, with its report: the folder. All of its messages are on disk by now. Raises OSError."""
        self.close()
        folder: str = self._options.faulty if self.faults else self._options.done
        if self._options.by_date:
            folder += f"/{datetime.fromtimestamp(self._context.clock() / 1e6, UTC).astimezone():%Y-%m-%d}"
        name = last_part(self._entry.name)
        if self.faults:
            self._write_report(name, beside(self._entry.name, folder))
        self._place.move(self._entry.name, folder)
        if self._options.marker and (marker := self._place.claim(unclaimed(self._entry.name) + self._options.marker)) is not None:
            self._place.move(marker, folder)
        return folder

    def _write_report(self, name: str, folder: str) -> None:
        content = b"".join(self._report.chunks())
        for number in count(1):
            wanted = numbered(f"{name[:60]}.errors.csv", number)
            if self._place.write(wanted, [content], folder) or self._is(wanted, folder, content):
                return

    def _is(self, name: str, folder: str, content: bytes) -> bool:
        """Whether it was written before an end of the process."""
        found = self._place.find(name, folder)
        if found is None or found.size != len(content):
            return False
        with self._place.read(found.name) as file:
            there: bytes = file.read()
        return there == content

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._fetched is not None:
            with suppress(OSError):
                self._fetched.unlink()
            self._fetched = None


def _resumed(checkpoint: str, identity: str) -> tuple[int, int]:
    """Up to where this file was kept."""
    if not checkpoint:
        return 0, 0
    of, member, number = json.loads(checkpoint)
    return (int(member), int(number)) if of == identity else (0, 0)


def _content_of(body: bytes, archive: Content) -> Content:
    """Of a file in an archive."""
    digests = hashlib.sha256(body).hexdigest(), hashlib.sha1(body, usedforsecurity=False).hexdigest()
    return Content(archive.name, len(body), archive.modified, *digests)
