"""Waiting for what another process does by itself, where there is no event to await."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
_LOOK_SECONDS: Final = 0.05


def until(condition: Callable[[], object], what: str = "what was waited for", seconds: float = PATIENCE) -> None:
    """Return once `condition` gives something true; it is asked again and again."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"{what} did not come in {seconds:g} s"
        time.sleep(_LOOK_SECONDS)


def until_listening(port: int, host: str = "127.0.0.1") -> None:
    """Return once somebody takes connections at a port."""

    def answers() -> bool:
        with socket.socket() as one:
            return one.connect_ex((host, port)) == 0

    until(answers, f"a listener on port {port}")
