"""The mapping on damaged messages: a Bundle, or a MessageError; never another exception, never a different result the second time."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import registry
from engine.demo.morning import morning
from engine.errors import MessageError

MAPPER = registry.mapping("hl7v2-to-fhir").compile(None)
BODIES = sorted({item.kind: item.body for item in morning(7, 6) if item.kind not in ("", "ASTM^R")}.values())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A believable message with some bytes cut out, doubled or replaced behind its MSH."""
    body = draw(st.sampled_from(BODIES))
    start = body.index(b"\r") + 1
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(start, max(start, len(body) - 1)))
        length = draw(st.integers(0, 12))
        new = draw(
            st.sampled_from([b"", b"|", b"^", b"~", b"&", b"\\", b'""', b"\r", b"x", b"|||", b"\\X0D\\", body[place : place + length]])
        )
        body = body[:place] + new + body[place + length :]
    return body


@settings(max_examples=150, deadline=None)
@given(damaged())
def test_damage_is_mapped_or_named(body: bytes) -> None:
    """Nothing but MessageError comes out, and the result is stable."""
    try:
        first = MAPPER.map(body).body
    except MessageError:
        return
    assert MAPPER.map(body).body == first
    assert orjson.loads(first)["type"] == "transaction"


def test_explain_agrees_with_map() -> None:
    """The lineage is of the very Bundle that is sent, and names fields and rules."""
    for body in BODIES:
        rendition, lineage = MAPPER.explain(body)
        assert rendition.body == MAPPER.map(body).body
        assert any(line.source.startswith("PID") for line in lineage)
        assert all(line.rule and (line.target or line.source) for line in lineage)
