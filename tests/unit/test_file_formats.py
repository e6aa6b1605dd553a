"""Files cut into messages: each piece with its place; a bad one is named and the next goes on."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from itertools import repeat

import pytest

from engine.errors import ParseError
from engine.formats.files import Piece, fixed_width, hl7v2, labelled, ndjson, tabular, whole, xml_pieces
from engine.formats.files.delimited import Dialect, rows
from engine.formats.files.fixed_width import Column, Layout
from engine.formats.files.lines import CHUNK, raw_lines
from engine.formats.files.tabular import Naming
from engine.formats.rows import read
from engine.message import CDA, FHIR_JSON, ROWS

ADT = b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|%d|P|2.5\rPID|1||P%d^^^H\r"


def said(pieces: Iterable[Piece]) -> list[tuple[int, str]]:
    """(line, what is wrong or "") of each."""
    return [(piece.line, str(piece.fault) if piece.fault else "") for piece in pieces]


def csv(body: bytes, naming: Naming = Naming(), **dialect: object) -> list[Piece]:  # noqa: B008 - frozen
    return list(tabular.pieces(rows(io.BytesIO(body), "t", Dialect(**dialect)), naming))  # type: ignore[arg-type]


# --- lines ---------------------------------------------------------------------------------------


def test_lines_of_every_end() -> None:
    """Numbers and offsets; the last has no end."""
    found = [(line.number, line.offset, line.content) for line in raw_lines(io.BytesIO(b"a\nb\r\nc\rd"), 100)]
    assert found == [(1, 0, b"a\n"), (2, 2, b"b\r\n"), (3, 5, b"c\r"), (4, 7, b"d")]


def test_a_line_end_on_the_edge_of_two_reads() -> None:
    """CR LF is one end wherever the reads happen to fall."""
    body = b"x" * (CHUNK - 1) + b"\r\nsecond\n"
    assert [(line.number, line.content[-6:]) for line in raw_lines(io.BytesIO(body), CHUNK * 2)] == [(1, b"xxxx\r\n"), (2, b"econd\n")]


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1])
def test_carriage_returns_alone_end_lines_across_blocks(size: int) -> None:
    """None is lost or made two at the end of a block, behind a line that is cut off too; a stream is asked for blocks, not for each."""

    class Asked(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            return super().read(size)

    stream = Asked(b"x" * (size - 1) + b"\r" * (CHUNK + 9) + b"y\r\n")
    numbers = [(line.number, line.cut) for line in raw_lines(stream, 100)]
    assert numbers == [(number, number == 1) for number in range(1, CHUNK + 11)]
    assert stream.reads <= 4


@pytest.mark.parametrize("long", [50, CHUNK + 50, 3 * CHUNK])
def test_an_overlong_line_is_cut_and_the_next_is_whole(long: int) -> None:
    """However long: what comes after it keeps its number and offset."""
    first, second = raw_lines(io.BytesIO(b"x" * long + b"\nnext\n"), 10)
    assert (first.content, first.cut) == (b"x" * 10, True)
    assert (second.number, second.offset, second.content, second.cut) == (2, long + 1, b"next\n", False)


# --- CSV -----------------------------------------------------------------------------------------


def test_rows_are_records_with_their_place() -> None:
    """One message each, with the key that tells it from others."""
    naming = Naming(origin="lab", key=("no",), patient_ids=("patient",))
    first, second = csv('\ufeffno,patient,note\nA1,P1,"two\nlines"\nA2,P2,\n'.encode(), naming)
    record = read(first.body or b"")
    assert (first.number, first.line, first.content_type, first.message_type, first.control_id) == (1, 2, ROWS, "t", "A1")
    assert (record.origin, dict(record.key), record.row["note"], record.position) == ("lab", {"no": "A1"}, "two\nlines", "line 2")
    assert (second.line, second.patient_ids) == (4, ("P2",))
    assert read(second.body or b"").row["note"] is None


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"PK\x03\x04", ".xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".xls"),
        ("\ufeffa,b\n".encode("utf-16-le"), "UTF-16"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\xef\xbb\xbf <HTML><table>", "HTML"),
        (gzip.compress(b"a\n1\n", mtime=0), "gzip"),
    ],
)
def test_what_is_no_table_is_called_by_its_name(begin: bytes, said: str) -> None:
    """A workbook given as CSV is the most usual mistake; nobody should have to guess from what is wrong with its heading."""
    with pytest.raises(ParseError, match=f"this is no table: .*{said}"):
        list(rows(io.BytesIO(begin + b"\n1,2\n" * 9), "t", Dialect("gb18030")))


def test_a_cell_may_be_as_long_as_a_message() -> None:
    """A letter in base64, say."""
    (piece,) = csv(b"a,b\n1," + b"x" * 300_000 + b"\n")
    assert piece.fault is None


def test_a_key_that_the_heading_lacks_is_told_from_an_empty_cell() -> None:
    """The one is the channel's mistake, or a wrong delimiter; the other the row's."""
    (piece,) = csv(b"no;v\n1;2\n", Naming(key=("no",)), delimiter=",")
    assert str(piece.fault) == "no: the heading has no such column, and the key needs it"


def test_each_kind_of_bad_row_costs_that_row_only() -> None:
    """An unclosed quote, a wrong number of cells, bytes of another character set, NUL, a line that is too long, an empty key."""
    body = b'no,v\n1,a\n2,"open\n3,c\n4\n5,\xff\n6,\x00\n7,' + b"x" * 300 + b"\n,h\n9,i\n"
    found = csv(body, Naming(key=("no",)), most=200)
    assert said(found) == [
        (2, ""),
        (3, "a quoted cell does not end, or the row is too long"),
        (4, ""),
        (5, "has 1 cells; the heading names 2"),
        (6, "v: is not in the file's encoding"),
        (7, "v: has a NUL character"),
        (8, "the row has more than 200 bytes"),
        (9, "no: a column of the key is empty or not there"),
        (10, ""),
    ]
    assert found[1].body == b'2,"open\n'
    assert [read(piece.body or b"").row["no"] for piece in found if piece.fault is None] == ["1", "3", "9"]


def test_a_forgotten_quote_that_meets_another_costs_two_rows_at_most() -> None:
    """The quote of a later row closes it; what follows that shows that it was none."""
    found = csv(b'no,v\n1,"open\n2,b\n3,"c"\n4,d\n')
    assert [piece.line for piece in found if piece.fault] == [2]
    assert [read(piece.body or b"").row["no"] for piece in found if piece.fault is None] == ["2", "3", "4"]


def test_a_row_that_never_ends_is_given_up() -> None:
    """After a bounded number of lines, each of which is then read again as a row of its own."""
    body = b'no,v\n0,"open\n' + b"".join(b"%d,x\n" % number for number in range(1, 2000))
    found = csv(body)
    assert [piece.line for piece in found if piece.fault] == [2]
    assert len(found) == 2000


def test_gb18030_whose_second_byte_is_a_delimiter() -> None:
    """Cut after decoding: 倈 ends in the byte of |."""
    (piece,) = csv("no|name\n1|倈倊\n".encode("gb18030"), encoding="gb18030", delimiter="|")
    assert read(piece.body or b"").row["name"] == "倈倊"


def test_a_file_without_a_heading() -> None:
    """Its columns are named by the channel; lines before them are skipped, and counted."""
    (piece,) = csv(b"Report of today\n1;2\n", names=("a", "b"), skip=1)
    assert (piece.line, dict(read(piece.body or b"").row)) == (2, {"a": "1", "b": "2"})


@pytest.mark.parametrize("body", [b"", b"\n\n", b'"a,b\n', b"a,a\n1,2\n"])
def test_without_a_usable_heading_nothing_is_cut(body: bytes) -> None:
    """That is the whole file's fault."""
    with pytest.raises(ParseError):
        csv(body)


