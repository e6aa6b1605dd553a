"""Files of any bytes: a splitter gives pieces or says that it cannot, the same however they are read; what is good round-trips."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.file.options import SOURCE
from adapters.file.splitting import Part, parts
from engine.errors import ParseError
from engine.formats.files.lines import raw_lines
from engine.formats.rows import read

OPTIONS = {
    "csv": {"format": "csv"},
    "gb18030": {"format": "csv", "csv": {"encoding": "gb18030"}},
    "details": {"format": "csv", "rows": {"key": ["a"], "details": {"d": ["b"]}}, "csv": {"columns": ["a", "b"]}},
    "fixed": {"format": "fixed-width", "fixed_width": {"columns": [{"name": "a", "at": 1, "width": 3}], "count": "bytes"}},
    "ndjson": {"format": "ndjson"},
    "hl7": {"format": "hl7-batch"},
    "xml": {"format": "xml", "path": "a/b"},
    "json": {"format": "json"},
    "pdf": {"format": "pdf"},
}
PIECES = [
    b'"',
    b",",
    b"\n",
    b"\r",
    b"a,b\n",
    b"1,2\n",
    b"\x00",
    b"\xff",
    "张".encode("gb18030"),
    b"MSH|^~\\&|",
    b"BHS|",
    b"BTS|1",
    b"<a>",
    b"<b/>",
]
PIECES += [b"</a>", b"{", b"}", b'{"resourceType":"X"}', b"%PDF-", b"%%EOF", b"PK\x03\x04", b"\x1f\x8b\x08\x00"]
BODIES = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=5)), max_size=30).map(b"".join)


class Stuttering(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 3) if size and size > 0 else size)


def cut(stream: io.BytesIO, size: int, options: object, name: str = "f") -> tuple[list[Part], str]:
    found: list[Part] = []
    try:
        for part in parts(stream, size, name, options):
            found.append(part)
    except ParseError as error:
        return found, str(error)
    return found, ""


def told(stream: io.BytesIO, size: int, options: object) -> tuple[list[object], str]:
    """The same in values that can be compared."""
    found, error = cut(stream, size, options)
    return [(part.at, part.piece.line, part.piece.offset, part.piece.body, str(part.piece.fault)) for part in found], error


@pytest.mark.parametrize("kind", OPTIONS)
@given(body=BODIES)
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_cut_or_refused(kind: str, body: bytes) -> None:
    """Numbers run from 1; a fault holds nothing of the file beyond names of columns; nothing else is ever raised."""
    options = SOURCE.defaults(folder="in", **OPTIONS[kind])
    found, _ = cut(io.BytesIO(body), len(body), options)
    assert [part.piece.number for part in found] == list(range(1, len(found) + 1))
    assert told(io.BytesIO(body), len(body), options) == told(io.BytesIO(body), len(body), options)


@pytest.mark.parametrize("kind", ["csv", "gb18030", "details", "fixed", "ndjson", "hl7"])
@given(body=BODIES)
@settings(max_examples=100, deadline=None)
def test_any_chunking_gives_the_same_pieces(kind: str, body: bytes) -> None:
    options = SOURCE.defaults(folder="in", **OPTIONS[kind])
    assert told(Stuttering(body), len(body), options) == told(io.BytesIO(body), len(body), options)


@given(body=BODIES, name=st.sampled_from(["a.zip", "a.tar", "a.gz"]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_an_archive(body: bytes, name: str) -> None:
    """Refused, with a reason, or opened; never anything else."""
    cut(io.BytesIO(body), len(body), SOURCE.defaults(folder="in", format="csv"), name)


@given(body=st.binary(max_size=200), most=st.integers(1, 50))
def test_lines_are_the_file(body: bytes, most: int) -> None:
    """Offsets and contents agree with the bytes; without a limit they are all of them."""
    for line in raw_lines(io.BytesIO(body), most):
        assert body[line.offset :].startswith(line.content)
        assert len(line.content) <= most
    assert b"".join(line.content for line in raw_lines(Stuttering(body), 1000)) == body


CELLS = st.text(st.characters(codec="gb18030", exclude_characters="\x00"), max_size=10).filter(
    lambda cell: cell == "" or cell.strip() != ""
)


@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=20), encoding=st.sampled_from(["utf-8", "gb18030"]))
def test_what_a_csv_writer_writes_is_read_back(rows: list[list[str]], encoding: str) -> None:
    """Whatever stands in the cells: quotes, delimiters, line ends."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["a", "b"], *rows])
    options = SOURCE.defaults(folder="in", format="csv", csv={"encoding": encoding, "delimiter": ","})
    found, error = cut(io.BytesIO(out.getvalue().encode(encoding)), 0, options)
    read_back = [[cell or "" for cell in read(part.piece.body or b"").row.values()] for part in found]
    assert error == ""
    assert read_back == [row for row in rows if any(cell.strip() for cell in row)]
