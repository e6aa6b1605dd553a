"""The mapping of the hospital platform's messages, damaged: a valid Bundle, or a MessageError; never another exception."""

from __future__ import annotations

import copy

from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from engine import registry
from engine.errors import MessageError
from tests.support.hip_files import MAPPED, sample

MAPPER = registry.mapping("hip-to-fhir").compile(None)
WORDS = ["", "-", "x y", "99999", "20261399", "é^~\\&|", "0" * 40, "I10.x00", " 1001 ", "2.16.156.10011.1.3", "true", "SC07", "\u3000"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message with some elements taken out or doubled, attributes taken out or changed."""
    root = etree.fromstring(sample(draw(st.sampled_from(MAPPED))))
    for _ in range(draw(st.integers(1, 6))):
        elements = [element for element in root.iter() if element is not root]
        if not elements:
            break
        element = draw(st.sampled_from(elements))
        kind = draw(st.sampled_from(["out", "out", "double", "blank", "word"]))
        parent = element.getparent()
        assert parent is not None
        if kind == "out":
            parent.remove(element)
        elif kind == "double":
            element.addnext(copy.deepcopy(element))
        elif element.attrib:
            name = draw(st.sampled_from(sorted(element.attrib)))
            if kind == "blank":
                del element.attrib[name]
            else:
                element.set(name, draw(st.sampled_from(WORDS)))
    return etree.tostring(root)


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_damage_is_mapped_or_named(body: bytes) -> None:
    """Nothing but MessageError comes out, the Bundle is valid, and no element of it is empty."""
    try:
        first = MAPPER.map(body)
    except MessageError as error:
        assert error.location or error.code == "message.parse"
        return
    Bundle.model_validate_json(first.body)
    for empty in (b':""', b":{}", b":[]", b":null"):
        assert empty not in first.body
    assert MAPPER.explain(body)[0] == first
