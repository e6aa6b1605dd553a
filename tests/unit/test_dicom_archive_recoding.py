"""Between Explicit and Implicit VR Little Endian: pydicom reads the same out of both."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from adapters.dicom.archive.header import EXPLICIT, IMPLICIT, read_header
from adapters.dicom.archive.recoding import PAIR, recoded
from engine.errors import MessageError
from tests.support.dicom_archive import CHARSET_FILES, TEST_FILES, as_file, data_set

UNCOMPRESSED = []
for path in (*CHARSET_FILES, *TEST_FILES):
    try:
        with path.open("rb") as file:
            if read_header(file).transfer_syntax in PAIR and "truncated" not in path.name:
                UNCOMPRESSED.append(path)
    except MessageError:
        continue


def whole(body: bytes) -> tuple[bytes, str]:
    """The data set's bytes, and its transfer syntax."""
    header = read_header(io.BytesIO(body))
    return body[header.offset :], header.transfer_syntax


def read(data: bytes, syntax: str) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(_meta(syntax) + data))


def _meta(syntax: str) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid


def public(found: Dataset) -> dict[int, Any]:
    """Elements that both encodings can say: private ones lose their VR in the implicit."""
    values: dict[int, Any] = {}
    for element in found:
        if element.tag.is_private or element.tag.element == 0:
            continue
        values[element.tag] = (
            [public(item) for item in element.value] if element.VR == "SQ" else element.value if element.VR != "UN" else None
        )
    return values


@pytest.mark.parametrize("path", UNCOMPRESSED, ids=lambda path: path.name)
def test_pydicom_reads_the_same(path: Path) -> None:
    """There, and back again."""
    data, syntax = whole(path.read_bytes())
    other = b"".join(recoded(io.BytesIO(data), syntax))
    again = b"".join(recoded(io.BytesIO(other), PAIR[syntax]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = public(read(data, syntax))
        there, back = public(read(other, PAIR[syntax])), public(read(again, syntax))
    known = {tag for tag, value in original.items() if value is not None and there.get(tag) is not None}
    assert there.keys() == original.keys() == back.keys()
    assert len(known) >= 0.9 * sum(value is not None for value in original.values())
    for tag in known:
        assert there[tag] == original[tag] == back[tag], tag


def test_sequences_of_every_length() -> None:
    """Defined, undefined, empty, nested."""
    inner = Dataset()
    inner.CodeValue = "1"
    middle = Dataset()
    middle.ConceptNameCodeSequence, middle.ContentSequence = Sequence([inner]), Sequence([])
    for undefined in (False, True):
        found = data_set(ContentSequence=Sequence([middle, middle]))
        found["ContentSequence"].is_undefined_length = undefined
        data, syntax = whole(as_file(found))
        assert syntax == EXPLICIT
        assert public(read(b"".join(recoded(io.BytesIO(data), EXPLICIT)), IMPLICIT)) == public(read(data, EXPLICIT))


@pytest.mark.parametrize("cut", range(1, 300, 7))
def test_a_data_set_cut_short(cut: int) -> None:
    """Is recoded as far as it is whole, or refused by name."""
    data, syntax = whole(as_file(data_set()))
    try:
        list(recoded(io.BytesIO(data[:cut]), syntax))
    except MessageError:
        pass


def test_memory_does_not_depend_on_the_size() -> None:
    """Pieces, not the whole."""
    found = data_set(Rows=1, PixelData=bytes(8 << 20))
    found["PixelData"].VR = "OW"
    data, syntax = whole(as_file(found))
    pieces = list(recoded(io.BytesIO(data), syntax))
    assert max(map(len, pieces)) <= 600 << 10
    assert sum(map(len, pieces)) > 8 << 20
