"""The benchmark's processes: peers that speak JSON lines, and what a tree of processes has used (proc(5))."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from engine.bench.generator import Load
from engine.errors import MeridianError

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Peer:
    """One of the peer processes, started on entering and ended on leaving. `port` is where it listens."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self.port = 0

    def __enter__(self) -> Peer:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own module
        self.port = self._read()["port"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def counts(self) -> dict[str, Any]:
        """What a sink has counted so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise MeridianError(f"{self._command[2]} ended unexpectedly")
        answer: dict[str, Any] = json.loads(line)
        return answer


def generate(load: Load, module: str = "engine.bench.generator") -> dict[str, Any]:
    """Run a load generator in its own process; gives its report."""
    command = [sys.executable, "-m", module, json.dumps(asdict(load))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own module
    if done.returncode:
        raise MeridianError(f"the load generator failed: {(done.stderr.strip() or 'nothing said').splitlines()[-1]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def tree(root: int) -> list[int]:
    """`root` and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found = [root]
    for process in found:  # grows while it runs
        found += [child for child, parent in parents.items() if parent == process]
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a tree of processes, with its children that have ended."""
    return sum(sum(map(int, fields[11:15])) for process in tree(root) if (fields := _stat(process))) / _TICKS


def resident_bytes(root: int) -> int:
    """Resident memory of a tree of processes, added up: pages they share count once for each."""
    return sum(int(fields[21]) for process in tree(root) if (fields := _stat(process))) * _PAGE


def peak_bytes(root: int) -> int:
    """The most resident memory that each process of a tree has had, added up."""
    return sum(_peak(process) for process in tree(root))


def _peak(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _stat(process: int) -> list[str]:
    """/proc/PID/stat from its third field (state) on; empty where the process has gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
