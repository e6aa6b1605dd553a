"""The fast parser gives what the strict one gives."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.fhir import exact
from engine.errors import ParseError
from engine.formats import fhir

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=None).map(
    lambda number: f"{number:f}"
)
texts = st.text() | st.sampled_from(["1.50", ',"a":1.50,', "{[", "]}", '\\"', "x.0]"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | texts | decimals.map(Decimal),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts, values, max_size=5)


def write(value, indent):
    """JSON with decimals as they are, compact or not."""
    numbers = []

    def mark(number):
        numbers.append(str(number))
        return f"\u0001{len(numbers) - 1}\u0001"

    def walk(part):
        if isinstance(part, Decimal):
            return mark(part)
        if isinstance(part, dict):
            return {name: walk(child) for name, child in part.items()}
        return [walk(child) for child in part] if isinstance(part, list) else part

    text = json.dumps(walk(value), ensure_ascii=False, indent=indent, separators=(",", ":") if indent is None else None)
    for index, number in enumerate(numbers):
        text = text.replace(f'"\\u0001{index}\\u0001"', number)
    return text.encode("utf-8", "surrogatepass")


@given(objects, st.sampled_from([None, 1]))
def test_what_is_parsed_is_written_as_the_strict_parser_would(value, indent):
    """Same elements, same decimals digit for digit, whatever the white space."""
    body = write(value, indent)
    try:
        expected = fhir.dump(fhir.parse(body))
    except ParseError:
        with pytest.raises(ParseError):
            exact.parse(body)
        return
    assert fhir.dump(exact.parse(body)) == expected
    assert exact.inspect(body) == fhir.parse(body)


@given(st.text(), st.text(), st.integers(0, 3))
def test_a_key_that_comes_twice_is_refused_at_any_depth(name, other, depth):
    """Two readers would take different values (RFC 8259 4)."""
    key, another = json.dumps(name), json.dumps(other)
    inner = f"{{{key}:1,{another}:2,{key}:3}}"
    body = ('{"a":[' * depth + inner + "]}" * depth).encode("utf-8", "surrogatepass")
    with pytest.raises(ParseError):
        exact.parse(body)
    with pytest.raises(ParseError):
        exact.inspect(body)


@pytest.mark.parametrize("depth", [60, 70, 200, 300, 100_000])
def test_deep_nesting_is_refused(depth):
    """Nothing as deep as this is a FHIR resource, and recursion has an end."""
    body = b'{"a":' * depth + b"1" + b"}" * depth
    if depth == 60:
        assert exact.parse(body)
    else:
        with pytest.raises(ParseError):
            exact.parse(body)
