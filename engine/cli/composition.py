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
    """A loaded site, ready to become a Node."""

    settings: NodeSettings
    channels: tuple[Channel, ...]
    certs: Path
    store_options: dict[str, Any]
    log_level: str


def compose(folder: Path) -> Composition:
    """Raises ConfigError with every fault of the site."""
    site = load(folder)
    node, store = site.node, site.node.store
    settings = NodeSettings(
        name=node.name,
        party=node.party,
        site=folder,
        data=site.data,
        http=(node.http.listen[0] or "127.0.0.1", node.http.listen[1]) if node.http else None,
        workers=node.workers,
        retention=store.retention,
        audit_strict=node.audit == "strict",
    )
    options = {"inline_limit": store.inline_limit, "min_free": store.min_free}
    return Composition(settings, site.channels, site.certs, options, node.log.level)
