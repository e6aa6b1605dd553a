"""A benchmark is an attack on whoever it is aimed at: it is aimed at this machine only."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from engine.errors import ConfigError

HOST: Final = "127.0.0.1"


def only_loopback(host: str) -> str:
    """`host` if it is a loopback address in figures. Raises ConfigError for every other, and for names, which could lead anywhere."""
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ConfigError(f"the benchmark runs against this machine only (127.0.0.1, ::1), not against {host!r}")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
