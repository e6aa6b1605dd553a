"""Documents that are damaged or hostile: a Bundle that is valid, or a MessageError; always soon, always the same."""

from __future__ import annotations

import random
import time
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from engine import registry
from engine.errors import MessageError
from tests.support import cda

SAMPLES = (
    cda.clinic_record(), cda.prescription(), cda.laboratory_report(), cda.vital_signs(), cda.discharge_summary(), cda.continuity_of_care(),
)  # fmt: skip
MAPPER = registry.mapping("cda-to-fhir").compile(None)
_WORDS = (
    "",
    " ",
    "0",
    "-1",
    "1e999",
    "99999999999999999999",
    "\u0301",
    "true",
    "NaN",
    "20260230",
    "urn:oid:1",
    "^|&~\\",
    "<",
    "é",
    "a b",
    "1.2.3",
)


def mapped(document: bytes) -> dict[str, Any] | None:
    """The Bundle, None where the document is refused. Twice the same."""
    try:
        first = MAPPER.map(document)
    except MessageError as error:
        with pytest.raises(MessageError) as again:
            MAPPER.map(document)
        assert str(again.value) == str(error)
        return None
    assert MAPPER.map(document) == first
    assert MAPPER.explain(document)[0] == first
    made = orjson.loads(first.body)
    assert isinstance(made, dict)
    return made


def damaged(sample: bytes, seed: int) -> bytes:
    """Some elements deleted, moved or doubled; some attributes and texts deleted or something else."""
    chance = random.Random(seed)
    root = etree.fromstring(sample)
    for _ in range(chance.randint(1, 12)):
        elements = [one for one in root.iter() if one is not root]
        one = chance.choice(elements)
        parent = one.getparent()
        assert parent is not None
        what = chance.randrange(6)
        if what == 0:
            parent.remove(one)
        elif what == 1 and one.attrib:
            del one.attrib[chance.choice(list(one.attrib))]
        elif what == 2 and one.attrib:
            one.set(chance.choice(list(one.attrib)), chance.choice(_WORDS))
        elif what == 3:
            one.text = chance.choice(_WORDS)
        elif what == 4:
            one.set("nullFlavor", chance.choice(("UNK", "NI", "NA", "ASKU", "OTH", "bad")))
        else:
            other = chance.choice(elements)
            if other not in set(one.iter()):
                other.append(etree.fromstring(etree.tostring(one)))
    return etree.tostring(root)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SAMPLES), st.integers(0, 2**32))
def test_whatever_is_missing_or_wrong_the_bundle_is_valid(sample: bytes, seed: int) -> None:
    made = mapped(damaged(sample, seed))
    if made is not None:
        Bundle.model_validate(made)
        urls = [entry["fullUrl"] for entry in made["entry"]]
        assert len(set(urls)) == len(urls)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SAMPLES), st.integers(0, 10**6), st.binary(max_size=6))
def test_bytes_that_are_cut_or_overwritten(sample: bytes, at: int, noise: bytes) -> None:
    at %= len(sample)
    mapped(sample[:at])
    mapped(sample[:at] + noise + sample[at + len(noise) :])


def many(what: str) -> bytes:
    """A document of one sort of excess."""
    observation = cda.de("DE04.01.119.00", "主诉", cda.st("胸痛"))
    document = cda.wst("C0002", "门急诊病历", cda.section("10154-3", "CHIEF COMPLAINT", "@"))
    made = {
        "entries": (cda.entry(observation) * 30_000),
        "components": cda.cluster(*[cda.de("DE05.01.024.00", "诊断", cda.cd("I20", "心绞痛"))] * 20_000),
        "unknown": "<entry><supply/></entry>" * 60_000,
        "nested": "<entry>" + "<act><entryRelationship>" * 40 + observation + "</entryRelationship></act>" * 40 + "</entry>",
        "children": cda.entry(cda.de("DE04.01.119.00", "主诉", cda.st("胸痛"), cda.part(observation) * 20_000)),
    }
    inside = made.get(what)
    if inside is not None:
        return document.replace(b"@", inside.encode())
    numbers = "".join(f'<id root="1.2.{number}" extension="1"/>' for number in range(40_000))
    if what == "numbers":
        return document.replace(b'<id root="2.16.156.10011.1.12" extension="ZY0000123"/>', numbers.encode())
    author = document[document.index(b"<author") : document.index(b"</author>") + 9]
    return document.replace(author, author * 20_000)


@pytest.mark.parametrize("what", ["entries", "components", "unknown", "nested", "children", "numbers", "authors"])
def test_excess_costs_no_more_than_its_size(what: str) -> None:
    """Each has some ten megabytes at most; none may take time that grows with its square."""
    document = many(what)
    began = time.process_time()
    rendition = MAPPER.map(document)
    assert time.process_time() - began < 20
    assert rendition.body
    if what == "entries":
        assert b'"code":"cut"' in rendition.body
        assert rendition.unmapped == 1
