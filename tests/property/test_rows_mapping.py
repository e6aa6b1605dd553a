"""Whatever rows hold, the mapping makes a valid Bundle of them or refuses them by rule; whatever texts hold, a binding binds them whole."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.database.statements.binding import Content
from adapters.database.statements.compiled import compiled
from adapters.database.statements.conversions import Misfit, converted
from adapters.database.statements.options import DESTINATION
from engine import registry
from engine.errors import MessageError, ParseError
from engine.formats.files.delimited import lines
from engine.formats.rows import Record, write
from engine.message import ROWS, Parcel
from tests.support.laboratory_rows import GLUCOSE, ORDER, SITE

MAPPER = registry.mapping("rows-to-fhir").compile(SITE)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
NASTY = st.sampled_from(
    ["", " ", "\x00", "^~\\&|", "${row.x}", "2026-02-30", "20260131", "1e400", "-0", "٣", "=x", "<", "NaN", "'; DROP TABLE x; --"]
)
VALUES = st.one_of(
    st.none(), TEXTS, NASTY, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)
ROWS_OF = dict.fromkeys(ORDER, VALUES)
DETAILS = st.lists(st.fixed_dictionaries(dict.fromkeys((*GLUCOSE, "flag", "note"), VALUES)), max_size=4)


@settings(deadline=None, max_examples=150)
@given(st.fixed_dictionaries(ROWS_OF), DETAILS)
def test_any_row_is_a_valid_bundle_or_refused(row: dict[str, Any], details: list[dict[str, Any]]) -> None:
    body = write(Record("lis", "orders", row, key={"order_no": row["order_no"]}, details={"results": details}))
    try:
        made = MAPPER.map(body)
    except MessageError:
        return
    Bundle.model_validate_json(made.body)
    assert made == MAPPER.explain(body)[0]
    urls = [entry["fullUrl"] for entry in orjson.loads(made.body)["entry"]]
    assert len(set(urls)) == len(urls)


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.one_of(st.none(), TEXTS, NASTY), min_size=1, max_size=6))
def test_a_text_is_bound_as_it_is(row: dict[str, Any]) -> None:
    """Nothing of it ever reaches the statement's text."""
    names = list(row)
    statement = {"run": f"SELECT {', '.join(f':{name}' for name in names)}", "with": {name: f"${{row.{name}}}" for name in names}}
    made = DESTINATION.defaults(connection="sqlite:///x.db", repeatable=True, statements=[statement])
    record = write(Record("lis", "t", row, types={name: "text" for name, value in row.items() if value is not None}))
    content = Content(Parcel(1, 1, record, ROWS, "t", "1", "k"), "c/d", lambda ref: Path("none"), {})
    (one,) = compiled(made)
    assert one.rows(content, "postgresql") == [row]
    assert str(one.clause("postgresql")) == statement["run"]


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False), st.datetimes(), st.binary(max_size=50))
def test_conversions_lose_nothing(number: Decimal, at: Any, content: bytes) -> None:
    from base64 import b64encode

    if abs(int(number.as_tuple().exponent)) < 100:
        assert converted(format(number, "f"), "decimal", None) == number
    assert converted(at.isoformat(), "datetime", None) == at
    assert converted(b64encode(content).decode(), "binary", None) == content


@settings(deadline=None)
@given(st.one_of(TEXTS, NASTY), st.sampled_from(["integer", "decimal", "float", "date", "time", "datetime", "boolean", "binary", "json"]))
def test_what_cannot_be_converted_is_a_misfit(text: str, kind: str) -> None:
    """And nothing else is raised."""
    try:
        converted(text, kind, None)
    except Misfit as error:
        assert not text.strip() or text.strip() not in str(error) or len(text.strip()) < 3


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"a": TEXTS, "b": TEXTS}), max_size=6), st.sampled_from([",", ";", "\t"]))
def test_rows_of_a_file_come_out_as_they_were_written(rows: list[dict[str, str]], delimiter: str) -> None:
    """Whatever quotes, line ends and delimiters stand in them; one with a NUL is a bad row, and the others go on."""
    import csv
    import io

    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["a", "b"], delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    said = [row for row in rows if any(cell.strip() for cell in row.values())]
    good = [row for row in said if "\0" not in "".join(row.values())]
    found = [line.content for line in lines(out.getvalue().encode(), "t", encoding="utf-8")]
    expected = [{name: cell if cell.strip() else None for name, cell in row.items()} for row in good]
    assert [one.row for one in found if isinstance(one, Record)] == expected
    assert [one.text for one in found if isinstance(one, ParseError)] == ["has a NUL character"] * (len(said) - len(good))
