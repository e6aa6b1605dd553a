"""Processes that lose their power: all of a tree at once, and none of them is left when it returns."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from engine.bench.processes import tree
from tests.support.waiting import until


def kill_tree(root: int) -> None:
    """SIGKILL `root` and all that descend from it. Its parent still has to wait for it."""
    _send(root, signal.SIGSTOP)  # so that it makes no further children while they are counted
    found = tree(root)
    for pid in found:
        _send(pid, signal.SIGKILL)
    until(lambda: not any(map(_runs, found)), "the killed processes to end")


def _send(pid: int, which: signal.Signals) -> None:
    try:
        os.kill(pid, which)
    except ProcessLookupError:
        pass


def _runs(pid: int) -> bool:
    """A zombie has given back all it held: files, locks, shared memory, sockets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
