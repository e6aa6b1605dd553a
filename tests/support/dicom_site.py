"""A running node with a channel `images` from a DICOM port, and what it has kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.dicom.instances import Facts, read_file_facts
from engine.bench.loopback import HOST, free_port
from tests.support.sites import Site


@dataclass(frozen=True)
class Instance:
    """One SOP instance in the store; `data_set` are its bytes without the file meta information."""

    control_id: str
    verdict: str
    reason: str
    peer: str
    facts: Facts
    data_set: bytes


class DicomSite(Site):
    """`options` are the DICOM source's."""

    def __init__(self, folder: Path, options: dict[str, Any] | None = None, **channel: Any) -> None:
        super().__init__(folder)
        self.dicom = free_port()
        images = {
            "name": "images",
            "source": {"dicom": {"listen": f"{HOST}:{self.dicom}", **(options or {})}},
            "destinations": [],
            **channel,
        }
        (folder / "channels" / "images.yaml").write_text(json.dumps(images))

    def instances(self) -> list[Instance]:
        """In the order of arrival."""
        sql = (
            "SELECT control_id, verdict, message.reason, peer, lower(hex(digest)), typeof(digest), digest, body FROM message"
            " LEFT JOIN body ON body.message = message.id ORDER BY message.id"
        )
        found = []
        for control_id, verdict, reason, peer, in_hex, kind, digest, body in self._rows(sql):
            content = body
            if content is None:
                name = in_hex if kind == "blob" else digest
                content = (self.folder / "data" / "bodies" / name[:2] / name[2:]).read_bytes()
            facts = read_file_facts(content)
            found.append(Instance(control_id, verdict, reason or "", peer, facts, content[facts.meta_length :]))
        return found
