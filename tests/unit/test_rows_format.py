"""Records as JSON: exact values, what has no form, paths."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ParseError
from engine.formats.rows import Odd, Record, codec, exact, native, read, worded, write

EXACT = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.times(),
    st.binary(max_size=40),
    st.text(st.characters(codec="utf-8"), max_size=40),
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), EXACT, max_size=6))
def test_every_value_comes_back_as_it_was(row: dict[str, object]) -> None:
    """Through JSON and back to Python: the same value, a decimal with the same digits."""
    words = {name: worded(value) for name, value in row.items()}
    record = Record("lis", "t", {n: w for n, (w, _) in words.items()}, types={n: k for n, (_, k) in words.items() if k})
    again = read(write(record))
    assert again == record
    for name, value in row.items():
        found = again.native(name)
        assert found == value
        assert type(found) is type(value)
        if isinstance(value, Decimal):
            assert found.as_tuple()[1:] == value.as_tuple()[1:] or value.as_tuple().exponent > 0


def test_kinds() -> None:
    """One of each, in words."""
    assert worded(Decimal("1.50")) == ("1.50", "decimal")
    assert worded(Decimal("1E+3")) == ("1000", "decimal")
    assert worded(datetime(2024, 3, 1, 8, 30)) == ("2024-03-01T08:30:00", "datetime")
    assert worded(datetime(2024, 3, 1, 8, 30, tzinfo=UTC)) == ("2024-03-01T08:30:00+00:00", "instant")
    assert worded(date(2024, 2, 29)) == ("2024-02-29", "date")
    assert worded(time(8, 30, 0, 5)) == ("08:30:00.000005", "time")
    assert worded(timedelta(hours=8, minutes=30)) == ("08:30:00", "time")
    assert worded(-timedelta(hours=800, seconds=1)) == ("-800:00:01", "text")
    assert worded(b"\x00\xff") == ("AP8=", "binary")
    assert worded(UUID(int=1)) == ("00000000-0000-0000-0000-000000000001", "text")
    assert worded([Decimal("1.10"), None, [1]]) == (["1.10", None, [1]], "json")
    for odd in (Odd("0000-00-00"), Decimal("NaN"), Decimal("Infinity"), float("inf")):
        assert worded(odd) == (None, "odd")


def test_nested_json_keeps_its_digits() -> None:
    """1.50 stays 1.50 and a long integer keeps all of its digits."""
    text = '{"value":1.50,"number":123456789012345678901234567890}'
    record = Record("lis", "t", {"content": exact(text)}, types={"content": "json"})
    assert text.encode() in write(record)
    assert write(read(write(record))) == write(record)


def test_native_refuses_what_does_not_fit() -> None:
    for value, kind in (("abc", "decimal"), (5, "date"), ("x", "binary"), ("2024-13-01", "date")):
        with pytest.raises(ValueError):  # noqa: PT011
            native(value, kind)


def test_paths() -> None:
    """Columns of any alphabet, names with dots in quotes, details by number."""
    record = Record(
        "lis",
        "lab.result",
        {"病人号": "P1", "a.b": Decimal("1"), "ok": True, "nothing": None},
        key={"id": 7},
        details={"items": [{"code": "K"}, {"code": "NA"}]},
    )
    document = codec.decode(write(record))
    found = {path: document.get(path) for path in ("table", "change", "row.病人号", "row.ok", "row.nothing", "row.absent", "key.id")}
    assert found == {
        "table": "lab.result",
        "change": "read",
        "row.病人号": "P1",
        "row.ok": "true",
        "row.nothing": None,
        "row.absent": None,
        "key.id": "7",
    }
    assert document.get('row."a.b"') == "1"
    assert document.get("details.items[1].code") == "NA"
    assert document.get("details.items.code") == "K"
    assert document.get("details.items[2].code") is None
    assert document.get("before.x") is None
    for wrong in ("", "rows.x", "row..x", "row.x.", "row[x]", "details.items[-1]"):
        with pytest.raises(ValueError):  # noqa: PT011
            codec.check_path(wrong)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"origin":"a","table":"t","change":"read","key":{}}',
        b'{"origin":"a","table":"t","change":"eaten","key":{},"row":{}}',
        b'{"origin":"a","table":"t","change":"read","key":{},"row":{},"details":{"x":[1]}}',
        b'{"origin":"a","table":"t","change":"read","key":{},"row":{},"row":{}}',
    ],
)
def test_what_is_no_record(body: bytes) -> None:
    with pytest.raises(ParseError):
        read(body)
