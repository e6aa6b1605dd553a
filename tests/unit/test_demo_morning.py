"""The simulated morning: reproducible, readable, complete, and nobody's data."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import registry
from engine.demo.instruments import MODELS
from engine.demo.morning import ACCEPTED, BROKEN, DUPLICATE, Item, morning
from engine.demo.people import TRAPS, check_character
from engine.formats import astm, hl7v2

PYTHON_CODECS = {"GB 18030-2000": "gb18030", "UNICODE UTF-8": "utf-8"}
ITEMS = morning(7, 12)


def readable(items: list[Item]) -> list[Item]:
    """What is HL7 v2 and can be read."""
    return [item for item in items if item.expect != BROKEN and item.kind != "ASTM^R"]


def measured(items: list[Item]) -> list[Item]:
    """What instruments report themselves."""
    return [item for item in items if item.kind == "ASTM^R"]


def test_same_seed_same_bytes() -> None:
    """The morning is a function of its seed; another seed is another morning."""
    assert morning(7, 12) == ITEMS
    assert morning(8, 12) != ITEMS


@given(st.integers(0, 2**31), st.integers(5, 20))
def test_every_morning_has_everything(seed: int, patients: int) -> None:
    """From five patients on, every kind of message and every mishap is there, in order of time."""
    items = morning(seed, patients)
    kinds = {item.kind for item in items}
    assert {"ADT^A01", "ADT^A02", "ADT^A03", "ADT^A04", "ADT^A08", "ADT^A40", "ORM^O01", "OML^O21", "ORU^R01", "ASTM^R"} <= kinds
    mishaps = Counter(item.expect for item in items)
    assert (mishaps[BROKEN], mishaps[DUPLICATE]) == (2, 2)
    assert [item.at_seconds for item in items] == sorted(item.at_seconds for item in items)


def test_trap_characters_travel_in_gb18030() -> None:
    """Each character whose trail byte is a separator occurs in a message that declares GB 18030, and reads back."""
    seen = set()
    for item in readable(ITEMS):
        header = hl7v2.read_header(item.body)
        if b"GB 18030-2000" in item.body.split(b"\r", 1)[0]:
            assert header.control_id == item.control_id
            name = hl7v2.decode(item.body).get("PID-5.2") or ""
            seen |= set(name) & set(TRAPS)
    assert seen == set(TRAPS)
    assert {character.encode("gb18030")[-1:] for character in TRAPS} == {b"|", b"^", b"~", b"\\"}


@pytest.mark.parametrize("item", readable(ITEMS), ids=lambda item: item.control_id)
def test_a_body_reads_in_its_declared_charset(item: Item) -> None:
    """MSH-18 tells the truth, the type and control id are what the item says, and nothing decodes to a replacement character."""
    fields = item.body.split(b"\r", 1)[0].split(b"|")
    text = item.body.decode(PYTHON_CODECS[fields[17].decode()])
    assert "\ufffd" not in text
    assert text.endswith("\r")
    message = hl7v2.decode(item.body)
    assert (message.get("MSH-9.1"), message.get("MSH-9.2")) == tuple(item.kind.split("^"))
    assert message.get("MSH-10") == item.control_id
    assert message.get("PID-5.1")


def test_results_answer_orders() -> None:
    """Every result names an order that was placed before it, and carries LOINC codes, units, intervals and flags."""
    placed: set[str | None] = set()
    for item in readable(ITEMS):
        message = hl7v2.decode(item.body)
        if item.kind in ("ORM^O01", "OML^O21"):
            placed.add(message.get("ORC-2.1"))
        if item.kind == "ORU^R01":
            assert message.get("OBR-2.1") in placed
            assert message.get("OBX-3.3") == "LN"
            assert all(message.get(path) for path in ("OBX-3.1", "OBX-5", "OBX-6.1", "OBX-7", "OBX-8"))


def test_control_ids_are_unique_but_for_the_duplicate() -> None:
    """The duplicate is the same bytes again, later; all other control ids occur once."""
    for items in (readable(ITEMS), measured(ITEMS)):
        again = next(item for item in items if item.expect == DUPLICATE)
        first = next(item for item in items if item.control_id == again.control_id)
        assert first.expect == ACCEPTED
        assert first.body == again.body
        assert first.at_seconds < again.at_seconds
        counts = Counter(item.control_id for item in items)
        assert [control_id for control_id, count in counts.items() if count > 1] == [again.control_id]


def test_the_broken_one_has_no_header() -> None:
    """Nothing in it can be used as an MSH, so it has no control id to answer."""
    broken = next(item for item in ITEMS if item.expect == BROKEN and item.system == "LIS")
    assert b"MSH" not in broken.body
    assert broken.control_id == ""


def test_what_an_instrument_breaks_off_comes_again_whole() -> None:
    broken = next(item for item in ITEMS if item.expect == BROKEN and item.system != "LIS")
    whole = next(item for item in measured(ITEMS) if item.system == broken.system and item.at_seconds > broken.at_seconds)
    assert whole.body.startswith(broken.body)
    assert not broken.body.splitlines()[-1].startswith(b"L")


@pytest.mark.parametrize("item", measured(ITEMS), ids=lambda item: item.control_id)
def test_results_of_an_instrument_are_mapped_whole(item: Item) -> None:
    """They read in the instrument's character set, and the platform will know them by the control id that the item says."""
    model = next(model for model in MODELS if model.name == item.system)
    message = astm.codec.decode_with(item.body, model.codec)
    assert message.get("H-5.3") == model.serial
    bundle = orjson.loads(registry.mapping("astm-to-fhir").compile(None).map(item.body, model.codec).body)
    assert bundle["identifier"]["value"] == item.control_id
    assert sum(entry["resource"]["resourceType"] == "Observation" for entry in bundle["entry"]) == len(model.analytes)


def test_identity_numbers_are_valid_and_nobodys() -> None:
    """Check characters are right (ISO 7064 MOD 11-2, birth date and sex agree), in an area that does not exist."""
    checked = 0
    for item in readable(ITEMS):
        message = hl7v2.decode(item.body)
        number = message.get("PID-3[2].1")
        if number is None:
            continue
        assert number.startswith("999")
        # the definition, rather than the weights the generator uses: all 18 places sum to 1 modulo 11
        places = [10 if place == "X" else int(place) for place in number]
        assert sum(place * 2 ** (17 - index) for index, place in enumerate(places)) % 11 == 1
        assert number[6:14] == message.get("PID-7")
        assert int(number[16]) % 2 == (message.get("PID-8") == "M")
        checked += 1
    assert checked > len(readable(ITEMS)) // 2


@pytest.mark.parametrize(("seventeen", "check"), [("11010519491231002", "X"), ("44052418800101001", "4")])
def test_check_character_of_the_standards_examples(seventeen: str, check: str) -> None:
    """The two numbers printed in GB 11643-1999."""
    assert check_character(seventeen) == check


def test_the_merge_names_the_temporary_number() -> None:
    """The A40 merges the number under which the nameless patient's results were sent."""
    nameless = {hl7v2.decode(item.body).get("PID-3.1") for item in readable(ITEMS) if "无名氏".encode() in item.body}
    merges = [hl7v2.decode(item.body) for item in ITEMS if item.kind == "ADT^A40"]
    assert merges
    assert {merge.get("MRG-1.1") for merge in merges} <= nameless