def test_header_and_details() -> None:
    """Consecutive rows with one key are one message; a bad row among them is told, and stands after the group that it fell into."""
    body = b"no,name,test,value\nA,x,GLU,5\nA,x,K,4\nbad\nA,x,NA,140\nB,y,GLU,6\n"
    first, bad, second = csv(body, Naming(key=("no",), details={"results": ("test", "value")}))
    record = read(first.body or b"")
    assert dict(record.row) == {"no": "A", "name": "x"}
    assert [row["test"] for row in record.details["results"]] == ["GLU", "K", "NA"]
    assert record.types["results.test"] == "text"
    assert (bad.line, second.line, second.number) == (4, 6, 3)


# --- fixed width -----------------------------------------------------------------------------------

COLUMNS = (Column("no", 1, 4), Column("name", 5, 6), Column("value", 11, 3))


def fixed(body: bytes, **layout: object) -> list[Piece]:
    return list(tabular.pieces(fixed_width.rows(io.BytesIO(body), "t", Layout(COLUMNS, **layout)), Naming()))  # type: ignore[arg-type]


def test_columns_in_bytes_of_gbk() -> None:
    """Three characters are six bytes; a character cut in two is a fault of that row."""
    body = "A001张三丰5.1\nA002李四  6.2\nA00三李四 6.2\n".encode("gb18030")
    found = fixed(body, encoding="gb18030", in_bytes=True)
    assert [read(piece.body or b"").row["name"] for piece in found[:2]] == ["张三丰", "李四"]
    assert said(found)[2] == (3, "no: is not in the file's encoding")


