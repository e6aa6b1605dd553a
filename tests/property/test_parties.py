"""One changed character of an identifier is noticed; the registry's file keeps what a dictionary would; a circle or a shared mark is told."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.identity import party_uri
from engine.message import HL7V2, Envelope
from engine.parties import IDENTIFIERS, Kind, Mark, Party, Registry, Rule, Snapshot
from engine.parties.model import together
from tests.unit.test_parties_identifiers import USCCS, WS218

IDS = ("a", "b", "c", "d")
CHARACTERS = string.ascii_letters + string.digits + " -ÄX９"


def changed(code: str, place: int, character: str) -> str:
    assume(code[place] != character)
    return code[:place] + character + code[place + 1 :]


@given(st.sampled_from(USCCS), st.integers(0, 17), st.sampled_from(CHARACTERS))
def test_one_changed_character_of_a_social_credit_code(code: str, place: int, character: str) -> None:
    """Modulo 31, a prime above all values and weights: every one is noticed."""
    with pytest.raises(ValueError):  # noqa: PT011  # which fault it is depends on the character
        IDENTIFIERS["uscc"](changed(code, place, character))


@given(st.sampled_from(USCCS), st.integers(0, 16))
def test_two_neighbours_exchanged(code: str, place: int) -> None:
    """The other mistake of who types."""
    assume(code[place] != code[place + 1])
    with pytest.raises(ValueError):  # noqa: PT011
        IDENTIFIERS["uscc"](code[:place] + code[place + 1] + code[place] + code[place + 2 :])


@given(st.integers(0, 8), st.sampled_from(string.digits + string.ascii_uppercase))
def test_one_changed_character_of_an_organisation_code(place: int, character: str) -> None:
    """Modulo 11 is all that GB 11714 has: letters that are 11 apart cannot be told."""
    other = changed(WS218, place, character)
    assume(place == 8 or (int(character, 36) - int(WS218[place], 36)) % 11)
    with pytest.raises(ValueError):  # noqa: PT011
        IDENTIFIERS["ws218"](other)


MARKS = st.lists(st.tuples(st.sampled_from(list(Mark)), st.sampled_from(["m1", "m2", "m3"])), max_size=3, unique=True).map(tuple)
PARTIES = st.builds(
    Party,
    id=st.sampled_from(IDS),
    kind=st.sampled_from(list(Kind)),
    name=st.text(st.characters(codec="utf-8"), max_size=5),
    belongs_to=st.sampled_from(("", *IDS)),
    identifiers=st.lists(st.tuples(st.sampled_from(["uscc", "urn:x"]), st.sampled_from(["1", "2"])), max_size=2, unique=True).map(tuple),
    marks=MARKS,
    may_send=st.sampled_from([(), ("*",), ("A^*", "B")]),
    channels=st.sampled_from([(), ("c",)]),
    disabled_at=st.sampled_from([0, 5]),
)


@settings(deadline=None)
@given(st.lists(PARTIES, max_size=12))
def test_the_file_keeps_what_a_dictionary_would(changes: list[Party]) -> None:
    """Any changes that fit together, one after the other, over two connections."""
    model: dict[str, Party] = {}
    with tempfile.TemporaryDirectory() as folder, Registry(Path(folder)) as one, Registry(Path(folder)) as other:
        for index, party in enumerate(changes):
            wanted = {**model, party.id: party}
            if any("already" in text for _, text in together(wanted)):
                continue
            with (one, other)[index % 2].change() as parties:
                assert parties == model
                parties[party.id] = party
            model = wanted
        assert one.parties() == other.parties() == model


@given(
    st.lists(PARTIES, max_size=6, unique_by=lambda party: party.id), st.sampled_from(("", *IDS)), st.lists(MARKS.filter(bool), max_size=2)
)
def test_a_snapshot_finds_what_a_search_would(parties: list[Party], peer: str, marks: list[tuple[tuple[Mark, str], ...]]) -> None:
    """Whom a message names, by looking at every party; of a disabled one, or for one that is nobody's, nothing is ever taken."""
    known = {party.id: party for party in parties}
    assume(not list(together(known)))
    facts = {mark.value: value for some in marks for mark, value in some if mark in (Mark.AE_TITLE, Mark.SERIAL)}
    sender = next((value for some in marks for mark, value in some if mark is Mark.SENDER), "")
    found = Snapshot(parties).check(Envelope(b"", HL7V2, "B", "1", sender, party_uri(peer) if peer else "", facts=facts), "c")
    proven = [party for party in parties if peer in (party.id, *party.of(Mark.CERTIFICATE))]
    claims = [*((Mark(name), value) for name, value in facts.items()), *([(Mark.SENDER, sender)] if sender else [])]
    owners = [[party for party in parties if claim in party.marks] for claim in claims]
    serials = [party for party in parties if sender and sender in party.of(Mark.SERIAL)]
    if peer and not proven:
        assert found is not None
        assert found.rule is Rule.UNREGISTERED
    if found is None:
        named = [*proven, *(owner for several in owners for owner in several)] or serials
        assert named
        assert not any(party.disabled_at for party in named)
        assert all(owners) or serials
