"""Damaged files in an archive, and bytes that are no requests: refusals, and nothing else."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from adapters.dicom.web import files
from adapters.dicom.web.faults import WebRefusal
from adapters.dicom.web.rendering import Look, render
from engine.errors import ParseError
from tests.support.dicom_instances import instance
from tests.support.dicomweb import body, request
from tests.unit.test_dicomweb_store import Wire

NAMES = (
    "SC_rgb_rle_2frame.dcm",
    "JPEG2000.dcm",
    "MR_small_implicit.dcm",
    "rtdose_1frame.dcm",
    "reportsi.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
)
WHOLE = [Path(get_testdata_file(name, download=False)).read_bytes() for name in NAMES]
EDITS = st.lists(st.tuples(st.integers(132, 4000), st.binary(min_size=1, max_size=4)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WHOLE), EDITS, st.integers(0, 20_000))
def test_damaged_files_are_refused_in_words(content, edits, cut):
    """Any bytes changed, any end missing."""
    damaged = bytearray(content)
    for at, bytes_ in edits:
        damaged[at : at + len(bytes_)] = bytes_
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(damaged[: max(200, len(damaged) - cut)])
        for read in (
            lambda: files.metadata(path, "http://h"),
            lambda: files.bulk_data(path, ["7FE00010"]),
            lambda: files.frames_of(files.find_pixels(path), [1, 2]),
        ):
            try:
                read()
            except (ParseError, WebRefusal):
                pass


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WHOLE[:4]), EDITS, st.integers(0, 500))
def test_damaged_pixels_are_refused_in_words(content, edits, cut):
    """By every decoder."""
    damaged = bytearray(content)
    for at, bytes_ in edits:
        damaged[at + 400 : at + 400 + len(bytes_)] = bytes_
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(damaged[: len(damaged) - cut])
        try:
            render(files.find_pixels(path), 1, Look(), "image/png")
        except (ParseError, WebRefusal):
            pass


WIRE = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.just(request("/dicom-web/studies", body(instance(1)))),
        st.sampled_from(
            [b"GET /dicom-web/studies HTTP/1.1\r\n\r\n", b"POST /dicom-web/studies HTTP/1.1\r\n", b"Content-Length: -1\r\n", b"\r\n\r\n"]
        ),
        st.sampled_from(
            [b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Type: multipart/related; boundary=a\r\n", b"--a\r\n"]
        ),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(WIRE)
def test_no_bytes_break_a_connection(chunks):
    """Nothing is raised into the reactor, and nothing stays under way when the client has gone."""
    with tempfile.TemporaryDirectory() as folder:
        wire = Wire(Path(folder))
        connection, _ = wire.connect()
        for chunk in chunks:
            connection.dataReceived(chunk)
        connection.connectionLost()
        wire.clock.advance(1000)
        assert wire.source._reception._admission.under_way == 0
        assert wire.spooled() == []
