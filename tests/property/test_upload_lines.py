"""Uploads whatever the network does to them: any cutting gives the same lines, and any way of sending again keeps each line once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.fhir.offline.asked import Journal
from adapters.fhir.offline.book import Book, Settled
from adapters.fhir.offline.lines import Line, Lines

MOST = 12
BODY = st.text("ab{}\n\r \t\u4e2d", max_size=60).map(str.encode)


def lines_of(pieces: list[bytes]) -> list[Line]:
    lines = Lines(MOST)
    found = list(lines.each(pieces))
    last = lines.last()
    return found + ([last] if last is not None else [])


@given(BODY, st.lists(st.integers(0, 60), max_size=8))
def test_any_cutting_gives_the_same_lines(body: bytes, cuts: list[int]) -> None:
    """One piece, single bytes, or anything between."""
    bounds = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[low:high] for low, high in pairwise(bounds)]
    assert lines_of(pieces) == lines_of([body]) == lines_of([bytes([one]) for one in body])


@given(BODY)
def test_lines_are_those_between_line_feeds(body: bytes) -> None:
    """Against the plainest splitter: numbers count every line, content is what is not blank, and too long ones have none."""
    expected = []
    for number, whole in enumerate(body.split(b"\n"), 1):
        content = whole.strip(b" \t\r")
        if len(whole) > MOST:
            expected.append(Line(number, b"", len(whole)))
        elif content:
            expected.append(Line(number, content, len(whole)))
    assert lines_of([body]) == expected


def test_empty_lines_are_gone_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed body of a few kilobytes may be millions of them; each is counted, and none is cut out by itself."""
    cut: list[bytes] = []
    plain = Lines._line
    monkeypatch.setattr(Lines, "_line", lambda lines, end: cut.append(end) or plain(lines, end))
    lines = Lines(MOST)
    assert list(lines.each([b"\n" * 100_000, b" \r\n" * 100_000 + b"{}\n"])) == [Line(200_001, b"{}", 2)]
    assert len(cut) == 3


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), max_size=30), st.integers(1, 4))
def test_the_book_against_a_model(tmp_path_factory: object, lines: list[tuple[int, bool, bool]], group: int) -> None:
    """Whatever is settled in whatever order and groups: first taken wins, and the standing is what a set of numbers says."""
    journal, model = Journal("urn:p", "d"), dict[int, tuple[bytes, bool]]()
    book = Book(tmp_path_factory.mktemp("book") / "book.db", 1e6)  # type: ignore[attr-defined]
    book.open()
    for start in range(0, len(lines), group):
        batch = [Settled(journal, number, b"a" if same else b"b", taken, 0) for number, same, taken in lines[start : start + group]]
        book.record(batch)
        for line in batch:
            if line.sequence not in model or not model[line.sequence][1]:
                model[line.sequence] = (line.digest, line.taken)
    complete = next(number for number in range(13) if number + 1 not in model)
    highest = max(model, default=0)
    standing = book.standing(journal)
    assert (standing.complete, standing.highest) == (complete, highest)
    assert [number for low, high in standing.missing for number in range(low, high + 1)] == [
        number for number in range(complete, highest) if number > 0 and number not in model
    ]
    for number, (digest, taken) in model.items():
        assert book.find(journal, number) == Settled(journal, number, digest, taken, 0)
    book.close()
