"""Whatever a message holds, a template makes the same tree of it: values never become markup, and XML gives them back as they were."""

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from adapters.soap.client.template import NOT_IN_XML, of_xml, of_yaml
from engine.errors import PermanentDelivery

TEMPLATE = of_xml(b"<a x='${one}' y='1'><b>${one}</b><c>before ${two} after<d/>${one}</c></a>")
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.sampled_from(
    ["<b/>", "]]>", "&amp;", "${two}", "\r\n", "a\ud7ffb"]
)


@given(TEXTS, TEXTS)
def test_values_stay_values(one, two):
    values = {"one": one, "two": two}
    if any(map(NOT_IN_XML.search, values.values())):
        try:
            TEMPLATE.fill(values.get)
        except PermanentDelivery:
            return
        raise AssertionError("what XML cannot hold was put into it")
    read = etree.fromstring(etree.tostring(TEMPLATE.fill(values.get)))
    assert [element.tag for element in read.iter()] == ["a", "b", "c", "d"]
    assert (read.get("x"), read.findtext("b") or "", read.find("c").text) == (one, one, f"before {two} after")
    assert (read.find("c/d").tail or "") == one


@given(TEXTS.filter(lambda text: not NOT_IN_XML.search(text)))
def test_in_yaml_too(one):
    """Lists and mappings keep their shape; what the message does not have is left out."""
    template = of_yaml({"a": ["${one}", {"b": "x${one}${none}"}], "c": "${none}", "d": 3, "e": True})
    assert template.fill({"one": one}.get) == {"a": [one, {"b": f"x{one}"}], "c": None, "d": "3", "e": "true"}
    assert template.names == ("one", "none")