def test_columns_in_characters() -> None:
    """A row that is too short or too long is not guessed at, unless the channel says that blanks may be left out."""
    body = "A001张三丰   5.1\nA002x\nA003      6.25\n".encode()
    assert said(fixed(body)) == [
        (1, ""),
        (2, "has 5 characters; the columns end at 13"),
        (3, "has 14 characters; the columns end at 13"),
    ]
    assert [piece.fault is None for piece in fixed(body, short=True)] == [True, True, False]


# --- JSON, HL7 v2 ----------------------------------------------------------------------------------


def test_ndjson() -> None:
    """A resource on each line; the bad ones are named."""
    body = b'{"resourceType":"Patient","id":"p1"}\n\n{"a":1}\n{"resourceType":"Patient","id":1,"id":2}\n{\n{"resourceType":"Device"}'
    found = list(ndjson.pieces(io.BytesIO(body), FHIR_JSON, 1000))
    assert [(piece.line, piece.message_type, piece.fault is None) for piece in found] == [
        (1, "Patient", True),
        (3, "", False),
        (4, "", False),
        (5, "", False),
        (6, "Device", True),
    ]
    assert found[0].control_id == "p1"


def test_an_hl7_batch() -> None:
    """Messages as they stand with their lines; what the trailer counts wrongly is told, and a message without header facts too."""
    body = b"FHS|^~\\&\rBHS|^~\\&\r" + ADT % (1, 1) + ADT % (2, 2) + b"MSH|^~\\&|A\r" + b"BTS|2\rFTS|1\r"
    found = list(hl7v2.pieces(io.BytesIO(body), None, 10_000))
    assert [(piece.line, piece.control_id, piece.fault is None) for piece in found] == [
        (3, "1", True),
        (5, "2", True),
        (7, "", False),
        (8, "", False),
    ]
    assert found[0].body == ADT % (1, 1)
    assert found[0].patient_ids == ("P1",)
    assert "BTS-1 does not agree" in str(found[3].fault)


def test_bare_messages_and_one_that_is_too_long() -> None:
    """The next begins where it begins."""
    body = ADT % (1, 1) + ADT % (2, 2) + b"NTE|1||" + b"x" * 200 + b"\r" + ADT % (3, 3)
    found = list(hl7v2.pieces(io.BytesIO(body), None, 150))
    assert [(piece.line, piece.fault is None) for piece in found] == [(1, True), (3, False), (6, True)]


def test_a_batch_without_its_end() -> None:
    """The file broke off: the messages are there, and it is said."""
    found = list(hl7v2.pieces(io.BytesIO(b"BHS|^~\\&\r" + ADT % (1, 1)), None, 10_000))
    assert [piece.fault is None for piece in found] == [True, False]
    assert "no BTS" in str(found[1].fault)


# --- XML, whole files ------------------------------------------------------------------------------


def xml(body: bytes, path: str = "export/doc", most: int = 10_000) -> list[Piece]:
    return list(xml_pieces.pieces(io.BytesIO(body), xml_pieces.steps(path), CDA, most))


def test_elements_at_a_path() -> None:
    """Each a document of its own, with its namespaces; the same name elsewhere is not meant."""
    body = b'<export xmlns="urn:a" xmlns:b="urn:b">\n<doc><b:x/></doc>\n<other><doc/></other>\n<doc>2</doc></export>'
    first, second = xml(body)
    assert (first.line, second.line) == (2, 4)
    assert first.body == b"<?xml version='1.0' encoding='UTF-8'?>\n<doc xmlns=\"urn:a\" xmlns:b=\"urn:b\"><b:x/></doc>"
    assert [piece.message_type for piece in (first, second)] == ["doc", "doc"]


