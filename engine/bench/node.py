"""A node under test: ``python -m engine run SITE`` in its own processes."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from engine.bench.loopback import HOST
from engine.bench.processes import cpu_seconds, resident_bytes
from engine.bench.site import BenchSite
from engine.errors import MeridianError

_LOOK_SECONDS: Final = 0.01


class Node:
    """Started on entering, when it is ready; stopped gracefully on leaving. `started_in` is in seconds, from the start of the process."""

    def __init__(self, site: BenchSite, ready_within: float = 60.0) -> None:
        self.site, self._ready_within = site, ready_within
        self._log: Path = site.folder / "node.log"
        self.started_in = 0.0

    def __enter__(self) -> Node:
        command = [sys.executable, "-m", "engine", "run", str(self.site.folder)]
        with self._log.open("ab") as log:
            began = time.monotonic()
            self._process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603  # ourselves
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > began + self._ready_within:
                self._process.kill()
                self._process.wait()
                raise MeridianError(f"the node did not become ready: {self._last_words()}")
            time.sleep(_LOOK_SECONDS)
        self.started_in = time.monotonic() - began
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """Used so far, by all its processes."""
        return cpu_seconds(self._process.pid)

    @property
    def resident_bytes(self) -> int:
        """All its processes together."""
        return resident_bytes(self._process.pid)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.site.http, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace").strip().rpartition("\n")[2] or "nothing said"
