"""Who sends a message, and whether it may: every rule, with and without a proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.identity import party_uri
from engine.message import FHIR_JSON, HL7V2, Envelope
from engine.parties import Finding, Kind, Mark, Party, Rule, Snapshot

COUNTY = Party(
    "county", Kind.INSTITUTION, marks=((Mark.SENDER, "HIS|COUNTY"), (Mark.CERTIFICATE, "county-2")), may_send=("ADT^*",), channels=("adt",)
)
ANALYZER = Party(
    "analyzer-7",
    Kind.DEVICE,
    belongs_to="county",
    marks=((Mark.SENDER, "BC|COUNTY"), (Mark.SERIAL, "SN4711"), (Mark.AE_TITLE, "BC7")),
    may_send=("ORU^R01", "OUL^*"),
)
CITY = Party("city", Kind.INSTITUTION, marks=((Mark.SENDER, "HIS|CITY"), (Mark.SERIAL, "SN4713")), may_send=("*",))
ALL = (COUNTY, ANALYZER, CITY)


def sent(peer: str = "", sender: str = "", kind: str = "ORU^R01", **facts: str) -> Envelope:
    return Envelope(b"", HL7V2, kind, "1", sender, party_uri(peer) if peer else "", facts=facts)


def check(envelope: Envelope, channel: str = "results", parties: Any = ALL) -> Finding | None:
    return Snapshot(parties).check(envelope, channel)


@pytest.mark.parametrize(
    "envelope",
    [
        sent("analyzer-7", "BC|COUNTY"),
        sent("analyzer-7", "BC|COUNTY", "OUL^R22"),
        sent("analyzer-7"),
        sent("analyzer-7", "|"),
        sent("county", "BC|COUNTY"),
        sent("county-2", "BC|COUNTY"),
        sent("county", "BC-6800^01.23^SN4711"),
        sent("", "BC|COUNTY"),
        sent("", "BC-6800^01.24^SN4711"),
        sent("", "", serial="SN4711"),
        sent("", "", ae_title="BC7"),
        sent("", "BC|COUNTY", serial="SN4711", ae_title="BC7"),
        sent("", "HIS|COUNTY", serial="SN4711"),
        sent("city", "HIS|CITY", "anything at all"),
    ],
)
def test_who_may(envelope: Envelope) -> None:
    """As itself, behind its hospital's connection, by any of its marks; what is not claimed is not checked."""
    assert check(envelope) is None


@pytest.mark.parametrize(
    ("envelope", "rule", "party"),
    [
        (sent("stranger", "BC|COUNTY"), Rule.UNREGISTERED, ""),
        (sent("", "XX|COUNTY"), Rule.UNREGISTERED, ""),
        (sent("", "county"), Rule.UNREGISTERED, ""),
        (sent(), Rule.UNREGISTERED, ""),
        (sent("city", "HIS|COUNTY"), Rule.MISMATCH, "city"),
        (sent("city", "BC|COUNTY"), Rule.MISMATCH, "city"),
        (sent("city", "XX|CITY"), Rule.MISMATCH, "city"),
        (sent("city", "his|city"), Rule.MISMATCH, "city"),
        (sent("city", "HIS|CITY", serial="SN4711"), Rule.MISMATCH, "city"),
        (sent("analyzer-7", "SN4711|CITY"), Rule.MISMATCH, "analyzer-7"),
        (sent("analyzer-7", "BC-6800^SN4711|CITY"), Rule.MISMATCH, "analyzer-7"),
        (sent("analyzer-7", "SN4711^SN4713"), Rule.MISMATCH, "analyzer-7"),
        (sent("analyzer-7", "SN4713"), Rule.MISMATCH, "analyzer-7"),
        (sent("analyzer-7", "HIS|COUNTY"), Rule.MISMATCH, "analyzer-7"),
        (sent("", "HIS|CITY", serial="SN4711"), Rule.MISMATCH, "city"),
        (sent("", "BC|COUNTY", serial="SN4712"), Rule.MISMATCH, "analyzer-7"),
        (sent("county", "HIS|COUNTY", "ADT^A01"), Rule.CHANNEL, "county"),
        (sent("analyzer-7", "BC|COUNTY", "ADT^A01"), Rule.MESSAGE_TYPE, "analyzer-7"),
        (sent("analyzer-7", "BC|COUNTY", "ORU^R0"), Rule.MESSAGE_TYPE, "analyzer-7"),
        (sent("analyzer-7", "BC|COUNTY", ""), Rule.MESSAGE_TYPE, "analyzer-7"),
    ],
)
def test_who_may_not(envelope: Envelope, rule: Rule, party: str) -> None:
    """The first rule that is broken, and by whom."""
    assert check(envelope) == Finding(rule, party)


def test_the_hospital_on_its_own_channel() -> None:
    """A device does not inherit what its hospital may do, nor the other way round."""
    assert check(sent("county", "HIS|COUNTY", "ADT^A01"), "adt") is None
    assert check(sent("county", "BC|COUNTY", "ADT^A01"), "adt") == Finding(Rule.MESSAGE_TYPE, "analyzer-7")
    assert check(sent("county", "HIS|COUNTY"), "adt") == Finding(Rule.MESSAGE_TYPE, "county")


@pytest.mark.parametrize("envelope", [sent("analyzer-7", "BC|COUNTY"), sent("county", "BC|COUNTY"), sent("", "BC|COUNTY")])
def test_disabled(envelope: Envelope) -> None:
    """The device, or its hospital: the device is refused each way, and before anything else."""
    for disabled in (COUNTY, ANALYZER):
        parties = [replace(one, disabled_at=1) if one is disabled else one for one in ALL]
        assert check(envelope, parties=parties) == Finding(Rule.DISABLED, disabled.id)


def test_one_who_may_send_nothing() -> None:
    """A party without message types, such as a member of staff."""
    parties = (Party("nurse", Kind.STAFF),)
    assert check(sent("nurse"), parties=parties) == Finding(Rule.MESSAGE_TYPE, "nurse")


def test_a_damaged_circle_ends() -> None:
    """The command line refuses circles; a file that has one all the same hangs nobody."""
    parties = [Party("a", Kind.DEVICE, belongs_to="b", may_send=("*",)), Party("b", Kind.DEVICE, belongs_to="a", may_send=("*",))]
    assert check(sent("a"), parties=parties) is None


def test_what_a_bundle_is_made_of() -> None:
    """A type of resource may be created and updated, alone or in a Bundle of nothing else; what is named as a whole may hold anything."""

    def rule(may_send: str, message_type: str, parts: str = "") -> Rule | None:
        facts = {"message.parts": parts} if parts else {}
        made = Snapshot([Party("t", Kind.DEVICE, may_send=(may_send,))])
        finding = made.check(Envelope(b"", FHIR_JSON, message_type, peer=party_uri("t"), facts=facts), "c")
        return finding.rule if finding else None

    assert rule("Observation", "Observation create") is None
    assert rule("Observation", "Observation update") is None
    assert rule("Observation", "Observation delete") is Rule.MESSAGE_TYPE
    assert rule("Observation", "ObservationDefinition create") is Rule.MESSAGE_TYPE
    assert rule("Observation delete", "Observation delete") is None
    assert rule("Observation", "Bundle transaction", "Observation create, Observation update") is None
    assert rule("Observation", "Bundle transaction", "Observation create, Patient create") is Rule.MESSAGE_TYPE
    assert rule("Observation", "Bundle transaction") is Rule.MESSAGE_TYPE
    assert rule("Bundle transaction", "Bundle transaction", "Patient delete") is None
