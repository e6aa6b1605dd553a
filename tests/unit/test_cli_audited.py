"""Reading messages on the command line is audited: who, which message, when; never what was in it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.audit import records, verify
from engine.cli import messages, queue
from engine.message import ACCEPTED, HL7V2, Envelope, Status
from engine.store.contract import Found, Kept, Step
from tests.support.cli import Said, meridian

USER = pwd.getpwuid(os.getuid()).pw_name
BODY = b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|C7|P|2.5\rPID|1||4711||Lin^Mei\r"
FOUND = Found(7, "adt", 1, "ADT^A01", "C7", "A|B", "", Status.SENT, len(BODY))
KEPT = Kept(FOUND, Envelope(BODY, HL7V2), ACCEPTED, b"", ())


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    """`meridian` in a site whose store has one message: what a store gives is set, no reactor runs."""
    (tmp_path / "meridian.yaml").write_text("name: n\nparty: n\n")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "with_store", lambda site, work: KEPT)
    monkeypatch.setattr(queue, "with_store", lambda site, work: [])
    monkeypatch.setenv("LOGNAME", "somebody-else")
    return meridian(monkeypatch, capfd)


@pytest.mark.parametrize(
    ("arguments", "part", "shown"),
    [(("show", 7), "content", "Lin^Mei"), (("show", 7, "--raw"), "raw", "Lin^Mei"), (("trace", 7), "steps", "steps")],
)
def test_who_saw_what(cli: Callable[..., Said], tmp_path: Path, arguments: tuple[object, ...], part: str, shown: str) -> None:
    """The user of the process, whatever the environment claims; nothing of the patient."""
    assert shown in cli("messages", *arguments).out
    (record,) = records(tmp_path / "data/audit")
    assert record.event == "messages.shown"
    assert record.facts == {"user": USER, "message": "7", "channel": "adt", "control_id": "C7", "part": part}
    assert record.at > 1_700_000_000_000_000
    assert verify(tmp_path / "data/audit") == []


def test_what_a_destination_said_of_a_dead_letter_is_shown(cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the message, since its answer may have content; not in the steps alone."""
    steps = (
        Step(1, Status.ERROR, "platform", 1, "", "not accepted", "患者不存在".encode()),
        Step(2, Status.SENT, "other", 1, "", "", b"fine"),
    )
    monkeypatch.setattr(messages, "with_store", lambda site, work: replace(KEPT, steps=steps))
    shown = cli("messages", "show", 7).out
    assert "platform answered:\n患者不存在" in shown
    assert "fine" not in shown
    assert "患者不存在" not in cli("messages", "trace", 7).out


def test_a_search_by_patient(cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That somebody looked for a patient, not for whom; other searches show no content and are not audited."""
    monkeypatch.setattr(messages, "with_store", lambda site, work: [FOUND])
    cli("messages", "search", "--patient", "4711")
    cli("messages", "search", "--control-id", "C7")
    (record,) = records(tmp_path / "data/audit")
    assert (record.event, record.facts) == ("messages.searched", {"user": USER, "by": "patient"})


def test_what_is_changed(cli: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resend, with sudo's user beside root's."""
    monkeypatch.setenv("SUDO_USER", "anna")
    monkeypatch.setattr(messages, "with_store", lambda site, work: 1)
    assert cli("messages", "resend", 7, 8).code == 0
    (record,) = records(tmp_path / "data/audit")
    assert (record.facts["messages"], record.facts["sudo"]) == ("7 8", "anna")


def test_nothing_is_shown_unaudited(cli: Callable[..., Said], tmp_path: Path) -> None:
    """Where the record cannot be written, the content stays where it is."""
    (tmp_path / "data/audit").write_text("a file in the way")
    said = cli("messages", "show", 7)
    assert (said.code, said.out) == (2, "")
    assert "must be audited" in said.err


def test_a_site_that_has_not_run(cli: Callable[..., Said], tmp_path: Path) -> None:
    """Says that, and makes no folder."""
    (tmp_path / "data").rmdir()
    assert "has not run yet" in cli("messages", "resend", 7).err
    assert not (tmp_path / "data").exists()


def test_verify_with_a_copy_of_the_head(cli: Callable[..., Said], tmp_path: Path) -> None:
    """A copy kept elsewhere proves the log; a missing copy is a user's error."""
    cli("messages", "show", 7)
    (tmp_path / "copy.json").write_bytes((tmp_path / "data/audit/head.json").read_bytes())
    assert cli("audit", "verify", "--head", "copy.json").out == "whole: 1 records\n"
    (tmp_path / "data/audit/head.json").unlink()
    assert "head.json is gone" in cli("audit", "verify", "--head", "copy.json").out
    assert cli("audit", "verify", "--head", "nowhere.json").code == 2
