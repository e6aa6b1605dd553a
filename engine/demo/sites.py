"""The demo's two sites, written as `meridian init` and an engineer would: a province platform and a county hospital. Their channels are in
channels/, with names for the ports."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any, Final

from certs import Authority
from engine.demo import center, interactions, terminals
from engine.demo.instruments import MODELS, SerialCable
from engine.demo.nodes import NodeFolder
from engine.demo.old_laboratory import RULES, create, tables
from engine.demo.writing import FACILITY
from engine.parties.keys import key_id, public_keys
from engine.parties.model import Kind, Party
from engine.parties.registry import Registry

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
        names: tuple[str, ...] = ("platform_http", "hospital_http", "fhir", "mllp", "mllp_tls", "coagulation", "analyzer", "work", "hip")
        names += (*_RADIOLOGY_PORTS, "terminals", "sftp")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.platform = NodeFolder(PLATFORM, folder / PLATFORM, self.ports["platform_http"])
        self.hospital = NodeFolder(HOSPITAL, folder / HOSPITAL, self.ports["hospital_http"])
        self.laboratory_certs, self.vendor_certs = folder / LABORATORY, folder / VENDOR
        self.old_laboratory = folder / "old-laboratory.db"
        self.terminals, self.center_key = folder / "terminals", folder / center.NAME / "id_ed25519"
        self.landed = self.platform.site / "data" / "landed.db"

    def write(self) -> None:
        """Make the authority, the certificates and the files."""
        authority = Authority.create(self.folder / "authority", "Meridian demo CA")
        for node in (self.platform, self.hospital):
            authority.issue(node.name, dns=("localhost",), ips=("127.0.0.1",), out=node.site / "certs")
        authority.issue(LABORATORY, dns=("localhost",), out=self.laboratory_certs)
        create(self.old_laboratory)
        authority.issue(VENDOR, dns=("localhost",), out=self.vendor_certs)
        self._center_public = center.make_key(self.center_key)
        center.make_key(self.host_key)
        for terminal in terminals.TERMINALS:
            authority.issue(terminal, out=self.terminals / terminal)
        authority.revoke(terminals.STOLEN, "keyCompromise")
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
            written = Template(text).substitute(self.ports, **self._words())
            (node.site / "channels" / f"{name}.yaml").write_text(written)

    @property
    def host_key(self) -> Path:
        """That of the hospital's SFTP server; its public half lies beside it."""
        return self.hospital.site / "certs" / "ssh_host_key"

    def _words(self) -> dict[str, object]:
        return {"blood_gas": self.cable.device, "old_laboratory": self.old_laboratory, "center_key": self._center_public}

    def register(self, made: Iterable[terminals.Visit]) -> None:
        """What the hospital knows of its terminals: what each may send, and of whom."""
        data = self.hospital.site / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        with Registry(data) as registry, registry.change() as parties:
            for visit in made:
                own = tuple(sorted({f"{terminals.RECORDS}|{one.record_number}" for one in visit.patients}))
                keys = tuple(self._keys(visit.terminal)) if visit.terminal == terminals.WITH_TOKEN else ()
                parties[visit.terminal] = Party(
                    visit.terminal, Kind.DEVICE, may_send=("Patient", "Observation"), channels=(terminals.CHANNEL,), patients=own, keys=keys
                )

    def _keys(self, terminal: str) -> list[str]:
        folder = self.terminals / terminal
        keys = public_keys(terminals.make_key(folder).decode())
        (folder / terminals.KEY_ID).write_text(key_id(keys[0]))
        return keys

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
        for rules in (RULES / "orders.yaml", center.RULES):
            (folder / rules.name).write_text(rules.read_text("utf-8"), "utf-8")


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
