"""Writes the sites that are measured: real ones, as `meridian init` would make them, with the store's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from certs import Authority
from engine.bench.loopback import HOST, free_port


@dataclass(frozen=True, slots=True)
class BenchSite:
    """A site folder and the ports of its node: of its source, and of its metrics."""

    folder: Path
    port: int
    http: int


def write_site(folder: Path, channel: dict[str, Any], *, workers: int = 1, protocol: str = "mllp", **options: Any) -> BenchSite:
    """A site with one channel, `bench`: a source of this protocol on loopback with further `options`, then what `channel` says."""
    site = BenchSite(folder, free_port(), free_port())
    node = {"name": "bench", "party": "bench", "workers": workers, "http": {"listen": f"{HOST}:{site.http}"}}
    source = {protocol: {"listen": f"{HOST}:{site.port}", **options}}
    (folder / "channels").mkdir(parents=True)
    _write(folder / "meridian.yaml", node)
    _write(folder / "channels" / "bench.yaml", {"name": "bench", "source": source, **channel})
    return site


def _write(file: Path, node: dict[str, Any]) -> None:
    """As JSON, which is YAML."""
    file.write_bytes(orjson.dumps(node, option=orjson.OPT_INDENT_2) + b"\n")


def ingest_only() -> dict[str, Any]:
    """Kept and answered; goes nowhere."""
    return {"destinations": []}


def pass_through(port: int, in_flight: int = 16) -> dict[str, Any]:
    """To an MLLP receiver."""
    mllp = {"connect": f"{HOST}:{port}", "in_flight": in_flight}
    return {"destinations": [{"name": "sink", "mllp": mllp, "order": "by patient"}]}


def forwarded(port: int) -> dict[str, Any]:
    """To a Storage SCP; order does not matter to it."""
    dicom = {"peer": f"{HOST}:{port}", "called_ae": "SINK"}
    return {"destinations": [{"name": "sink", "dicom": dicom, "order": "none"}]}


def called(port: int) -> dict[str, Any]:
    """To a SOAP service, whose WSDL is service.wsdl; what is big goes beside the envelope."""
    soap = {"wsdl": "service.wsdl", "version": "1.2", "url": f"http://{HOST}:{port}/", "mtom": True}
    return {"destinations": [{"name": "sink", "soap": soap, "order": "none"}]}


def mapped(port: int, mapping: str = "hl7v2-to-fhir") -> dict[str, Any]:
    """Mapped, and to a FHIR server over mutual TLS."""
    fhir = {"url": f"https://localhost:{port}/fhir", "tls": {"peer": "sink"}}
    return {"map": mapping, "destinations": [{"name": "sink", "fhir": fhir, "order": "by patient"}]}


def issue(sink: Path) -> None:
    """An authority, and the FHIR sink's certificate."""
    Authority.create(sink / "authority", "bench").issue("sink", out=sink, dns=("localhost",), ips=(HOST,))


def trust(site: Path, sink: Path) -> None:
    """The node's certificate, from the authority that `issue` has made."""
    Authority.open(sink / "authority").issue("bench", out=site / "certs", dns=("localhost",), ips=(HOST,))


def name_instruments(site: Path) -> None:
    """Whose patients the instruments measure."""
    folder = site / "mappings" / "astm-to-fhir"
    folder.mkdir(parents=True)
    (folder / "instruments.csv").write_text("sender,facility,authority,tests\n*,BENCH,,\n")
