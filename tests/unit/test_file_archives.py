"""Archives from strangers: what is in them comes out member by member, and bombs do not."""

from __future__ import annotations

import errno
import gzip
import io
import struct
import tarfile
import zipfile
from random import Random

import pytest

from engine.errors import ParseError
from engine.formats.files.archives import Limits, check, members

LIMITS = Limits()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(mode: str = "w", **files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def taken(body: bytes, limits: Limits = LIMITS, name: str = "a.gz") -> list[tuple[int, str, bytes | str]]:
    """Each member's content, or why it has none."""
    check(io.BytesIO(body), len(body), name, limits)
    found = members(io.BytesIO(body), len(body), name, limits)
    return [(one.number, one.name, one.stream.read() if one.fault is None else one.fault.text) for one in found]


@pytest.mark.parametrize("pack", [zipped, tarred, lambda **files: tarred("w:gz", **files)])
def test_members_in_their_order(pack) -> None:  # type: ignore[no-untyped-def]
    """zip, tar and tar.gz alike."""
    big = bytes(range(256)) * 5000
    assert taken(pack(one=b"1", two=big)) == [(1, "one", b"1"), (2, "two", big)]


def test_a_compressed_file() -> None:
    """One member, named as the file without .gz."""
    assert taken(gzip.compress(b"a,b\n"), name="rows.csv.gz") == [(1, "rows.csv", b"a,b\n")]


def test_names_are_facts() -> None:
    """Nothing is ever written under them, so they come as they are."""
    assert taken(zipped(**{"../../etc/passwd": b"1"}))[0][1] == "../../etc/passwd"


def test_an_archive_in_an_archive_is_not_opened() -> None:
    """Its neighbours are read."""
    for inner in (zipped(a=b"1"), tarred(a=b"1"), gzip.compress(b"1")):
        first, second = taken(zipped(inner=inner, row=b"1"))
        assert "archive in the archive" in str(first[2])
        assert second[2] == b"1"
    assert "archive in the archive" in str(taken(gzip.compress(zipped(a=b"1")))[0][2])


def test_an_encrypted_member_says_so() -> None:
    """A zip whose first member has the flag (APPNOTE 4.4.4, bit 0)."""
    body = bytearray(zipped(a=b"1", b=b"2"))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(mark) + at] |= 1
    first, second = taken(bytes(body))
    assert "encrypted" in str(first[2])
    assert second[2] == b"2"


def test_links_and_devices_are_no_files() -> None:
    """A link to /etc/passwd in a tar is told, not followed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("x.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert "link or a device" in str(taken(out.getvalue())[0][2])


@pytest.mark.parametrize(
    ("body", "limits", "said"),
    [
        (zipped(bomb=bytes(32 << 20)), Limits(ratio=20), "20 times its own size"),
        (gzip.compress(bytes(32 << 20)), Limits(ratio=20), "20 times its own size"),
        (tarred("w:gz", bomb=bytes(32 << 20)), Limits(ratio=20), "20 times its own size"),
        (zipped(big=Random(1).randbytes(3 << 20)), Limits(total=2 << 20), "2097152 bytes"),
        (zipped(a=b"1", b=b"2", c=b"3"), Limits(members=2), "more than 2 members"),
        (tarred(a=b"1", b=b"2", c=b"3"), Limits(members=2), "more than 2 members"),
    ],
    ids=["zip", "gzip", "tar.gz", "total", "members of a zip", "members of a tar"],
)
def test_bombs(body: bytes, limits: Limits, said: str) -> None:
    """By what really comes out, not by what the archive claims."""
    with pytest.raises(ParseError, match=said):
        taken(body, limits)


@pytest.mark.parametrize(
    "body",
    [zipped(a=b"1" * 5000), tarred(a=b"1" * 50_000), tarred("w:gz", a=b"1" * 50_000), gzip.compress(b"x" * 5000)],
    ids=["zip", "tar", "tar.gz", "gzip"],
)
@pytest.mark.parametrize("cut", [0.5, 0.8])
def test_a_broken_archive_is_found_before_anything_is_taken(body: bytes, cut: float) -> None:
    """Half an upload."""
    with pytest.raises(ParseError, match=r"broken|complete"):
        taken(body[: int(len(body) * cut)])


def test_a_flipped_byte() -> None:
    """The checksum of zip."""
    body = bytearray(zipped(a=b"0123456789" * 100))
    body[45] ^= 0xFF
    with pytest.raises(ParseError, match="broken"):
        taken(bytes(body))


def test_a_tar_header_that_claims_a_long_name() -> None:
    """It would be read into memory whole."""
    info = tarfile.TarInfo("@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 31
    with pytest.raises(ParseError, match="header"):
        taken(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))


def test_what_is_no_archive() -> None:
    """Said as such."""
    with pytest.raises(ParseError, match="no archive"):
        taken(b"a,b\n1,2\n")


def test_what_a_library_makes_of_broken_bytes_is_said() -> None:
    """A member's name that is not in its encoding, a sparse map that breaks off, a compressed stream with a wrong begin: of each the library
    raises something else."""
    wrong_name = zipped(**{"\xe9" * 9: b"1"}).replace("\xe9".encode() * 9, b"\xff" * 18)
    for body in (wrong_name, sparse(b"99999\n"), sparse(b"none\n"), packed(zipfile.ZIP_BZIP2).replace(b"BZh", b"XYZ")):
        with pytest.raises(ParseError, match="broken"):
            taken(body)


def sparse(head: bytes) -> bytes:
    """A tar with a file whose map stands before its content (GNU sparse format 1.0)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("s.csv")
        info.size, info.pax_headers = 700, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "700"}
        archive.addfile(info, io.BytesIO(head + b"x" * 700))
    return out.getvalue()


def packed(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.csv", b"1" * 5000)
    return out.getvalue()


NOISE = Random(2).randbytes(3 << 20)


@pytest.mark.parametrize("body", [zipped(a=NOISE), tarred(a=NOISE), gzip.compress(NOISE)], ids=["zip", "tar", "gzip"])
def test_a_disk_that_fails_says_nothing_of_the_archive(body: bytes) -> None:
    """The file is read again later; it is not given up as broken."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if 1 << 20 < self.tell() < 2 << 20:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output"):
        check(Failing(body), len(body), "a.gz", LIMITS)


def test_the_directory_of_a_zip_is_not_read_into_memory_whatever_its_size() -> None:
    """Neither the one that the end of the archive tells of, nor the one of zip64, which rules over it."""
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 46, 0, 0)
    end64 = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, 1 << 31, 0)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, 4, 1)
    for tail in (end64 + locator + end, end.replace(struct.pack("<I", 46), struct.pack("<I", 1 << 25))):
        with pytest.raises(ParseError, match="directory of the zip archive has more than 10240000 bytes"):
            taken(b"PK\x03\x04" + tail)
