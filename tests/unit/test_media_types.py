"""Content-Type as it is written, well and badly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ParseError
from engine.formats.media_types import parse_content_type

MTOM = (
    'multipart/related; type="application/xop+xml"; start="<root@host>"; start-info="application/soap+xml; action=\\"urn:a\\""; '
    'Boundary="uuid:1-2;3"'
)


@pytest.mark.parametrize(
    ("value", "name", "parameters"),
    [
        ("text/xml", "text/xml", {}),
        ("Text/XML ;charset=UTF-8", "text/xml", {"charset": "UTF-8"}),
        ("text/xml;", "text/xml", {}),
        ("text/xml; ; charset = utf-8 ", "text/xml", {"charset": "utf-8"}),
        ("a/b; start=<a@b>; type=text/xml", "a/b", {"start": "<a@b>", "type": "text/xml"}),  # what should be in quotes
        ('a/b; c=""', "a/b", {"c": ""}),
        (
            MTOM,
            "multipart/related",
            {
                "type": "application/xop+xml",
                "start": "<root@host>",
                "start-info": 'application/soap+xml; action="urn:a"',
                "boundary": "uuid:1-2;3",
            },
        ),
    ],
)
def test_what_is_written(value: str, name: str, parameters: dict[str, str]) -> None:
    """Names in lower case, values as they are, quoted or not."""
    assert parse_content_type(value) == (name, parameters)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text",
        "text/xml, text/html",
        "text/xml charset=utf-8",
        'a/b; c="d',
        'a/b; c="d"e',
        "a/b; c=d; C=e",
        "a/b; c",
        "a/b; c=d" + "x" * 5000,
    ],
)
def test_what_cannot_be_read_in_one_way(value: str) -> None:
    """Two types, no type, an open quote, a parameter twice, no end of it."""
    with pytest.raises(ParseError):
        parse_content_type(value)


@given(st.text(max_size=80) | st.lists(st.sampled_from(["a/b", ";", "c=", '"', "\\", " ", "d", ","]), max_size=30).map("".join))
def test_nothing_but_parse_errors(value: str) -> None:
    """Whatever comes."""
    try:
        parse_content_type(value)
    except ParseError:
        pass
