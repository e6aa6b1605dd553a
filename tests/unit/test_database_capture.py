"""The messages of pgoutput, states that come back from a checkpoint, and the waves in which changes are handed in."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.database.capture.binlogrows import parted, truncated
from adapters.database.capture.binlogserver import order
from adapters.database.capture.options import SOURCE
from adapters.database.capture.pgoutput import Insert, MessageCut, Truncate, Unchanged, lsn_of, lsn_text, read
from adapters.database.capture.source import _waves
from adapters.database.capture.state import Mark, Snapshot, State, state_of
from engine.options import Place

STATE = State("1/db", "0/16B3748", "0/16B3800", 3, Snapshot("0/1", ("a",), "b", (1, "x"), ("integer", "text")), tables=("a", "b"))


def test_an_insert_by_the_letter() -> None:
    """Section 55.9: Byte1('I'), Int32 relation, Byte1('N'), TupleData."""
    message = b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">H", 3) + b"n" + b"u" + b"t" + struct.pack(">i", 2) + b"ab"
    assert read(message) == Insert(7, (None, Unchanged.TOAST, b"ab"))
    assert read(b"T" + struct.pack(">IBII", 2, 3, 5, 6)) == Truncate((5, 6), True, True)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(content: bytes) -> None:
    """Nothing else is ever raised."""
    try:
        read(content)
    except MessageCut:
        pass


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.just(Unchanged.TOAST), st.binary(max_size=20)), max_size=8), st.data())
def test_a_row_that_is_cut_is_an_error(values: list[object], data: st.DataObject) -> None:
    """At any length: never a row with fewer columns, or a shorter value."""
    words = [b"n" if v is None else b"u" if v is Unchanged.TOAST else b"t" + struct.pack(">i", len(v)) + v for v in values]  # type: ignore[arg-type]
    message = b"I" + struct.pack(">I", 1) + b"N" + struct.pack(">H", len(values)) + b"".join(words)
    assert read(message) == Insert(1, tuple(values))  # type: ignore[arg-type]
    with pytest.raises(MessageCut):
        read(message[: data.draw(st.integers(0, len(message) - 1))])


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_positions_are_written_as_the_server_does(lsn: int) -> None:
    """And read again."""
    assert lsn_of(lsn_text(lsn)) == lsn
    assert lsn_text(0x16B3748) == "0/16B3748"


def test_files_of_a_binary_log_are_numbered() -> None:
    """The millionth comes after the last that has six digits; within a file the position counts."""
    places = ["log.000002:900", "log.000010:4", "log.000010:30", "log.999999:7", "log.1000000:4"]
    assert sorted(sorted(places), key=order) == places


def test_a_state_comes_back(tmp_path: Path) -> None:
    """From a checkpoint, and from the mark of the same checkpoint alone."""
    assert state_of(STATE.written()) == STATE
    mark = Mark(tmp_path, "lis")
    assert mark.read("c") is None
    mark.write("c", STATE)
    assert mark.read("c") == STATE
    assert mark.read("another") is None


def test_tables_that_are_added() -> None:
    """Those that are captured already are done; without a first state nothing is to be read."""
    state = State("1", "0/5", tables=("a",))
    assert state.covering(("a", "b"), True, "0/5").snapshot == Snapshot("0/5", ("a",))
    assert state.covering(("a", "b"), False, "0/5").snapshot is None
    assert STATE.covering(("a", "b", "c"), True, "0/9").snapshot == Snapshot("0/1", ("a",), "b", (1, "x"), ("integer", "text"))


@pytest.mark.parametrize(
    ("orders", "waves"),
    [("abc", [[0, 1, 2]]), ("aba", [[0, 1], [2]]), ("a-b", [[0], [1], [2]]), ("aa", [[0], [1]]), ("", [])],
)
def test_a_row_is_never_handed_in_twice_at_once(orders: str, waves: list[list[int]]) -> None:
    """An earlier change of the same row is kept first; one of the whole table (-) goes alone."""
    assert list(_waves([SimpleNamespace(order=one.replace("-", "")) for one in orders])) == waves  # type: ignore[misc]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("TRUNCATE TABLE t", [("db", "t")]),
        ("truncate `lab`.`a``b`", [("lab", "a`b")]),
        ("/* x */ TRUNCATE lab . result", [("lab", "result")]),
        ("INSERT INTO t VALUES ('TRUNCATE x')", []),
    ],
)
def test_truncate_in_a_binary_log(query: str, found: list[tuple[str, str]]) -> None:
    """It is a statement there."""
    assert list(truncated("db", query)) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("ALTER TABLE t DROP PARTITION p", [("db", "t")]),
        ("alter online table `lab`.`t` truncate partition p", [("lab", "t")]),
        ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u", [("db", "t")]),
        ("ALTER TABLE t ADD PARTITION (PARTITION q VALUES LESS THAN (9))", []),
        ("ALTER TABLE t DROP COLUMN p", []),
    ],
)
def test_partitions_in_a_binary_log(query: str, found: list[tuple[str, str]]) -> None:
    """What takes rows away that the log does not name."""
    assert list(parted("db", query)) == found


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"connection": "sqlite:///a.db"}, "cannot be captured"),
        ({"tables": ["a", "a"]}, "once"),
        ({"connection": {"url": "mysql://u@h/d"}, "slot": "x"}, "PostgreSQL"),
        ({"connection": {"url": "postgresql://u@h/d", "pool": 1}}, "pool of 2"),
        ({"slot": "Not-A-Slot"}, "small letters"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], reason: str) -> None:
    """Said by `meridian check`."""
    faults: list[object] = []
    SOURCE.parse({"connection": "postgresql://u@h/d", "tables": ["a"], **options}, Place("c.yaml"), faults)  # type: ignore[arg-type]
    assert any(reason in str(fault) for fault in faults), faults
