"""An imaging department: a node that takes orders, offers a worklist, and tells whoever ordered."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.bench.loopback import HOST, free_port
from engine.formats import hl7v2
from tests.support.mllp_line import Line
from tests.support.sites import Site
from tests.support.waiting import until


class Department:
    """A site: orders come in on one channel, modalities on another, and what is told of them goes to a third, which keeps it."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)  # its channel `lines` is whoever ordered
        self.orders_port, self.port = free_port(), free_port()
        worklist = {"name": "worklist", "dicom_worklist": {"report": True}}
        self._channel("orders", {"mllp": {"listen": f"{HOST}:{self.orders_port}"}}, worklist, answer="from worklist")
        modalities = {"dicom": {"listen": f"{HOST}:{self.port}", "called": ["MERIDIAN", "OFFIS"], "worklist": {}, "procedure_steps": True}}
        self._channel("modalities", modalities, worklist, answer="from worklist")
        told = {"name": "told", "mllp": {"connect": f"{HOST}:{self.site.port}"}, "order": "by patient"}
        self._channel("status", {"dicom_worklist": {"poll": "50ms"}}, told)

    def _channel(self, name: str, source: Any, destination: Any, **more: Any) -> None:
        channel = {"name": name, "source": source, "destinations": [destination], **more}
        (self.site.folder / "channels" / f"{name}.yaml").write_text(json.dumps(channel))

    @contextmanager
    def open(self) -> Iterator[Line]:
        """The node is up; gives a line for orders. It ends when everything is told."""
        with self.site.running(), Line(self.orders_port) as line:
            yield line
            until(lambda: not self.site.waiting() and not self._unreported(), "the last report")

    def _unreported(self) -> int:
        with sqlite3.connect(f"file:{self.site.folder}/data/dicom-worklist.db?mode=ro", uri=True) as database:
            return int(database.execute("select count(*) from changes").fetchone()[0])

    def told(self) -> list[tuple[str, str]]:
        """Accession number and ORC-5 of what was told."""
        messages = [hl7v2.decode(kept.body) for kept in self.site.kept() if kept.body.startswith(b"MSH") and b"ORC|SC" in kept.body]
        return list(dict.fromkeys((str(one.get("OBR-18")), str(one.get("ORC-5"))) for one in messages))
