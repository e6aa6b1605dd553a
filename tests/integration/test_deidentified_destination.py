"""A channel with two destinations, one of them de-identified, in a node of its own; and what the check of a site says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from channels import load
from channels.harness import result_of
from engine.errors import ConfigError
from engine.formats.hl7v2 import decode
from tests.support.deidentify import KEY, policy
from tests.support.mllp import message, msa
from tests.support.mllp_line import Line
from tests.support.sites import Site
from tests.support.waiting import until

DEIDENTIFY = {"key": "file:key", "dates": "shift"}


def near_and_far(folder: Path, **options: Any) -> tuple[Site, Site, Site]:
    """A site that sends to a clinic as it is and to research without its patients."""
    clinic, research = Site(folder / "clinic"), Site(folder / "research")
    destinations = [
        {"name": "clinic", "mllp": {"connect": f"127.0.0.1:{clinic.port}"}, "order": "none"},
        {"name": "research", "mllp": {"connect": f"127.0.0.1:{research.port}"}, "deidentify": {**DEIDENTIFY, **options}},
    ]
    near = Site(folder / "near", destinations=destinations, answer="from research")
    (near.folder / "key").write_text(KEY)
    (near.folder / "key").chmod(0o600)
    return near, clinic, research


def test_research_gets_pseudonyms_and_the_clinic_its_patients(tmp_path: Path) -> None:
    """What cannot be de-identified is a dead letter of research alone; the clinic has it."""
    near, clinic, research = near_and_far(tmp_path)
    held = message("2", body="PID|1||4711^^^H^MR||Doe^Joanna\rOBX|1|CWE|X^Joanna's glucose^L||C^high^L")
    with clinic.running(), research.running(), near.running(), Line(near.port) as line:
        assert msa(line.ask(message("1", body="PID|1||4711^^^H^MR||Doe^Joanna||19470131"))) == "AA|1"
        assert msa(line.ask(held)).startswith("AE|2")
        assert msa(line.ask(message("3"))) == "AA|3"
        until(lambda: {kept.control_id for kept in clinic.kept()} == {"1", "2", "3"}, "the third message")
    assert held in [kept.body for kept in clinic.kept()]
    at_research = research.kept()
    assert [kept.control_id for kept in at_research] == ["1", "3"]
    pseudonym = policy().pseudonyms.identifier("urn:meridian:ns:H", "4711")
    assert [decode(kept.body).get("PID-3.1") for kept in at_research] == [pseudonym, pseudonym]
    assert not [kept for kept in at_research if b"4711" in kept.body or b"Joanna" in kept.body]
    assert near.dead() == {"2": "quarantined: OBX-3: the result still holds what identifies the patient"}


def test_the_tests_of_a_channel_see_what_leaves(tmp_path: Path) -> None:
    """As the destination would get it."""
    near, _, _ = near_and_far(tmp_path)
    (channel,) = load(near.folder).channels
    sent = result_of(channel, message("1"))["destinations"]
    assert sent["clinic"] == "as received"
    assert sent["research"][1].startswith(f"PID|1||{policy().pseudonyms.identifier('urn:meridian:ns:H', '4711')}^^^H^MR")
    held = message("2", body="PID|1||4711^^^H^MR||Doe^Joanna\rOBX|1|CWE|X^Joanna^L||C^high^L")
    assert result_of(channel, held)["destinations"]["research"].startswith("quarantined: OBX-3")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"options": ["retain-uid"]}, "did you mean 'retain-uids'"),
        ({"private": ["0019,10 X"]}, ""),
        ({"private": ["everything"]}, "names no private attribute"),
        ({"key": "file:nowhere"}, "cannot read the secret's file"),
        ({"key": "file:short"}, "at least 32 characters"),
        ({"key": KEY}, "a secret is never written here"),
        ({"profile": "complete"}, "is not one of the choices"),
    ],
)
def test_a_site_is_checked(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    """With file and line, before anything runs."""
    near, _, _ = near_and_far(tmp_path, **options)
    (near.folder / "short").write_text("too short")
    if not told:
        assert load(near.folder).channels
        return
    with pytest.raises(ConfigError) as caught:
        load(near.folder)
    assert told in str(caught.value)
    assert "channels/lines.yaml:1" in str(caught.value)


def test_what_can_never_be_deidentified_is_told_at_the_check(tmp_path: Path) -> None:
    """ASTM as it comes; mapped it can be."""
    near, _, _ = near_and_far(tmp_path)
    file = near.folder / "channels/lines.yaml"
    channel = orjson.loads(file.read_bytes())
    channel["source"] = {"astm": {"listen": "127.0.0.1:0"}}
    file.write_bytes(orjson.dumps(channel))
    with pytest.raises(ConfigError, match="cannot be de-identified as it comes"):
        load(near.folder)
