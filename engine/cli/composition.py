"""What `meridian run` needs of a site, taken from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channels import load
from engine.channel import Channel
from engine.service import NodeSettings


@dataclass(frozen=True)
class Composition:
    """A loaded site, ready to become a Node. Raises ConfigError with every fault of the site when it cannot be."""

    settings: NodeSettings
    channels: tuple[Channel, ...]
    certs: Path
    store_options: dict[str, Any]
    log_level: str


def compose(site: Path) -> Composition:
    loaded = load(site)
    return Composition(loaded)  # type: ignore
