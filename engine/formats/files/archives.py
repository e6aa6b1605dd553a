"""Archives around files: zip (PKWARE APPNOTE 6.3), tar and gzip (RFC 1952), read member by member with limits against bombs.

A member's name is told as a fact and never used as a path. Archives in archives are refused, encrypted members too; links, devices and
folders are no files. What is wrong with one member does not stop the next, but for the limits on the whole archive.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from engine.errors import ParseError
from engine.values import value

_CHUNK: Final = 1 << 20
_TAR_MAGIC: Final = slice(257, 262)
_END_OF_ZIP: Final = b"PK\x05\x06"
_ZIP64_LOCATOR: Final = b"PK\x06\x07"
_ENTRY_OF_ZIP: Final = 1024
"""Bytes of one member in the directory of a zip, on the average: it is read into memory whole, and may hold more members than it says."""
_BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    MemoryError,
    LookupError,
    ArithmeticError,
    ValueError,
    OSError,
)
"""What zipfile, tarfile and what they unpack with make of bytes that nobody has foreseen; of OSError those without a number (gzip, bz2)."""
_END_OF_TAR: Final[type[Exception]] = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_HEADER_ERROR: Final[type[Exception]] = tarfile.HeaderError
_ABOUT_THE_NEXT: Final = (b"x", b"g", b"X", b"L", b"K")
"""Types of headers that say something of the next member (POSIX pax, GNU long names)."""
_MOST_HEADER: Final = 1 << 20
_RATIO_FROM: Final = 16 << 20
"""Bytes that come out before the ratio is looked at: a short file of blanks is no bomb."""


@value(frozen=True, slots=True)
class Limits:
    """Of one archive: members, times that they may be bigger than the archive, bytes in all."""

    members: int = 10_000
    ratio: int = 200
    total: int = 4 << 30


class Member:
    """A file in an archive: `number` counts from 1, `name` is a claim. `fault`: it cannot be read at all."""

    def __init__(self, number: int, name: str, stream: BinaryIO, fault: ParseError | None = None) -> None:
        self.number, self.name, self.stream, self.fault = number, name, stream, fault


def kind(begin: bytes) -> str:
    """zip, gzip, tar or "", by the first 512 bytes."""
    if begin[:4] in (b"PK\x03\x04", _END_OF_ZIP):
        return "zip"
    if begin[:2] == b"\x1f\x8b":
        return "gzip"
    return "tar" if begin[_TAR_MAGIC] == b"ustar" else ""


def check(stream: BinaryIO, size: int, name: str, limits: Limits) -> None:
    """Read all of it once, so that nothing is taken out of an archive that breaks off. Raises ParseError as `members`."""
    for member in members(stream, size, name, limits):
        while member.fault is None and member.stream.read(_CHUNK):
            pass
    stream.seek(0)


def members(stream: BinaryIO, size: int, name: str, limits: Limits) -> Iterator[Member]:
    """Each file in an archive of `size` bytes, in its order; to be read before the next is asked for. `name` is the archive's own. Raises
    ParseError where the archive is broken or above its limits, from here or from a member's stream."""
    begin = stream.read(512)
    stream.seek(0)
    budget = _Budget(size, limits)
    found = kind(begin)
    try:
        if found == "zip":
            yield from _zip(stream, size, budget)
        elif found == "gzip":
            yield from _gzip(stream, name, budget)
        elif found == "tar":
            yield from _tar(stream, budget)
        else:
            raise ParseError("it is no archive that is known: zip, tar, tar.gz and gz are")
    except _BROKEN as error:
        raise _broken(error) from None


def _broken(error: Exception) -> Exception:
    """The disk's own errors stay what they are: they say nothing of the archive."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return ParseError(f"the archive is broken: {type(error).__name__}")


class _Budget:
    """What the archive may still give out."""

    def __init__(self, size: int, limits: Limits) -> None:
        self._limits, self._out = limits, 0
        self._most = min(limits.total, max(_RATIO_FROM, size * limits.ratio))

    @property
    def directory(self) -> int:
        """Bytes of a zip's directory."""
        return self._limits.members * _ENTRY_OF_ZIP

    def member(self, number: int) -> None:
        if number > self._limits.members:
            raise ParseError(f"the archive has more than {self._limits.members} members")

    def spend(self, size: int) -> None:
        self._out += size
        if self._out > self._most:
            why = f"{self._limits.total} bytes" if self._most == self._limits.total else f"{self._limits.ratio} times its own size"
            raise ParseError(f"what is in the archive is more than {why}")


