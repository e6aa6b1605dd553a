"""Party names and URIs, whatever the name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.identity import PREFIX, is_allowed, party_name, party_uri

NAMES = st.from_regex(re.compile(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", re.ASCII), fullmatch=True)


@given(NAMES)
def test_a_name_comes_back_from_its_uri(name):
    """party_name undoes party_uri, and a URI stays what it is."""
    uri = party_uri(name)
    assert party_name(uri) == name
    assert party_uri(uri) == uri


@given(st.text(max_size=70))
def test_what_is_taken_is_a_plain_name(text):
    """Anything else is refused: no white space, no upper case, no second colon can hide in a party."""
    try:
        uri = party_uri(text)
    except ValueError:
        return
    assert re.fullmatch(r"[a-z0-9._-]{1,64}", uri.removeprefix(PREFIX), re.ASCII)


@pytest.mark.parametrize("text", ["", PREFIX, "County", "a b", "-a", "a-", "a:b", "a\n", "x" * 65, PREFIX + PREFIX + "a"])
def test_no_party(text):
    """Border cases, each refused."""
    with pytest.raises(ValueError, match="not a party name"):
        party_uri(text)


@given(NAMES, NAMES)
def test_who_is_allowed(name, other):
    """By name or URI alike, and nobody else; an unproven peer never."""
    assert is_allowed(party_uri(name), [name])
    assert is_allowed(party_uri(name), [party_uri(name)])
    assert is_allowed(party_uri(name), [other]) == (name == other)
    assert not is_allowed("", [])
    assert not is_allowed("", [name])
