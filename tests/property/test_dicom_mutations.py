"""Damaged DICOM: whatever the bytes, a valid Bundle or a MessageError; and a study is the same in any order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import registry
from engine.errors import MessageError
from tests.support.dicom_studies import FOLDER, code, document, file, image, item, num, study

MAPPER = registry.mapping("dicom-to-fhir").compile(None)
REPORT = document(
    code("126000", "DCM", "Report"),
    item("CONTAINS", "CONTAINER", code("125007", "DCM", "Group"), num(code("Q", "DCM", "Size"), "12.50", code("mm", "UCUM", "mm"))),
)
SEEDS = [
    file(REPORT),
    file(image()),
    study(image(1), REPORT),
    *((FOLDER / name).read_bytes()[:4096] for name in ("charset_files/chrH32.dcm", "test_files/test-SR.dcm", "test_files/rtplan.dcm")),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A seed with some bytes changed, taken out or put in."""
    body = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        kind = draw(st.sampled_from(("change", "cut", "add", "end")))
        if kind == "change" and body:
            body[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del body[at : at + draw(st.integers(1, 40))]
        elif kind == "add":
            body[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            del body[at:]
    return bytes(body)


@given(damaged())
@settings(max_examples=400, deadline=None)
def test_any_bytes_give_a_valid_bundle_or_a_stated_refusal(body: bytes) -> None:
    try:
        made = MAPPER.map(body)
    except MessageError as error:
        assert error.text
        return
    Bundle.model_validate_json(made.body)
    assert b":[]" not in made.body
    assert MAPPER.map(body).body == made.body
    assert MAPPER.explain(body)[0] == made


@given(st.permutations([image(number, series) for series in (1, 2) for number in (1, 2, 3)]), st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_the_counts_are_of_what_has_arrived(instances: list[object], count: int) -> None:
    arrived = instances[:count]
    bundle = orjson.loads(MAPPER.map(study(*arrived)).body)  # type: ignore[arg-type]
    (one,) = (entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "ImagingStudy")
    assert one["numberOfInstances"] == count == sum(series["numberOfInstances"] for series in one["series"])
    assert one["numberOfSeries"] == len(one["series"])
    assert [series["number"] for series in one["series"]] == sorted(series["number"] for series in one["series"])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("Alphabetic", "vr", "Value", "00080100", "x")), inner, max_size=3)
    ),
    max_leaves=6,
)


def attributes(here: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every attribute of a data set, those of items too."""
    for attribute in here.values():
        yield attribute
        if attribute["vr"] == "SQ":
            for one in attribute.get("Value", ()):
                yield from attributes(one)


@st.composite
def lying(draw: st.DrawFn) -> bytes:
    """A study in JSON in which some attributes have another VR, or values of another kind."""
    instances = orjson.loads(study(image(1), REPORT))
    for attribute in draw(st.lists(st.sampled_from([one for here in instances for one in attributes(here)]), min_size=1, max_size=5)):
        attribute["vr"] = draw(st.sampled_from(("SQ", "PN", "LO", "US", "DS", "UN", "??")))
        attribute["Value"] = draw(st.lists(JSON_VALUES, max_size=3))
    return orjson.dumps(instances)


@given(lying())
@settings(max_examples=400, deadline=None)
def test_any_values_give_a_valid_bundle_or_a_stated_refusal(body: bytes) -> None:
    try:
        made = MAPPER.map(body)
    except MessageError as error:
        assert error.text
        return
    Bundle.model_validate_json(made.body)
    assert MAPPER.explain(body)[0] == made