def test_a_document_that_breaks_off_keeps_what_was_whole() -> None:
    """The pieces come before the error, which says where."""
    pieces = xml_pieces.pieces(io.BytesIO(b"<export>\n<doc/>\n<doc>\n</export>"), ("export", "doc"), CDA, 1000)
    assert next(pieces).line == 2
    with pytest.raises(ParseError, match="line 4"):
        list(pieces)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'<!DOCTYPE a [<!ENTITY x "y">]><export/>',
        b"<export>" + b"<a>" * 200,
        b"<export><doc>" + b"x" * 2_000_000 + b"</doc></export>",
        b"no xml",
    ],
)
def test_xml_that_is_refused(body: bytes) -> None:
    """Nothing, document types, depth, an element too big for memory, no XML."""
    with pytest.raises(ParseError):
        list(xml_pieces.pieces(io.BytesIO(body), ("export", "doc"), CDA, 1000))


@pytest.mark.parametrize(
    ("body", "missed"),
    [
        (b"<export/>", False),
        (b"<export><doc/></export>", False),
        (b"<export><other><doc/></other></export>", True),
        (b"<exports/>", True),
        (b"<e><doc/></e>", True),
    ],
)
def test_a_document_without_what_the_path_names(body: bytes, missed: bool) -> None:
    """Nothing of it would be taken, and nobody would know why; a list in which nothing stands is well."""
    cut = xml_pieces.pieces(io.BytesIO(body), ("export", "doc"), CDA, 1000)
    if not missed:
        assert [piece.fault for piece in cut] in ([], [None])
        return
    with pytest.raises(ParseError, match="no element of the document is at export/doc"):
        list(cut)


def test_xml_at_flat_memory() -> None:
    """A long export does not grow a tree: what was given out is gone."""
    document = (part for part in (b"<export>", *repeat(b"<doc><a>" + b"x" * 1000 + b"</a></doc>", 20_000), b"</export>"))

    class Stream(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return next(document, b"")

    assert sum(1 for _ in xml_pieces.pieces(Stream(), ("export", "doc"), CDA, 10_000)) == 20_000  # type: ignore[arg-type]


def test_pdf_is_looked_at() -> None:
    """Its header and its end; nothing else."""
    good = b"%PDF-1.7\n" + b"x" * 5000 + b"\n%%EOF\n"
    for body, fault in ((good, ""), (b"MZ" + good[2:], "no PDF"), (good[:-8], "not complete"), (b"", "no PDF")):
        (piece,) = whole.pdf(io.BytesIO(body))
        assert (fault in str(piece.fault)) if fault else piece.fault is None
        assert piece.body is None


def test_whole_files() -> None:
    """An empty one is at fault; JSON is read."""
    assert next(whole.pieces(io.BytesIO(b""), "application/x")).fault is not None
    assert next(whole.pieces(io.BytesIO(b"1"), "application/x")).fault is None
    (piece,) = whole.json(io.BytesIO(b'{"resourceType":"Bundle","identifier":{"value":"b7"}}'), FHIR_JSON, 1000)
    assert (piece.message_type, piece.control_id) == ("Bundle", "b7")
    assert next(whole.json(io.BytesIO(b"{}" * 1000), FHIR_JSON, 1000)).fault is not None


def test_a_labelled_file_reads_back() -> None:
    """The label, then the bytes; its paths are few and checked."""
    label = labelled.Label("P1.pdf", "application/pdf", 4, "aa", "bb", {"patient": "P1"})
    body = labelled.head(label) + b"%PDF"
    found, begin = labelled.read(body)
    assert (found, body[begin:]) == (label, b"%PDF")
    document = labelled.codec.decode(body)
    assert (document.get("facts.patient"), document.get("size"), document.get("facts.other")) == ("P1", "4", None)
    with pytest.raises(ValueError, match="facts"):
        labelled.codec.check_path("patient")
    for bad in (b"{}", b"{}\n", b"not json\n", b'{"name":1}\n'):
        with pytest.raises(ParseError):
            labelled.read(bad)
