"""The worklist under any input: text in any character set, any pattern, any bytes, any order of events."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dicom.worklist import elements, matching, mpps, orders, query, repertoire
from adapters.dicom.worklist.book import Book
from adapters.dicom.worklist.steps import COMPLETED, DISCONTINUED, IN_PROGRESS, OPEN, SCHEDULED, from_json, to_json
from engine.errors import MessageError, ParseError, ValidationError
from tests.support.imaging import (
    AL1,
    IMPLICIT,
    OBR,
    ORC,
    PID,
    PV1,
    SITE,
    STUDY,
    ZDS,
    as_file,
    begun,
    encoded,
    ended,
    hl7,
    keys,
    order,
    read,
)

STEP = read("ORM^O01", PID, PV1, AL1, ORC, OBR, ZDS)[0].step
CHARSETS = st.sampled_from(
    [["ISO_IR 192"], ["GB18030"], ["GBK"], ["", "ISO 2022 IR 58"], ["", "ISO 2022 IR 87"], ["ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 159"],
     ["", "ISO 2022 IR 149"], ["ISO_IR 100"], ["ISO_IR 144"], ["ISO 2022 IR 6", "ISO 2022 IR 100", "ISO 2022 IR 126"], []]
)  # fmt: skip
TEXT = st.text(st.sampled_from("AZ az09^=\\王小明张東やまカﾔ김길éñЖΩ丂\r\n\t-~"), max_size=12)


@given(CHARSETS, TEXT, st.booleans())
def test_what_can_be_written_is_read_as_it_was(charset: list[str], text: str, name: bool) -> None:
    """Or it cannot be written: there is nothing between. A ~ and a backslash are other characters in ISO IR 14."""
    if charset[:1] == ["ISO 2022 IR 13"]:
        text = text.replace("~", "").replace("\\", "")
    try:
        raw = repertoire.encode(text, charset, name=name)
    except UnicodeEncodeError:
        return
    assert repertoire.decode(raw, charset) == text


@given(st.binary(max_size=40), CHARSETS)
def test_any_bytes_become_some_text(raw: bytes, charset: list[str]) -> None:
    repertoire.decode(raw, charset)


@given(st.text("ab*?", max_size=10), st.text("ab", max_size=10))
def test_wild_cards_mean_what_a_regular_expression_says(pattern: str, text: str) -> None:
    expected = re.fullmatch("".join({"*": ".*", "?": "."}.get(one, one) for one in pattern), text) is not None
    assert matching._like(pattern, text) is expected


@given(st.binary(max_size=200), st.sampled_from([IMPLICIT, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]))
def test_any_bytes_are_a_query_or_refused(raw: bytes, syntax: str) -> None:
    """And a query can be answered."""
    try:
        asked = query.read(raw, syntax, "CT1")
    except (ParseError, ValidationError):
        return
    list(asked.answers([(STEP, SCHEDULED)]))


@given(st.data())
def test_a_query_with_some_bytes_changed(data: Any) -> None:
    raw = bytearray(
        encoded(keys({"Modality": "CT", "ScheduledProcedureStepStartDate": "20261101-20261130"}, PatientName="W*", PatientID=""))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        asked = query.read(bytes(raw), IMPLICIT, "CT1")
    except (ParseError, ValidationError):
        return
    list(asked.answers([(STEP, SCHEDULED)]))


@given(st.data())
def test_a_performed_step_with_some_bytes_changed(data: Any) -> None:
    """It is read, and judged, or it is no data set."""
    raw = bytearray(as_file("1.2.3", data.draw(st.sampled_from([begun, ended]))()))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(128, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, content = elements.parse_file(bytes(raw))
    except ParseError:
        return
    created = mpps.create(content, None)
    mpps.change(content, created.content)
    mpps.instances(content)


@given(st.data())
def test_an_order_with_some_characters_changed(data: Any) -> None:
    """Either steps that a modality can be given, or an error that says where."""
    body = list(hl7("ORM^O01", PID, PV1, AL1, ORC, OBR, ZDS).decode())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(9, len(body) - 1))] = data.draw(st.sampled_from('|^~\\&\r"AB9. 王='))
    try:
        words = orders.read("".join(body).encode(), "utf-8", SITE, "20261124081500")
    except MessageError:
        return
    asked = query.read(encoded(keys({"Modality": ""}, PatientName="")), IMPLICIT, "CT1", ("ISO_IR 192",))
    for word in words:
        assert from_json(to_json(word.step)) == word.step
        assert word.status or len(list(asked.answers([(word.step, SCHEDULED)]))) == 1


@given(st.sampled_from(["CT", "MR"]), st.dates(), st.sampled_from(["", "20261124", "20261120-20261130", "-20261130", "20261125-"]))
def test_what_is_not_read_would_not_have_matched(modality: str, day: Any, wanted: str) -> None:
    """The book leaves out only what the keys leave out."""
    step = replace(STEP, modality=modality, date=f"{day:%Y%m%d}")
    asked = query.read(encoded(keys({"Modality": "CT", "ScheduledProcedureStepStartDate": wanted})), IMPLICIT, "CT1")
    first, last, *_ = asked.wanted
    outside = (first and step.date < first) or (last and step.date > last) or modality != asked.wanted.modality
    assert bool(list(asked.answers([(step, SCHEDULED)]))) is not bool(outside)


EVENTS = st.lists(
    st.one_of(
        st.sampled_from([("NW", ""), ("XO", ""), ("CA", ""), ("SC", "CM"), ("HD", ""), ("RL", "")]),
        st.tuples(st.sampled_from(["create", IN_PROGRESS, COMPLETED, DISCONTINUED]), st.sampled_from(["1.1", "1.2"])),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_any_order_of_events(events: list[tuple[str, str]]) -> None:
    """A performed step keeps F.7.2's rules (a model of three states says the same), the scheduled step is listed only while it is open, and
    once it has begun no order takes its study away."""
    with tempfile.TemporaryDirectory() as folder:
        book = Book(Path(folder) / "worklist.db")
        book.open()
        model: dict[str, str] = {}
        for number, (what, more) in enumerate(events):
            if what in ("create", IN_PROGRESS, COMPLETED, DISCONTINUED):
                assert _perform(book, number, what, more) == _expected(model, what, more)
            else:
                book.keep(orders.read(order(what, more), "utf-8", SITE, "20261124"), 10, 0)
            for kept in book.find():
                assert kept.status in OPEN
                assert kept.step.study_uid == STUDY
        book.close()


def _perform(book: Book, number: int, what: str, uid: str) -> int:
    told: list[int] = []
    data_set, rule = (begun(), mpps.create) if what == "create" else (ended(what), mpps.change)
    _, content = elements.parse_file(as_file(uid, data_set))
    book.perform(uid, content, rule, lambda *_: [], 20, number, lambda outcome: told.append(outcome.status) or b"")
    return told[0]


def _expected(model: dict[str, str], what: str, uid: str) -> int:
    state = model.get(uid)
    if what == "create":
        model.setdefault(uid, IN_PROGRESS)
        return mpps.SUCCESS if state is None else mpps.DUPLICATE_INSTANCE
    if state is None:
        return mpps.NO_SUCH_INSTANCE
    if state != IN_PROGRESS:
        return mpps.PROCESSING_FAILURE
    model[uid] = what
    return mpps.SUCCESS
