"""kill -9 of a process that changes the registry: whatever it said was done is there, each change whole, and the next one goes through."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from engine.parties import Registry
from engine.parties.model import together

KILLS = 6
ROOT = Path(__file__).parents[2]

# Each change registers a device, moves the one serial number on to it, and counts the devices in the name of "all".
CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from engine.parties import Kind, Mark, Party, Registry

registry, tag, number = Registry(Path(sys.argv[1])), sys.argv[2], 0
while True:
    number += 1
    with registry.change() as parties:
        for name, party in parties.items():
            if party.of(Mark.SERIAL):
                parties[name] = replace(party, marks=())
        parties[f"{tag}-{number}"] = Party(f"{tag}-{number}", Kind.DEVICE, marks=((Mark.SERIAL, "LAST"),))
        parties["all"] = Party("all", Kind.INSTITUTION, name=str(len(parties.keys() - {"all"})))
    print(f"{tag}-{number}", flush=True)
"""


def changed_and_killed(folder: Path, tag: str, lines: int) -> list[str]:
    """What the child had said was done when it was killed, after `lines` of it were read."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), tag], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    try:
        heard = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        heard += child.stdout.read().splitlines(keepends=True)
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    return [line.strip() for line in heard if line.endswith("\n")]


def test_what_was_said_to_be_registered_is(tmp_path: Path) -> None:
    """Killed at random points, on the same file each time; a mark is never lost between two parties."""
    chance = random.Random(7)
    told: set[str] = set()
    for kill in range(KILLS):
        told.update(changed_and_killed(tmp_path, f"k{kill}", chance.randrange(1, 40)))
        with Registry(tmp_path) as registry:
            parties = registry.parties()
        devices = parties.keys() - {"all"}
        assert told <= devices
        assert len(devices) <= len(told) + kill + 1, "at most the one change that was under way at each kill"
        assert parties["all"].name == str(len(devices))
        assert sum(bool(party.marks) for party in parties.values()) == 1
        assert list(together(parties)) == []
