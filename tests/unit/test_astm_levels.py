"""What of a broken-off message is complete, by the storage rule of LIS02-A2."""

from __future__ import annotations

import pytest

from adapters.astm.intake import Reader
from adapters.astm.levels import complete
from adapters.astm.link import Incomplete
from adapters.astm.options import SOURCE
from engine.message import Verdict
from tests.support.astm_instrument import content


@pytest.mark.parametrize(
    ("types", "count"),
    [
        ("", 0),
        ("H", 0),
        ("HPOR", 0),
        ("HPORRR", 0),  # nobody knows whether another result follows
        ("HPORO", 4),
        ("HPORP", 4),
        ("HPORCMO", 6),  # a comment belongs to what it follows
        ("HPORRORCP", 8),
        ("HPORPOR", 4),
        ("HPORPORO", 7),
        ("HPCOR", 0),
        ("hporp", 4),
        ("HPORH", 4),  # a terminator that its sender left out
    ],
)
def test_a_lower_level_completes_what_came_before(types: str, count: int) -> None:
    assert complete([kind.encode() + b"|1" for kind in types])[1] == count


def test_each_header_begins_a_message() -> None:
    """Two whose terminators were left out."""
    messages, count = complete([b"H|1", b"P", b"R", b"H|2", b"P", b"R", b"P"])
    assert (messages, count) == ([b"H|1\rP\rR\r", b"H|2\rP\rR\r"], 6)


def read(*records: str, refused: bool = False) -> list[tuple[str, bytes, str]]:
    """(type, body, reason) of what is kept of these records."""
    step = Incomplete(content(*records), "the line was lost", refused)
    found = Reader(SOURCE.defaults(listen="1"), lambda: 0).incomplete(step, "", "")
    return [(one.message_type, bytes(one.body), judgement.reason if judgement else "") for one, judgement in found]  # type: ignore[arg-type]


FIRST = ("H|\\^&|1||X", "P|1|P1", "O|1|S1", "R|1|^^^GLU|5")
ALL = (*FIRST, "P|2|P2", "O|1|S2", "R|1|^^^GLU|6")


def test_complete_levels_are_taken_and_all_is_kept() -> None:
    (taken, body, nothing), (kind, everything, reason) = read(*ALL)
    assert (taken, body, nothing) == ("ASTM^R", content(*FIRST), "")
    assert (kind, everything) == ("", content(*ALL))
    assert "its first 4 records are complete" in reason


@pytest.mark.parametrize("records", [FIRST, ("H|\\^&", "Q|1|^S1", "H|\\^&")])
def test_nothing_is_taken_of_the_first_level_nor_of_a_query(records: tuple[str, ...]) -> None:
    ((_, body, reason),) = read(*records)
    assert (body, reason) == (content(*records), "incomplete: the line was lost")


def test_nothing_is_taken_of_what_was_refused() -> None:
    """Its sender has heard NAK."""
    assert len(read(*ALL, refused=True)) == 1


def test_complete_levels_that_cannot_be_read_are_invalid() -> None:
    step = Incomplete(b"H|\\^&\rP|1|\xff\rO|1\rR|1\rP|2\r", "the line was lost")
    (_, first), (_, second) = Reader(SOURCE.defaults(listen="1"), lambda: 0).incomplete(step, "", "")
    assert first is not None
    assert second is not None
    assert first.verdict is second.verdict is Verdict.INVALID