class _Counted(io.RawIOBase):
    """A member's bytes, counted as they come out; its errors as ParseError."""

    def __init__(self, stream: Any, budget: _Budget, begin: bytes = b"") -> None:
        super().__init__()
        self._stream, self._budget, self._begin = stream, budget, begin

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._begin[: len(buffer)] or self._stream.read(min(len(buffer), _CHUNK))
        except _BROKEN as error:
            raise _broken(error) from None
        self._begin = self._begin[len(data) :]
        self._budget.spend(len(data))
        buffer[: len(data)] = data
        return len(data)


def _opened(number: int, name: str, stream: Any, budget: _Budget) -> Member:
    """The member, refused where it is an archive itself."""
    begin = stream.read(512)
    counted: Any = io.BufferedReader(_Counted(stream, budget, begin), _CHUNK)
    nested = kind(begin)
    return Member(number, name, counted, ParseError(f"there is a {nested} archive in the archive, which is not opened") if nested else None)


def _zip(stream: BinaryIO, size: int, budget: _Budget) -> Iterator[Member]:
    _check_directory(stream, size, budget)
    number = 0
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            number += 1
            budget.member(number)
            if info.flag_bits & 0x1:  # APPNOTE 4.4.4
                yield Member(number, info.filename, io.BytesIO(), ParseError("it is encrypted: there is no password for archives here"))
                continue
            with archive.open(info) as file:
                yield _opened(number, info.filename, file, budget)


def _check_directory(stream: BinaryIO, size: int, budget: _Budget) -> None:
    """The directory is read into memory whole, so that its size must be looked at before (APPNOTE 4.3.16)."""
    stream.seek(max(0, size - 65557))
    tail = stream.read()
    stream.seek(0)
    at = tail.rfind(_END_OF_ZIP)
    if at < 0 or len(tail) < at + 22:
        raise ParseError("the zip archive is not complete: its directory is missing")
    count, length = struct.unpack_from("<HI", tail, at + 10)
    if tail[max(0, at - 20) : at].startswith(_ZIP64_LOCATOR) and at >= 76:  # its directory's size rules over the other (APPNOTE 4.3.14)
        (length,) = struct.unpack_from("<Q", tail, at - 20 - 56 + 40)
    if length > budget.directory:
        raise ParseError(f"the directory of the zip archive has more than {budget.directory} bytes")
    budget.member(count if count != 0xFFFF else 0)


class _Header(tarfile.TarInfo):
    """Read strictly: tarfile takes a broken header for the end of the archive, and reads a long name or a pax header of any length."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tarfile)
        except _END_OF_TAR:
            raise
        except _HEADER_ERROR:
            raise ParseError("the tar archive is broken, or not complete") from None

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _ABOUT_THE_NEXT and self.size > _MOST_HEADER:
            raise ParseError(f"a header of the tar archive has more than {_MOST_HEADER} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _tar(stream: Any, budget: _Budget) -> Iterator[Member]:
    number = 0
    with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape", tarinfo=_Header) as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would remember all of them
            if info.isdir():
                continue
            number += 1
            budget.member(number)
            file = archive.extractfile(info) if info.isreg() else None
            if file is None:
                yield Member(number, info.name, io.BytesIO(), ParseError("it is a link or a device, not a file"))
            else:
                yield _opened(number, info.name, file, budget)


def _gzip(stream: BinaryIO, name: str, budget: _Budget) -> Iterator[Member]:
    """A tar in it is the archive; anything else is one member, named as the archive without its ending."""
    with gzip.GzipFile(fileobj=stream, mode="rb") as file:
        begin = file.read(512)
        inside = kind(begin)
        if inside == "tar":
            yield from _tar(io.BufferedReader(_Counted(file, budget, begin), _CHUNK), _Free(budget))
            return
        counted: Any = io.BufferedReader(_Counted(file, budget, begin), _CHUNK)
        fault = ParseError(f"there is a {inside} archive in the archive, which is not opened") if inside else None
        yield Member(1, name.removesuffix(".gz"), counted, fault)


class _Free(_Budget):
    """For a tar whose bytes were counted as they were unpacked: only its members count."""

    def __init__(self, of: _Budget) -> None:
        self._of = of

    def member(self, number: int) -> None:
        self._of.member(number)

    def spend(self, size: int) -> None:
        pass
