"""The benchmark's arithmetic and its messages, without processes."""

from __future__ import annotations

import os

import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given
from hypothesis import strategies as st

from engine.bench import limits
from engine.bench.corpus import CONTROL_ID_WIDTH, PATIENTS, Frames, adt, control_id, numbered, oru
from engine.bench.fhir_sink import FhirSink
from engine.bench.generator import _is_positive
from engine.bench.latency import percentile, summary
from engine.bench.loopback import only_loopback
from engine.bench.processes import cpu_seconds, resident_bytes, tree
from engine.bench.sink import acknowledge
from engine.bench.terminals import observation
from engine.errors import ConfigError
from engine.formats import hl7v2


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 5), (90, 9), (91, 10), (95, 10), (100, 10)])
def test_percentile_by_nearest_rank(percent: float, expected: float) -> None:
    """The textbook's ten values: the p-th percentile is the value of rank ceil(p/100 * n)."""
    assert percentile(list(range(1, 11)), percent) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 100))
def test_a_percentile_was_measured_and_splits_as_it_says(values: list[float], percent: float) -> None:
    """It is one of the values, and at least that share of all is not above it."""
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9


def test_summary_is_in_milliseconds_and_takes_any_order() -> None:
    """Seconds in, milliseconds out; nothing measured is zero rather than an error."""
    assert summary([0.003, 0.001, 0.002]) == {"p50_ms": 2.0, "p95_ms": 3.0, "p99_ms": 3.0, "max_ms": 3.0}
    assert summary([])["p99_ms"] == 0.0


def test_frames_are_the_agreed_size_and_read_back() -> None:
    """1.9 KB, ten OBX, in the character set they declare."""
    frame = Frames().frame(123)
    assert (frame[:1], frame[-2:]) == (b"\x0b", b"\x1c\r")
    assert 1800 <= len(frame) <= 2000
    message = hl7v2.decode(frame[1:-2])
    assert message.get("MSH-10") == "B00000000123"
    assert message.get("PID-3.1") == "B0000123"
    assert sum(segment.text.startswith("OBX|") for segment in message.segments) == 10


@given(st.integers(0, 10**11 - 1))
def test_patching_a_frame_changes_the_control_id_only(number: int) -> None:
    """A frame is its message with the control id put in: nothing else moves, whatever the number."""
    expected = numbered(oru(number % PATIENTS), number)
    assert FRAMES.frame(number) == b"\x0b" + expected + b"\x1c\r"
    assert len(control_id(number)) == CONTROL_ID_WIDTH
    assert hl7v2.read_header(expected).control_id == control_id(number).decode()


FRAMES = Frames()


def test_the_admission_reads_back() -> None:
    """The ADT^A01 is one, with a control id."""
    message = hl7v2.decode(numbered(adt(5), 7))
    assert (message.get("MSH-9.2"), message.get("MSH-10"), message.get("PV1-44")) == ("A01", "B00000000007", "20261123080000+0800")


def test_the_generator_believes_only_its_own_control_id() -> None:
    """A positive answer counts for the message it names, and for no other."""
    control, answer = acknowledge(FRAMES.frame(42)[1:-2])
    assert control == control_id(42)
    assert _is_positive(answer, control_id(42))
    assert not _is_positive(answer, control_id(43))
    assert not _is_positive(answer.replace(b"MSA|AA", b"MSA|AE"), control_id(42))


def test_the_fhir_sink_counts_messages_and_answers_each_entry() -> None:
    """A Bundle that comes twice counts twice in total and once as a message; the response has an entry for each request."""
    sink = FhirSink()
    bundle = b'{"identifier":{"system":"x","value":"B00000000042"},"entry":[{"request":{}},{"request":{}}]}'
    answer = sink.take(bundle)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b'"status":"201 Created"') == 2
    sink.take(bundle)
    assert sink.report().startswith('{"total": 2, "distinct": 1,')


def test_terminals_post_what_the_model_takes() -> None:
    """An Observation of R4, of the size that is said, found again by its number."""
    body = observation(42)
    get_fhir_model_class("Observation").model_validate_json(body)
    assert 800 <= len(body) <= 1200
    assert control_id(42) in body


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "0.0.0.0", "localhost", "platform.example", "::", ""])
def test_no_other_machine_is_attacked(host: str) -> None:
    """Whatever is not a loopback address in figures is refused."""
    with pytest.raises(ConfigError):
        only_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_is_allowed(host: str) -> None:
    """Every address of this machine itself."""
    assert only_loopback(host) == host


def test_ratios_compare_like_with_like() -> None:
    """Against the echo at as many connections, and SQLite at the largest group that so many senders could fill."""
    measured = {"echo": {"1": 100.0, "10": 1000.0}, "sqlite": {"1": 50.0, "10": 400.0, "100": 900.0}}
    assert limits.ratios(50, 1, measured) == {"echo": 0.5, "sqlite": 1.0}
    assert limits.ratios(100, 50, measured) == {"echo": 0.0, "sqlite": 0.25}


def test_this_process_has_used_something() -> None:
    """/proc is read right: this process is in its own tree, holds memory, and has used time no less than the last look."""
    me = os.getpid()
    assert tree(me)[0] == me
    assert 1e6 < resident_bytes(me) < 1e11
    before = cpu_seconds(me)
    sum(range(10**6))
    assert cpu_seconds(me) >= before > 0
    assert abs(cpu_seconds(me) - sum(os.times()[:4])) < 1.0
