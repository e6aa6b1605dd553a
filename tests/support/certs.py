"""A private authority and nodes' folders, made in a temporary folder."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

from certs import Authority
from engine.observe import Metrics
from engine.tls import TlsProvider


class Trust:
    """One authority; `provider` gives a node's TlsProvider; `audited` collects what it audits."""

    def __init__(self, folder: Path, reactor: Any) -> None:
        self.folder, self.reactor = folder, reactor
        self.authority = Authority.create(folder / "authority", "test authority")
        self.audited: list[tuple[str, dict[str, Any]]] = []

    def issue(self, party: str, profile: str = "node", valid_for: timedelta | None = None, **more: Any) -> Path:
        """The folder with node.pem and node.key of `party`, good for localhost and 127.0.0.1."""
        out = self.folder / party
        names = {"dns": ("localhost",), "ips": ("127.0.0.1",)} if profile == "node" else {}
        issued = self.authority.issue(party, profile, out=out, valid_for=valid_for, **names, **more)
        if issued.stem != "node":
            (out / f"{issued.stem}.pem").rename(out / "node.pem")
            (out / f"{issued.stem}.key").rename(out / "node.key")
        return out

    def provider(self, party: str, folder: Path | None = None) -> TlsProvider:
        return TlsProvider(
            folder or self.issue(party),
            reactor=self.reactor,
            log=logging.getLogger("test.tls"),
            metrics=Metrics(),
            audit=lambda event, **facts: self.audited.append((event, facts)),
        )
