"""Parts of forwarding without sockets: answers as XML, statuses, pools, transcoding, the book of commitments, options."""

import dataclasses

import pytest
from pydicom.data import get_testdata_file

from adapters.dicom.forward import commitment_book
from adapters.dicom.forward.commitment import Notice
from adapters.dicom.forward.commitment_book import COMMITTED, PENDING, Awaited, CommitmentBook
from adapters.dicom.forward.instance import PIECE, Instance, instance_of
from adapters.dicom.forward.options import COMMITMENT, STORE, STOW
from adapters.dicom.forward.outcomes import failure, in_words, is_taken
from adapters.dicom.forward.part10 import read_meta
from adapters.dicom.forward.pool import Line, Pool, Wanted
from adapters.dicom.forward.stow_answer import Said, read_answer
from adapters.dicom.forward.transcoding_process import changed
from engine.errors import ParseError, PermanentDelivery, StoreError, TransientDelivery
from tests.support.dicom_instances import Folder, instance, parcel

XML = b"""<?xml version="1.0" encoding="utf-8"?>
<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
 <DicomAttribute tag="00081199" vr="SQ" keyword="ReferencedSOPSequence"><Item number="1">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.3</Value></DicomAttribute>
  <DicomAttribute tag="00081190" vr="UR"><Value number="1">http://pacs/studies/1</Value></DicomAttribute>
  <DicomAttribute tag="00081196" vr="US"><Value number="1">45056</Value></DicomAttribute>
 </Item></DicomAttribute>
 <DicomAttribute tag="00081198" vr="SQ"><Item number="1">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.4</Value></DicomAttribute>
  <DicomAttribute tag="00081197" vr="US"><Value number="1">43264</Value></DicomAttribute>
 </Item></DicomAttribute>
</NativeDicomModel>"""


def test_an_answer_as_native_dicom_model():
    """Older servers give XML whatever they are asked for."""
    assert read_answer(XML, "application/dicom+xml") == {"1.2.3": Said(0, 0xB000, "http://pacs/studies/1"), "1.2.4": Said(0xA900)}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"<a>", b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', b'{"00081199": {"Value": [5]}}'])
def test_an_answer_that_cannot_be_read(body):
    with pytest.raises(ParseError):
        read_answer(body, "application/dicom+xml" if body.startswith(b"<") else "")


def test_a_failure_without_a_reason_and_a_failure_that_is_also_a_success():
    """A failure outweighs."""
    item = b'{"00081155": {"Value": ["1.2"]}}'
    body = b'{"00081199": {"Value": [' + item + b']}, "00081198": {"Value": [' + item + b"]}}"
    assert read_answer(body, "") == {"1.2": Said(0x0110)}


def test_statuses_in_words():
    assert in_words(0xC123) == "C123H cannot understand"
    assert in_words(0x1234) == "1234H"
    assert is_taken(0xB006)
    assert isinstance(failure(0x1234, "PACS"), PermanentDelivery)


def test_wanted_forgets_the_oldest():
    """An association has 128 presentation contexts."""
    wanted = Wanted()
    wanted.add((f"1.{number}", "1.2") for number in range(200))
    assert [context[0] for context in wanted.contexts()] == [f"1.{number}" for number in range(72, 200)]


def test_the_pool_gives_up_a_line_only_where_there_may_be_no_other():
    pool = Pool(2)
    first, second = Line([("ct", "le")]), Line([("mr", "le")])
    pool.add(first)
    assert pool.free_for([("ct", "le")]) is None  # it is being opened
    pool.used(first)
    assert pool.free_for([("ct", "le")]) is first
    assert pool.useless_for([("mr", "le")]) is None
    pool.add(second)
    assert pool.useless_for([("us", "le")]) is first
    assert not pool.has_room
    pool.remove(first)
    assert pool.has_room


def test_the_pieces_of_a_file(tmp_path):
    """The last one only when all of it is what was stored."""
    folder = Folder(tmp_path)
    content = instance(1, pixels=1 << 20)
    made = instance_of(parcel(1, folder.keep(content)), folder.file)
    assert b"".join(made.pieces()) == content
    assert b"".join(made.data_set()) == content[made.meta.offset :]
    assert b"".join(dataclasses.replace(made, digest="", content=content).pieces(7)) == content[7:]
    for damaged in (content[:-1], content[:-1] + b"!", b"!" + content[1:]):
        made.path.write_bytes(damaged)
        given = bytearray()
        with pytest.raises(PermanentDelivery):
            given.extend(b"".join(_collect(made, given)))
        assert len(given) <= len(content) - len(content) % PIECE


def _collect(made, given):
    for piece in made.pieces():
        given += piece
        yield b""


