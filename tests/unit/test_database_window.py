"""How far a table was read, and what of it is settled: the pure part of polling by watermark."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.database.polling.window import ClockSettled, HistorySettled, Position, Window, before

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_low_follows_front_once_settled() -> None:
    """A page whose end is final closes the window behind it; one that is not leaves it open until it was read again."""
    window = Window()
    assert not window.is_open
    window.advance(Position(10, (1,)), None)
    assert window.is_open
    assert window.low is None
    window.swept(8)
    assert window.low == 8
    window.advance(Position(20, (1,)), 20)
    assert window.low == 8, "what lies between was not read again"
    window.swept(20)
    assert (window.low, window.is_open) == (20, False)
    window.advance(Position(30, (1,)), 25)
    assert window.low == 25
    window.advance(Position(40, (1,)), 40)
    assert window.low == 25


def test_what_is_below_is_forgotten() -> None:
    window = Window(Position(10), 0)
    for mark in range(10):
        window.meet(bytes([mark]) * 9, mark)
    window.swept(5)
    assert [window.met(bytes([mark]) * 9) for mark in range(10)] == [False] * 5 + [True] * 5


MARKS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.dates(),
    st.text(st.characters(codec="utf-8")),
    st.binary(min_size=8, max_size=8),
)


@settings(deadline=None)
@given(MARKS, st.lists(MARKS, max_size=3), st.lists(st.binary(min_size=9, max_size=9), max_size=20, unique=True))
def test_a_checkpoint_is_the_window(mark: object, key: list[object], digests: list[bytes]) -> None:
    """Through text and back: front, low, digests; of a window too big only that it is."""
    window = Window(Position(mark, tuple(key)), mark)
    for digest in digests:
        window.meet(digest, mark)
    again, server = Window.resumed(window.checkpoint("server 1", types={"a": "text"}))
    assert (again.front, again.low, server) == (window.front, window.low, "server 1")
    assert all(again.met(digest) for digest in digests)


def test_instants_are_settled_by_the_clock() -> None:
    """A second more than the overlap, since a column may cut what the clock said."""
    settling = ClockSettled(60, None)
    assert settling.settled(at(0), at(-100)) == at(-61)
    assert settling.cap(at(0), at(5)) == at(0)


def test_local_times_are_those_of_the_zone() -> None:
    shanghai = ClockSettled(60, ZoneInfo("Asia/Shanghai"))
    local = datetime(2024, 3, 1, 20)
    assert shanghai.settled(at(0), local) == local - timedelta(seconds=61)
    assert shanghai.cap(at(0), local) == local
    assert shanghai.settled(at(0), date(2024, 3, 1)) == date(2024, 2, 29)


@pytest.mark.parametrize("minutes", [-180, -59, -30, -1, 0, 1, 30, 59])
def test_clocks_that_are_set_back(minutes: int) -> None:
    """In the hour before, nothing is settled that the clocks will show again (Berlin, 27 October 2024, 01:00 UTC)."""
    berlin = ClockSettled(0, ZoneInfo("Europe/Berlin"))
    now = datetime(2024, 10, 27, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    settled = berlin.settled(now, datetime(2024, 10, 27))
    for later in range(0, 180, 5):
        shown = (now + timedelta(minutes=later)).astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
        assert shown > settled


def test_numbers_are_settled_by_what_was_there() -> None:
    """The highest of a minute ago was given before then."""
    settling = HistorySettled(60)
    settling.note(at(0), 100)
    settling.note(at(30), 150)
    assert settling.settled(at(30), 1) is None
    settling.note(at(61), 200)
    assert settling.settled(at(61), 1) == 100
    settling.note(at(95), 200)
    assert settling.settled(at(95), 1) == 150
    assert settling.cap(at(0), 5) is None
    assert settling.cap(at(0), datetime(2024, 3, 1)) == datetime(2024, 3, 2, 2)


def test_just_before() -> None:
    assert before(5) == 4
    assert before(datetime(2024, 1, 1)) == datetime(2023, 12, 31, 23, 59, 59, 999999)
    assert before(b"\x00\x00\x00\x00\x00\x00\x01\x00") == b"\x00\x00\x00\x00\x00\x00\x00\xff"
    assert before("a") is None


@settings(deadline=None)
@given(st.data())
def test_any_order_of_commits_gives_every_row_once(data: st.DataObject) -> None:
    """A table of numbers against the window: numbers are given in order, commit in any order within the overlap, and pages, sweeps and
    restarts come as they like."""
    overlap, limit = 10, 3
    count = data.draw(st.integers(0, 25))
    commits = sorted((given_at + data.draw(st.integers(0, overlap)), given_at) for given_at in range(count))
    window, settling, taken, clock = Window(), HistorySettled(overlap), [], 0.0

    def table() -> list[int]:
        return [mark for commit, mark in commits if commit <= clock]

    def take(marks: list[int]) -> None:
        for mark in marks:
            digest = mark.to_bytes(9, "big")
            if not window.met(digest):
                taken.append(mark)
                window.meet(digest, mark)

    while clock < count + 3 * overlap + 5:
        clock += data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
        rows = sorted(table())
        settling.note(at(clock), max(rows, default=None))
        settled = settling.settled(at(clock), 0)
        if window.is_open and (data.draw(st.booleans()) or clock > count + 2 * overlap):
            assert window.front is not None
            take([m for m in rows if (window.low is None or m >= window.low) and m <= window.front.mark])
            window.swept(settled)
        page = [m for m in rows if window.front is None or m > window.front.mark][:limit]
        take(page)
        if page:
            window.advance(Position(page[-1]), settled)
        if data.draw(st.integers(0, 9)) == 0:
            window, _ = Window.resumed(window.checkpoint(""))
        clock += 0.25
    for _ in range(count):
        rows = sorted(table())
        page = [m for m in rows if window.front is None or m > window.front.mark][:limit]
        take(page)
        if page:
            window.advance(Position(page[-1]), None)
    assert sorted(taken) == list(range(count))
