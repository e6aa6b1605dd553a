"""Archives from strangers: what is in them comes out member by member, and bombs do not."""

from __future__ import annotations

import gzip
import io
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
