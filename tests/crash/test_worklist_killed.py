"""A node is killed (SIGKILL, all its processes) while a modality performs steps. What was answered 0000H is kept, a step is never performed
twice, and whoever ordered hears of each beginning and each end, once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

from engine.bench.processes import tree
from engine.formats import hl7v2
from tests.support.department import Department
from tests.support.imaging import PID, hl7, segment
from tests.support.mllp_line import Line
from tests.support.peers import ROOT, ForeignPeer, python_script

FULL = os.environ.get("MERIDIAN_CRASH") == "full"
STEPS, KILLS = (400, 30) if FULL else (40, 3)
MODALITY = python_script(ROOT / "tests" / "interop" / "dicom_peers" / "busy_modality.py")
SETTLED = {"create": {0x0000, 0x0111}, "set": {0x0000, 0x0110}}
"""The second is what a repetition hears whose first answer was lost with the node."""


def ordered(number: int) -> tuple[str, ...]:
    obr = segment("OBR", f1="1", f4="CT^CT^L", f18=f"A{number}", f19=f"R{number}", f20=f"S{number}", f24="CT")
    return f"ORC|NW|O{number}", obr, f"ZDS|1.2.3.{number}"


def test_no_step_is_lost_or_performed_twice(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000)))
    department = Department(tmp_path / "site")
    todo = [[number, what] for number in range(1, STEPS + 1) for what in ("create", "set")]
    with department.site.running(), Line(department.orders_port) as line:
        orders = [part for number in range(1, STEPS + 1) for part in ordered(number)]
        assert hl7v2.decode(line.ask(hl7("ORM^O01", PID, *orders))).get("MSA-1") == "AA"
    for _ in range(KILLS):
        todo = _until_killed(department, todo, chance.randint(1, max(1, 2 * STEPS // KILLS)))
    with department.open(), ForeignPeer(MODALITY, port=department.port, todo=todo) as modality:
        said = modality.all_heard()
        assert len(said) == len(todo)
        assert all(status in SETTLED[what] for _, what, status in said)
    with sqlite3.connect(department.site.folder / "data" / "dicom-worklist.db") as database:
        assert database.execute("select status, count(*) from performances group by 1").fetchall() == [("COMPLETED", STEPS)]
        assert database.execute("select status, count(*) from steps group by 1").fetchall() == [("COMPLETED", STEPS)]
    arrived = [hl7v2.decode(body) for body in _arrived(department)]
    told = sorted((str(one.get("OBR-18")), str(one.get("ORC-5"))) for one in arrived)
    assert told == sorted((f"A{number}", status) for number in range(1, STEPS + 1) for status in ("IP", "CM"))


def _until_killed(department: Department, todo: list[list[object]], answers: int) -> list[list[object]]:
    """The node is killed after so many answers; gives what is not known to be done."""
    node = department.site.running()
    node.__enter__()
    with ForeignPeer(MODALITY, port=department.port, todo=todo) as modality:
        heard = [modality.heard() for _ in range(min(answers, len(todo)))]
        for process in tree(node._process.pid):
            os.kill(process, signal.SIGKILL)
        node._process.wait()
        while (more := modality.heard()) is not None:
            heard.append(more)
    assert all(status in SETTLED[what] for _, what, status in heard)
    done = {(number, what) for number, what, _ in heard}
    return [[number, what] for number, what in todo if (number, what) not in done]


def _arrived(department: Department) -> list[bytes]:
    """What the channel of whoever ordered has kept."""
    with sqlite3.connect(f"file:{department.site.folder}/data/meridian.db?mode=ro", uri=True) as database:
        rows = database.execute(
            "SELECT body FROM message JOIN body ON body.message = message.id WHERE channel = (SELECT id FROM channel WHERE name = 'lines') ORDER BY message.id"
        )
        return [body for (body,) in rows]