def test_a_deflated_data_set_goes_out_with_an_even_length():
    content = instance(1)
    meta = dataclasses.replace(read_meta(content), transfer_syntax="1.2.840.10008.1.2.1.99")
    odd = content + b"x"
    pieces = list(Instance(meta, len(odd), odd).data_set())
    assert b"".join(pieces) == odd[meta.offset :] + b"\0"
    assert all(len(piece) % 2 == 0 for piece in pieces)


@pytest.mark.parametrize("name", ["CT_small.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm"])
def test_changing_to_an_uncompressed_transfer_syntax(name):
    """The pixels and everything else are what they were."""
    path = get_testdata_file(name, download=False)
    with open(path, "rb") as file:
        content = file.read()
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        made = changed(content, syntax)
        if isinstance(made, str):
            assert name == "SC_rgb_rle.dcm"  # needs numpy, which is not installed here
            assert "cannot be changed" in made
            continue
        found, original = read_meta(made[:16384]), read_meta(content[:16384])
        assert (found.transfer_syntax, found.sop_instance) == (syntax, original.sop_instance)


def test_what_cannot_be_changed_says_nothing_of_its_content():
    assert changed(b"secret", "1.2.840.10008.1.2").startswith("it cannot be changed")


@pytest.fixture
def book(tmp_path):
    made = CommitmentBook(tmp_path / "commitments.db")
    made.open()
    yield made
    made.close()


def test_a_report_is_of_its_own_transaction_and_once_committed_stays_so(book):
    book.ask("1.1", "a/pacs", [("1.2.1", 1), ("1.2.2", 2)], 10, 0)
    book.ask("1.9", "b/pacs", [("1.2.1", 1)], 10, 0)
    said = book.report(Notice("1.1", [("c", "1.2.1"), ("c", "1.2.7")], [(("c", "1.2.2"), 0x0112)]))
    assert said == ("a/pacs", [Awaited(1, "1.2.1", COMMITTED, "1.1", 10), Awaited(2, "1.2.2", 0x0112, "1.1", 10)])
    book.report(Notice("1.1", [], [(("c", "1.2.1"), 0x0110)]))
    assert [one.state for one in book.awaited("a/pacs")] == [COMMITTED, 0x0112]
    assert [one.state for one in book.awaited("b/pacs")] == [PENDING]
    assert book.report(Notice("1.5", [("c", "1.2.1")])) == ("", [])


def test_a_book_forgets_what_is_old_and_what_is_dropped(book):
    book.ask("1.1", "a/pacs", [("1.2.1", 1)], 10, 0)
    book.ask("1.2", "a/pacs", [("1.2.1", 1)], 20, 15)
    assert [one.transaction_uid for one in book.awaited("a/pacs")] == ["1.2"]
    book.drop("1.2")
    assert book.awaited("a/pacs") == []
    assert book.report(Notice("1.2", [("c", "1.2.1")])) == ("a/pacs", [])  # late, and no fault of the peer


def test_requests_of_others_outlive_the_process(book, tmp_path):
    kept = book.request(Notice("1.1", [("c", "1.2.1")]), "MODALITY", "MERIDIAN", 10)
    again = CommitmentBook(tmp_path / "commitments.db")
    again.open()
    assert again.requested() == [kept]
    again.reported(kept.number)
    assert book.requested() == []
    again.close()


def test_a_book_that_cannot_be_opened(tmp_path):
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError):
        CommitmentBook(tmp_path / "broken.db").open()
    assert commitment_book.PENDING == -1


@pytest.mark.parametrize(
    ("spec", "said", "words"),
    [
        (STORE, {"peer": "104", "called_ae": "PACS"}, "needs a host"),
        (STORE, {"peer": "pacs:104", "called_ae": "a title that is too long"}, "no AE title"),
        (STORE, {"peer": "pacs:104", "called_ae": "PACS", "verify": "retrieve", "transcode": "explicit-le"}, "byte by byte"),
        (STOW, {"url": "http://pacs/dicom-web", "auth": {"bearer": "env:X"}}, "unencrypted"),
        (COMMITMENT, {"known": {"MODALITY": "nowhere"}}, "host:port"),
    ],
)
def test_options_that_cannot_be(spec, said, words):
    with pytest.raises(ValueError, match=words):
        spec.defaults(**said)


def test_what_is_not_dicom_is_refused():
    with pytest.raises(PermanentDelivery):
        instance_of(dataclasses.replace(parcel(1), content_type="text/plain"), lambda ref: None)
    with pytest.raises(TransientDelivery):
        instance_of(parcel(1, some_ref()), _no_store)


def some_ref():
    from engine.message import BodyRef

    return BodyRef("00", 5)


def _no_store(ref):
    raise StoreError("not now")
