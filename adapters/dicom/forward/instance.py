"""One parcel's file (PS3.10), in memory or in the store, read in pieces so that its size costs no memory.

What was altered on our disk must not be sent as if it were the patient's image: the digest is taken along, and the last piece is only
given when it is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.dicom.forward.part10 import HEAD, DataSetDigest, FileMeta, read_meta
from adapters.dicom.upper.negotiation import DEFLATED_LE
from engine.errors import ParseError, PermanentDelivery, StoreError, TransientDelivery
from engine.message import DICOM, BodyRef, Parcel

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Instance:
    """`content` holds the file where it is in memory; otherwise it lies at `path` and must have `digest`."""

    meta: FileMeta
    size: int
    content: bytes = b""
    path: Path = Path()
    digest: str = ""
    is_temporary: bool = False
    """The file at `path` is for this sending only."""

    def pieces(self, skip: int = 0) -> Iterator[bytes]:
        """The file's bytes after the first `skip`. Raises PermanentDelivery before the last piece where they are not what was stored."""
        if not self.digest:
            yield from (self.content[at : at + PIECE] for at in range(skip, self.size, PIECE))
            return
        digest = hashlib.sha256()
        held = b""
        left = self.size
        try:
            with self.path.open("rb") as file:
                while left > 0 and (piece := file.read(min(PIECE, left))):
                    digest.update(piece)
                    left -= len(piece)
                    if held[skip:]:
                        yield held[skip:]
                    skip = max(0, skip - len(held))
                    held = piece
        except OSError as error:
            raise TransientDelivery(f"the content cannot be read back: {error.strerror}") from None
        if left or digest.hexdigest() != self.digest:
            raise PermanentDelivery(f"the content cannot be read back: the body {self.digest[:12]} is not what was stored")
        if held[skip:]:
            yield held[skip:]

    def data_set(self) -> Iterator[bytes]:
        """The data set's bytes, as they go over an association: a deflated one has an even number of them there (PS3.5 annex A.5), and in
        some files has not."""
        rest = b""
        for piece in self.pieces(self.meta.offset):
            whole = rest + piece if rest else piece
            end = len(whole) & ~1  # as every fragment has (PS3.8 annex E.1)
            rest = whole[end:]
            if end:
                yield whole[:end] if rest else whole
        if rest:
            yield rest + b"\0" if self.meta.transfer_syntax == DEFLATED_LE else rest

    def head(self, most: int) -> bytes:
        """The first bytes of the file. Raises TransientDelivery."""
        if not self.digest:
            return self.content[:most]
        try:
            with self.path.open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise TransientDelivery(f"the content cannot be read back: {error.strerror}") from None

    def data_set_digest(self) -> bytes:
        """The SHA-256 of the data set. Reads the whole file: for a thread. Raises DeliveryError."""
        digest = DataSetDigest()
        for piece in self.pieces():
            digest.feed(piece)
        return digest.finish()


def instance_of(parcel: Parcel, body_file: Callable[[BodyRef], Path]) -> Instance:
    """Raises PermanentDelivery where it is no DICOM file, TransientDelivery where it cannot be read now."""
    if parcel.content_type != DICOM:
        raise PermanentDelivery(f"only {DICOM} can be sent there, and this is {parcel.content_type}")
    try:
        if isinstance(parcel.body, bytes):
            return Instance(read_meta(parcel.body[:HEAD]), len(parcel.body), parcel.body)
        path = body_file(parcel.body)
        with path.open("rb") as file:
            meta = read_meta(file.read(HEAD))
        return Instance(meta, parcel.body.size, b"", path, parcel.body.digest)
    except ParseError as error:
        raise PermanentDelivery(error.text, location=error.location) from None
    except FileNotFoundError:
        raise PermanentDelivery("the content cannot be read back: its file is gone") from None
    except (OSError, StoreError) as error:
        raise TransientDelivery(f"the content cannot be read back: {type(error).__name__}") from None
