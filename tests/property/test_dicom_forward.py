"""What forwarding reads, in any chunking and from anyone: file meta, multipart answers, canonical digests, Store Instances Responses."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from adapters.dicom.forward.canonical import CanonicalDigest, Digests
from adapters.dicom.forward.commitment import Notice, decode, encode
from adapters.dicom.forward.part10 import DataSetDigest, read_meta
from adapters.dicom.forward.retrieve import Reading
from adapters.dicom.forward.stow_answer import read_answer
from engine.errors import ParseError, TransientDelivery
from tests.support.dicom_instances import instance

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
uids = st.from_regex(r"1\.2\.[1-9][0-9]{0,20}", fullmatch=True)


@st.composite
def data_sets(draw, depth=2):
    made = Dataset()
    made.PatientID = draw(st.text("ABC1 ", max_size=8))
    made.SOPInstanceUID = draw(uids)
    if draw(st.booleans()):
        made.add_new(0x00091010, "OB", draw(st.binary(max_size=40)))
    if depth and draw(st.booleans()):
        made.ReferencedSOPSequence = draw(st.lists(data_sets(depth=depth - 1), max_size=3))
    return made


def written(data_set, syntax, *, undefined):
    for one in [data_set, *_nested(data_set)]:
        one.is_undefined_length_sequence_item = undefined
        for element in one:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
    target = DicomBytesIO()
    target.is_implicit_VR, target.is_little_endian = syntax == IMPLICIT, True
    write_dataset(target, data_set)
    return target.getvalue()


def _nested(data_set):
    for element in data_set:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _nested(item)


def chunks(data, content):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    return [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def digest(content, syntax, pieces=None):
    made = CanonicalDigest(syntax)
    for piece in pieces or [content]:
        made.feed(piece)
    return made.finish()


@given(data_sets(), st.sampled_from([EXPLICIT, IMPLICIT]), st.data())
def test_lengths_are_not_what_a_data_set_says(data_set, syntax, data):
    """With and without lengths of sequences and items, with trailing padding and group lengths, in any chunking: one digest."""
    with_lengths = written(data_set, syntax, undefined=False)
    without = written(data_set, syntax, undefined=True)
    first = digest(with_lengths, syntax, chunks(data, with_lengths))
    assert first
    assert first == digest(without, syntax, chunks(data, without))
    padding = b"\xfc\xff\xfc\xff" + (b"OB\0\0" if syntax == EXPLICIT else b"") + b"\x04\0\0\0abcd"
    assert first == digest(with_lengths + padding, syntax)


@given(data_sets(), data_sets(), st.sampled_from([EXPLICIT, IMPLICIT]))
def test_another_data_set_has_another_digest(one, other, syntax):
    first, second = written(one, syntax, undefined=False), written(other, syntax, undefined=True)
    assert (digest(first, syntax) == digest(second, syntax)) is (one == other)


@given(data_sets(), st.data())
def test_a_data_set_that_was_cut_off_does_not_agree(data_set, data):
    """Anywhere but between two elements it has no canonical digest at all."""
    content = written(data_set, EXPLICIT, undefined=data.draw(st.booleans()))
    at = data.draw(st.integers(0, len(content) - 1))
    ours, theirs = Digests(EXPLICIT), Digests(EXPLICIT)
    ours.feed(content)
    theirs.feed(content[:at])
    assert not theirs.agree(ours)


@given(st.binary(min_size=2, max_size=64).filter(lambda value: len(value) % 2 == 0), st.data())
def test_one_bit_of_a_value_is_enough(value, data):
    """In pixel data, native or in fragments."""
    at, bit = data.draw(st.integers(0, len(value) - 1)), 1 << data.draw(st.integers(0, 7))
    other = value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :]
    length = len(value).to_bytes(4, "little")
    native, fragments = (
        b"\xe0\x7f\x10\0OW\0\0" + length,
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0" + length,
    )
    for head, tail in ((native, b""), (fragments, b"\xfe\xff\xdd\xe0\0\0\0\0")):
        assert digest(head + value + tail, EXPLICIT) == digest(head + value + tail, EXPLICIT) != ""
        assert digest(head + value + tail, EXPLICIT) != digest(head + other + tail, EXPLICIT) != ""


@given(st.binary(max_size=600), st.sampled_from([EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.2"]))
def test_garbage_has_no_canonical_digest_or_has_one(garbage, syntax):
    """Never an error, and little memory: at most a header is held."""
    made = CanonicalDigest(syntax)
    for byte in range(len(garbage)):
        made.feed(garbage[byte : byte + 1])
    assert isinstance(made.finish(), str)


@given(st.data())
def test_the_digest_of_a_data_set_does_not_see_the_file_meta(data):
    content = instance(1, pixels=data.draw(st.sampled_from([32, 32768])))
    offset = read_meta(content[:16384]).offset
    other = content[:132] + content[132:].replace(b"PYDICOM", b"OTHERED", 1) if b"PYDICOM" in content[:offset] else content
    found = []
    for one in (content, other):
        made = DataSetDigest()
        for piece in chunks(data, one):
            made.feed(piece)
        found.append(made.finish())
    assert found[0] == found[1]


@given(st.binary(max_size=400))
def test_only_parse_errors_come_out_of_what_is_no_file(garbage):
    for content in (garbage, bytes(128) + b"DICM" + garbage, instance(1)[:200] + garbage):
        try:
            meta = read_meta(content)
        except ParseError:
            continue
        assert 132 < meta.offset <= len(content)


def read_back(body, step, content_type='multipart/related; type="application/dicom"; boundary=b'):
    reading = Reading()
    sink = reading.begin(("HTTP/1.1", "200", "OK"), {"content-type": content_type})
    for at in range(0, len(body), step):
        sink(body[at : at + step])
    return reading.finish()


@given(st.integers(1, 400), st.integers(0, 2000))
def test_an_instance_read_back_in_a_multipart_body(step, pixels):
    """The digest is that of the data set alone, as where the body is the instance itself."""
    content = instance(1, pixels=pixels)
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b--\r\n"
    assert read_back(body, step) == read_back(content, 50, "application/dicom")


@given(st.binary(max_size=200), st.integers(1, 20))
def test_other_multipart_bodies_are_refused(garbage, step):
    part = b"--b\r\n\r\n" + instance(1) + b"\r\n"
    for body in (garbage, part + part + b"--b--", part[:-2], b"--b--"):
        with pytest.raises(TransientDelivery, match="it cannot be read back"):
            read_back(body, step * 20)
    with pytest.raises(TransientDelivery, match="boundary"):
        read_back(part + b"--b--", 100, "multipart/related")


@given(uids, st.lists(st.tuples(uids, uids), max_size=5), st.lists(st.tuples(st.tuples(uids, uids), st.integers(1, 65535)), max_size=5))
def test_a_commitment_notice_is_what_it_was(transaction, instances, failed):
    for syntax in (EXPLICIT, IMPLICIT):
        assert decode(encode(Notice(transaction, instances, failed), syntax), syntax) == Notice(transaction, instances, failed)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([EXPLICIT, IMPLICIT]))
def test_only_parse_errors_come_out_of_what_is_no_notice(garbage, syntax):
    whole = encode(Notice("1.2.3", [("1.2", "1.3")]), syntax)
    for content in (garbage, whole + garbage, whole[: len(garbage) % len(whole)] + garbage):
        try:
            assert decode(content, syntax).transaction_uid
        except ParseError:
            continue


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Value", "00081199", "00081198", "00081155"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values | st.binary(max_size=100))
def test_only_parse_errors_come_out_of_what_is_no_answer(value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    for kind in ("application/dicom+json", "application/dicom+xml"):
        try:
            assert isinstance(read_answer(body, kind), dict)
        except ParseError:
            continue
