"""The demo's two sites, written as `meridian init` and an engineer would: a province platform and a county hospital. Their channels are in
channels/, with names for the ports."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

from certs import Authority
from engine.demo import interactions
from engine.demo.instruments import MODELS, SerialCable
from engine.demo.nodes import NodeFolder
from engine.demo.old_laboratory import RULES, create, tables
from engine.demo.writing import FACILITY

PLATFORM: Final = "province-platform"
HOSPITAL: Final = "county-hospital"
LABORATORY: Final = "county-laboratory"

VENDOR: Final = "county-vendor"
CHANNELS: Final = Path(__file__).parent / "channels"
"""Channel files with ``${port}``."""

_NODE: Final = """\
name: {name}
party: {name}
level: {level}
http: 127.0.0.1:{http}
"""
_OF_THE_PLATFORM: Final = ("intake",)
_RADIOLOGY_PORTS: Final = ("radiology", "dicom", "pacs", "his")


class Landscape:
    """Both sites below one folder, with one private authority for all."""

    def __init__(self, folder: Path, reactor: Any) -> None:
        self.folder = folder
        self.cable = SerialCable(reactor)
        names = ("platform_http", "hospital_http", "fhir", "mllp", "mllp_tls", "coagulation", "analyzer", "work", "hip", *_RADIOLOGY_PORTS)
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.platform = NodeFolder(PLATFORM, folder / PLATFORM, self.ports["platform_http"])
        self.hospital = NodeFolder(HOSPITAL, folder / HOSPITAL, self.ports["hospital_http"])
        self.laboratory_certs, self.vendor_certs = folder / LABORATORY, folder / VENDOR
        self.old_laboratory = folder / "old-laboratory.db"
        self.landed = self.platform.site / "data" / "landed.db"

    def write(self) -> None:
        """Make the authority, the certificates and the files."""
        authority = Authority.create(self.folder / "authority", "Meridian demo CA")
        for node in (self.platform, self.hospital):
            authority.issue(node.name, dns=("localhost",), ips=("127.0.0.1",), out=node.site / "certs")
        authority.issue(LABORATORY, dns=("localhost",), out=self.laboratory_certs)
        create(self.old_laboratory)
        authority.issue(VENDOR, dns=("localhost",), out=self.vendor_certs)
        every = {file.stem: file.read_text("utf-8") for file in sorted(CHANNELS.glob("*.yaml"))}
        self._site(self.platform, "province", {name: every.pop(name) for name in _OF_THE_PLATFORM})
        self._site(self.hospital, "hospital", every)
        mappings = self.hospital.site / "mappings"
        self._tests(mappings / "astm-to-fhir")
        _table(mappings / "dicom-to-fhir" / "senders.csv", "sender,facility,patients,orders", f"*,{FACILITY},{FACILITY},RIS")
        self._rules(mappings / "rows-to-fhir")
        whose = f"{interactions.VENDOR},{FACILITY},{FACILITY},EMR,{FACILITY}"
        _table(mappings / "hip-to-fhir" / "senders.csv", "sender,facility,patients,orders,visits", whose)

    def _site(self, node: NodeFolder, level: str, channels: Mapping[str, str]) -> None:
        (node.site / "channels").mkdir(parents=True)
        (node.site / "meridian.yaml").write_text(_NODE.format(name=node.name, level=level, http=node.http_port))
        for name, text in channels.items():
            written = Template(text).substitute(self.ports, blood_gas=self.cable.device, old_laboratory=self.old_laboratory)
            (node.site / "channels" / f"{name}.yaml").write_text(written)

    @staticmethod
    def _tests(folder: Path) -> None:
        """What the laboratory says of its instruments."""
        rows = [f"{model.name},{FACILITY},{FACILITY},{model.name}" for model in MODELS]
        _table(folder / "instruments.csv", "sender,facility,authority,tests", *rows)
        for model in MODELS:
            codes = [f'{one.local},{one.loinc},"{one.name}",{one.unit}' for one in model.analytes]
            _table(folder / "tests" / f"{model.name}.csv", "code,to,display,unit", *codes)

    @staticmethod
    def _rules(folder: Path) -> None:
        """What the hospital says of the old laboratory's table."""
        for name, rows in tables().items():
            _table(folder / "codes" / f"{name}.csv", *rows)
        (folder / "orders.yaml").write_text((RULES / "orders.yaml").read_text("utf-8"), "utf-8")


def _table(file: Path, *rows: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*rows, ""]))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
