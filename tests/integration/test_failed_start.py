"""A node that cannot start ends, with the reason on standard error and exit code 2; it does not stay behind with its threads."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

CHANNEL = """\
name: lab
source:
  mllp: {listen: "127.0.0.1:PORT"}
destinations:
  - name: platform
    fhir: {url: "https://platform.example/fhir", auth: {bearer: "env:PLATFORM_TOKEN"}}
"""


def start(site: Path, token: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PLATFORM_TOKEN"}
    if token is not None:
        environment["PLATFORM_TOKEN"] = token
    command = [sys.executable, "-m", "engine", "run", str(site)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "channels/lab.yaml:6: destinations[1].fhir.auth.bearer: the environment variable PLATFORM_TOKEN is not set"),
        ("Tr0ub4dor 3", "PLATFORM_TOKEN holds no bearer token"),
        ("abc", "the certificates in"),
    ],
)
def test_it_ends_and_says_why(tmp_path: Path, token: str | None, said: str) -> None:
    """A missing secret, a wrong one, no certificates: each found at another point of the start."""
    (tmp_path / "channels").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "channels/lab.yaml").write_text(CHANNEL.replace("PORT", str(taken.getsockname()[1])))
        (tmp_path / "meridian.yaml").write_text("name: n\nparty: n\n")
        done = start(tmp_path, token)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Tr0ub4dor" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The last step of a start, when everything else runs already."""
    (tmp_path / "channels").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        text = CHANNEL.replace("PORT", port).replace("https://platform.example/fhir", "http://localhost:1/fhir")
        (tmp_path / "channels/lab.yaml").write_text(text)
        (tmp_path / "meridian.yaml").write_text("name: n\nparty: n\n")
        done = start(tmp_path, "abc")
    assert done.returncode == 2, done.stderr
    assert port in done.stderr
