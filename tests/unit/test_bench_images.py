"""The benchmark's modalities: their instances are what a receiver would get from a real one, and each is another."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import dcmread

from adapters.dicom.upper.framing import PduFramer, Piece
from engine.bench import modalities
from engine.bench.modalities import Instances, data_set


@pytest.mark.parametrize(("kind", "megabytes"), [("ct", 0.52), ("multi-frame", 99.5)])
def test_an_instance_is_one_that_pydicom_reads(kind: str, megabytes: float) -> None:
    """Of the size that figures.md names."""
    content = data_set(kind, "1.2.3")
    read = dcmread(BytesIO(content), force=True)
    assert len(content) / 1e6 == pytest.approx(megabytes, rel=0.01)
    assert len(read.PixelData) == read.Rows * read.Columns * 2 * int(read.get("NumberOfFrames", 1))


def test_only_the_uid_differs_between_instances() -> None:
    """In the command and in the data set; every byte else is the same."""
    instances = Instances("ct", 16384)
    for number in (1, 99_999_999_999):
        front, rest = instances.message(number)
        uid = modalities._UID.format(number)
        pieces = [piece for piece in PduFramer(16384).feed(front + bytes(rest)) if isinstance(piece, Piece)]
        command = b"".join(bytes(piece.data) for piece in pieces if piece.is_command)
        content = b"".join(bytes(piece.data) for piece in pieces if not piece.is_command)
        assert uid.encode() in command
        assert content == data_set("ct", uid)
