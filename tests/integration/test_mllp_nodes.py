"""MLLP from node to node and into a node, each a process of its own: releases, modes, batches, repetitions, crowds."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.mllp import message, msa
from tests.support.mllp_line import Line
from tests.support.sites import Site


@contextmanager
def pair(folder: Path, source: dict[str, Any], destination: dict[str, Any]) -> Iterator[tuple[Site, Site]]:
    """A site that forwards to another, both running; its sender hears what the other one said."""
    far = Site(folder / "far", source)
    mllp = {"connect": f"127.0.0.1:{far.port}", **destination}
    near = Site(folder / "near", destinations=[{"name": "far", "mllp": mllp, "order": "strict"}], answer="from far")
    with far.running(), near.running():
        yield near, far


@pytest.mark.parametrize("release", [1, 2])
def test_original_and_enhanced_mode_from_node_to_node(tmp_path: Path, release: int) -> None:
    """What the far node says is what the sender hears, after the near one's accept acknowledgment where that was asked for."""
    asked = {"1": {}, "2": {"msh15": "AL"}, "3": {"msh15": "AL", "msh16": "AL"}, "4": {"msh15": "NE", "msh16": "AL"}}
    heard = {"1": ["AA"], "2": ["CA"], "3": ["CA", "AA"], "4": ["AA"]}
    with pair(tmp_path, {"release": release}, {"release": release, "timeout": "20s"}) as (near, far):
        with Line(near.port) as line:
            for control_id, fields in asked.items():
                line.say(message(control_id, **fields))
                assert [msa(line.heard()) for _ in heard[control_id]] == [f"{code}|{control_id}" for code in heard[control_id]]
        assert [one.control_id for one in far.kept()] == list(asked)
    assert (near.delivered(), near.waiting()) == (list(asked), 0)


def test_who_asks_for_no_answer_is_delivered_all_the_same(tmp_path: Path) -> None:
    """Release 2: its commit acknowledgment is the receipt."""
    with pair(tmp_path, {"release": 2}, {"release": 2, "when_not_asked": "settle"}) as (near, far), Line(near.port) as line:
        line.say(message("1", msh15="NE", msh16="NE"))
        assert msa(line.ask(message("2"))) == "AA|2"
        assert [one.control_id for one in far.kept()] == ["1", "2"]
    assert near.delivered() == ["1", "2"]


def test_what_the_far_node_refuses(tmp_path: Path) -> None:
    """It is a dead letter, the sender hears why, and the next message passes."""
    with pair(tmp_path, {"senders": {"*": ["LAB|HOSP"]}}, {}) as (near, _), Line(near.port) as line:
        refused = line.ask(message("1").replace(b"|LAB|", b"|HIS|"))
        assert msa(refused).startswith("AR|1")
        assert msa(line.ask(message("2"))) == "AA|2"
    assert (near.delivered(), near.dead()) == (["2"], {"1": "answered AR, condition 207"})


def test_a_file_of_batches(tmp_path: Path) -> None:
    """Each message is one of its own, each batch has its answer; sent again it hears the same acknowledgments, and is kept once."""
    site = Site(tmp_path)
    file = b"FHS|^~\\&|LAB|HOSP\rBHS|^~\\&|LAB|HOSP|||||||B1\r" + message("1") + message("2") + b"BTS|2\rBHS|^~\\&|LAB|HOSP|||||||B2\r"
    file += message("3") + b"BTS|1\rFTS|2\r"
    with site.running(), Line(site.port) as line:
        answer, again = line.ask(file), line.ask(file)
    lines = answer.split(b"\r")
    assert [one[:3] for one in lines] == [
        b"FHS", b"BHS", b"MSH", b"MSA", b"MSH", b"MSA", b"BTS", b"BHS", b"MSH", b"MSA", b"BTS", b"FTS", b"",
    ]  # fmt: skip
    assert [one for one in again.split(b"\r") if one[1:3] not in (b"HS",)] == [one for one in lines if one[1:3] not in (b"HS",)]
    assert [one.control_id for one in site.kept()] == ["1", "2", "3"]


def test_a_repetition_hears_the_stored_answer(tmp_path: Path) -> None:
    """Byte for byte, over another connection, after a restart, and though its MSH-7 is new; other content under its control id is 205."""
    site = Site(tmp_path)
    with site.running(), Line(site.port) as line:
        answer = line.ask(message("1"))
    with site.running(), Line(site.port) as line:
        assert line.ask(message("1").replace(b"20261123081500", b"20261123081501")) == answer
        reused = line.ask(message("1", body="PID|1||4712"))
        assert (msa(reused), b"|205^" in reused) == ("AE|1", True)
    assert [one.verdict for one in site.kept()] == ["accepted", "invalid"]


def test_more_connections_than_files_that_a_process_usually_may_open(tmp_path: Path) -> None:
    """The node asks for what the system allows it at most."""
    many = 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    site = Site(tmp_path)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (many, hard))
        try:
            stack.enter_context(site.running())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        lines = [stack.enter_context(Line(site.port)) for _ in range(many)]
        for number, line in enumerate(lines):
            assert msa(line.ask(message(str(number)))) == f"AA|{number}"
    assert len(site.kept()) == many
