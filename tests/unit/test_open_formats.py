"""Any JSON, any XML and forms, read by path."""

from __future__ import annotations

import pytest

from engine import registry
from engine.contracts import Codec
from engine.errors import ParseError
from engine.message import FORM, JSON, XML


def codec(content_type: str) -> Codec:
    found = registry.codec(content_type)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a.b", "1"), ("a.n", "1.50"), ("a.none", None), ("a.gone.b", None), ("list", "x"), ("list[1]", "y"), ("list[2]", None), ("rows.c", "p"),
        ("rows[1].c", "q"), ('"d.e"', "dotted"), ('"d.e".f', None), ("a", '{"b":1,"n":1.50,"none":null}'), ("big", "12345678901234567890"),
        ("flag", "true"), ("张[0]", "三"),
    ],
)  # fmt: skip
def test_json_by_path(path: str, said: str | None) -> None:
    """Members, indexes, quoted names; numbers with their digits; nothing where there is nothing."""
    body = '{"a": {"b": 1, "n": 1.50, "none": null}, "list": ["x", "y"], "rows": [{"c": "p"}, {"c": "q"}], "d.e": "dotted", ' \
        '"big": 12345678901234567890, "flag": true, "张": ["三"]}'  # fmt: skip
    assert codec(JSON).decode(body.encode()).get(path) == said


def test_json_that_is_an_array_at_the_top() -> None:
    """Its items are asked by index."""
    document = codec(JSON).decode(b'[{"id": 1}, {"id": 2}]')
    assert [document.get("[1].id"), document.get("[2].id"), document.get("id")] == ["2", None, "1"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": 1, "a": 2}', b"[" * 100 + b"]" * 100, b"\xff", b'{"a": NaN}'])
def test_json_that_is_none(body: bytes) -> None:
    """A member twice, too deep, another character set: refused as in FHIR."""
    with pytest.raises(ParseError):
        codec(JSON).decode(body)


@pytest.mark.parametrize(
    ("kind", "path"), [(JSON, ""), (JSON, "a..b"), (JSON, "a."), (JSON, "a[x]"), (JSON, "a b"), (XML, "a/[2]"), (FORM, "")]
)
def test_what_is_no_path(kind: str, path: str) -> None:
    """Said when the site is checked."""
    with pytest.raises(ValueError):  # noqa: PT011  the texts are the formats' own
        codec(kind).check_path(path)


def test_repeating_json() -> None:
    """The indexes of an array, also within another one."""
    document = codec(JSON).decode(b'{"a": [{"b": [1, 2, 3]}], "c": 1}')
    assert [list(document.indexes(path)) for path in ("a", "a[0].b", "c", "d")] == [[0], [0, 1, 2], [0], []]  # type: ignore[attr-defined]


def test_xml_and_forms() -> None:
    """Elements and attributes whatever their namespace; the first of a field that is there twice."""
    xml = codec(XML).decode("<o:Order xmlns:o='urn:o' no='7'><o:Item>a</o:Item><Item>张</Item></o:Order>".encode())
    assert [xml.get(path) for path in ("Order/@no", "Order/Item[2]", "Other/Item")] == ["7", "张", None]
    form = codec(FORM).decode(b"no=A%261&no=2&name=%E5%BC%A0+x&empty=")
    assert [form.get(name) for name in ("no", "name", "empty", "gone")] == ["A&1", "张 x", "", None]
    for body in (b"a=%FF", b"&".join(b"a=1" for _ in range(1001)), "a=张".encode("gb18030")):
        with pytest.raises(ParseError):
            codec(FORM).decode(body)
