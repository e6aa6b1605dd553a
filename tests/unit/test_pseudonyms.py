"""Pseudonyms: stable under a key, other under another, and one name for an authority whatever calls it."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from engine.errors import ConfigError
from engine.pseudonyms import Authorities, Pseudonyms
from tests.support.deidentify import KEY

MINE, THEIRS = Pseudonyms(KEY), Pseudonyms(KEY[::-1])


def test_the_same_identifier_is_the_same_pseudonym_and_another_key_gives_another() -> None:
    """The first one is written down here: it must be the same in years to come."""
    assert MINE.identifier("urn:oid:1.2.3", "4711") == "GMVNGPVMLVQKCGZW"
    assert MINE.identifier("urn:oid:1.2.3", " 4711 ") == MINE.identifier("urn:oid:1.2.3", "4711")
    others = [
        MINE.identifier("urn:oid:1.2.4", "4711"),
        MINE.identifier("urn:oid:1.2.3", "4712"),
        THEIRS.identifier("urn:oid:1.2.3", "4711"),
    ]
    assert len({"GMVNGPVMLVQKCGZW", *others}) == 4


def test_a_pseudonym_is_never_a_word_a_number_or_a_date() -> None:
    """So that the search for what identifies a patient does not find one; and it is as long as SH of DICOM allows."""
    assert all(re.fullmatch("[B-DF-HJ-NP-TV-XZ]{16}", MINE.identifier("", str(number))) for number in range(200))


def test_the_parts_of_a_name_cannot_be_mixed_up() -> None:
    """An authority that ends as another's identifier begins is another authority."""
    assert MINE.identifier("a", "b\0c") != MINE.identifier("a\0b", "c") or MINE.identifier("ab", "c") != MINE.identifier("a", "bc")


def test_uids_are_those_of_a_uuid() -> None:
    """PS3.5 annex B.2: 2.25 and the decimal of a UUID, of version 8 (RFC 9562)."""
    uid = MINE.uid("1.2.840.113619.2.1")
    number = UUID(int=int(uid.removeprefix("2.25.")))
    assert (number.version, number.variant, len(uid) <= 64) == (8, "specified in RFC 4122", True)
    assert UUID(MINE.uuid("x")).version == 8


def test_dates_move_by_whole_days_and_never_by_none() -> None:
    """From 30 days to ten years; other patients by others."""
    shifts = [MINE.shift("HIS", str(number)).days for number in range(300)]
    assert min(shifts) >= 30
    assert max(shifts) < 3650
    assert len(set(shifts)) > 200


@pytest.mark.parametrize("key", ["", "short", "x" * 31])
def test_a_short_key_is_refused_and_not_repeated(key: str) -> None:
    """It says what a key is."""
    with pytest.raises(ConfigError, match="at least 32 characters"):
        Pseudonyms(key)


def test_one_authority_by_all_its_names() -> None:
    """By its universal id where there is one, else by its namespace; what a site calls the same is the same."""
    authorities = Authorities("HIS", {"HIS": "urn:oid:1.2.3", "urn:meridian:ns:HOSP:HIS": "urn:oid:1.2.3"})
    names = [
        authorities.of_hd("HIS"),
        authorities.of_hd("HIS", "1.2.9", "ISO"),
        authorities.of_hd("", "1.2.3", "ISO"),
        authorities.of_hd(""),
        authorities.of_uri("urn:oid:1.2.3"),
        authorities.of_uri("urn:meridian:ns:HOSP:HIS"),
        authorities.of_uri(""),
    ]
    assert set(names) == {"urn:oid:1.2.3"}
    assert Authorities().of_hd("Häuser 1") == Authorities().of_uri("urn:meridian:ns:H%C3%A4user%201")
    assert Authorities().of_hd("", "hosp.example", "DNS") == "urn:dns:hosp.example"
    assert Authorities().of_hd("") == ""
