"""Foreign software that tests need: skipped with the reason where it is missing, an error under CI=true."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds after which a peer that hangs is ended, so that its test fails and says so."""


def require(there: bool, reason: str) -> None:
    """Skip the calling test with `reason` unless `there`; in CI the peer was to be installed, so fail."""
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"a required peer is missing: {reason}")
    pytest.skip(reason)


def node_modules() -> Path:
    """Where npm has put its packages."""
    return Path(os.environ.get("MERIDIAN_NODE_MODULES", ROOT / "node_modules"))


def node_script(script: Path, package: str, folder: Path) -> list[str]:
    """The command that runs `script` by Node.js, copied to `folder`, where it finds `package`."""
    node = shutil.which("node")
    require(node is not None, "node is not installed")
    modules = node_modules()
    require((modules / package).is_dir(), f"npm {package} is not installed")
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(modules.resolve())
    if script.parent != folder:
        script = Path(shutil.copy(script, folder))
    return [str(node), str(script)]


def python_script(script: Path) -> list[str]:
    return [sys.executable, str(script)]


class ForeignPeer:
    """A peer's process. It gets one JSON argument, says JSON lines, and ends with its standard input."""

    def __init__(self, command: list[str], **asked: Any) -> None:
        self._command = [*command, json.dumps(asked)]

    def __enter__(self) -> "ForeignPeer":
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._watchdog = threading.Timer(PATIENCE, self._process.kill)
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._watchdog.cancel()

    def heard(self) -> Any:
        """The next line, None at its end."""
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def all_heard(self) -> list[Any]:
        """What it has to say until it ends by itself. Fails with its last words where it ends badly."""
        said, errors = self._process.communicate()
        assert self._process.returncode == 0, f"{self._command[:2]} ended with {self._process.returncode}: {errors[-2000:]}"
        return [json.loads(line) for line in said.splitlines()]
