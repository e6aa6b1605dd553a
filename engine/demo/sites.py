"""The demo's two sites, written as `meridian init` and an engineer would: a province platform and a county hospital."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

from certs import Authority
from engine.demo.instruments import MODELS, SerialCable
from engine.demo.nodes import NodeFolder
from engine.demo.writing import FACILITY

PLATFORM: Final = "province-platform"
HOSPITAL: Final = "county-hospital"
LABORATORY: Final = "county-laboratory"

_NODE: Final = """\
name: {name}
party: {name}
level: {level}
http: 127.0.0.1:{http}
"""

_INTAKE: Final = """\
name: intake
doc: what the hospitals of the province forward
source:
  fhir:
    listen: 127.0.0.1:{fhir}
    tls: {{client_auth: required, allow: [county-hospital]}}
    repository: fhir-repository.db
answer: from repository
destinations:
  - name: repository
    fhir_repository: {{}}
    order: by patient
"""

_WARDS: Final = """\
name: wards
doc: admissions, transfers, merges and orders of the hospital information system and the outpatient record
source:
  mllp: {{listen: "127.0.0.1:{mllp}"}}
accept: ["message.type.startswith('ADT^') or message.type in ['ORM^O01', 'OML^O21']"]
map: hl7v2-to-fhir
destinations:
  - name: platform
    fhir: {{url: "https://localhost:{fhir}/fhir", tls: {{peer: province-platform}}}}
    order: by patient
    retry: {{first: 200ms, most: 5s, give_up_after: 3d}}
  - name: worklist
    when: ["message.type in ['ORM^O01', 'OML^O21']"]
    map: none
    worklist: {{}}
"""

_LABORATORY: Final = """\
name: laboratory
doc: results of the laboratory, over mutual TLS
source:
  mllp: {{listen: "127.0.0.1:{mllp_tls}", tls: {{client_auth: required, allow: [county-laboratory]}}}}
accept: ["message.type == 'ORU^R01'"]
map: hl7v2-to-fhir
destinations:
  - name: platform
    fhir: {{url: "https://localhost:{fhir}/fhir", tls: {{peer: province-platform}}}}
    order: by patient
    retry: {{first: 200ms, most: 5s, give_up_after: 3d}}
"""

_COAGULATION: Final = """\
name: coagulation
doc: what the coagulation analyzer reports by itself, over TCP
source:
  astm: {{listen: "127.0.0.1:{coagulation}"}}
map: astm-to-fhir
destinations:
  - name: platform
    fhir: {{url: "https://localhost:{fhir}/fhir", tls: {{peer: province-platform}}}}
    order: by patient
    retry: {{first: 200ms, most: 5s, give_up_after: 3d}}
"""

_BLOOD_GAS: Final = """\
name: blood-gas
doc: what the blood gas analyzer of the emergency room reports by itself, over a serial line
source:
  astm: {{serial: {{port: {blood_gas}, baud: 9600}}, charset: gb18030}}
map: astm-to-fhir
destinations:
  - name: platform
    fhir: {{url: "https://localhost:{fhir}/fhir", tls: {{peer: province-platform}}}}
    order: by patient
    retry: {{first: 200ms, most: 5s, give_up_after: 3d}}
"""
_ANALYZER: Final = """\
name: analyzer
doc: the chemistry analyzer asks for its work and reports its results (IHE LAW, LAB-27 and LAB-29)
source:
  mllp: {{listen: "127.0.0.1:{analyzer}"}}
accept: ["message.type in ['QBP^Q11', 'OUL^R22']"]
answer: from worklist
destinations:
  - name: worklist
    when: ["message.type == 'QBP^Q11'"]
    worklist: {{}}
  - name: platform
    when: ["message.type == 'OUL^R22'"]
    map: hl7v2-to-fhir
    fhir: {{url: "https://localhost:{fhir}/fhir", tls: {{peer: province-platform}}}}
    order: by patient
    retry: {{first: 200ms, most: 5s, give_up_after: 3d}}
"""

_WORK: Final = """\
name: work
doc: what the chemistry analyzer is to measure (IHE LAW, LAB-28)
source:
  worklist: {{poll: 100ms}}
destinations:
  - name: analyzer
    mllp: {{connect: "127.0.0.1:{work}"}}
"""

_RADIOLOGY: Final = """\
name: radiology
doc: what the radiology information system has scheduled, for the worklist of the modalities
source:
  mllp: {{listen: "127.0.0.1:{radiology}"}}
accept: ["message.type == 'ORM^O01'"]
answer: from worklist
destinations:
  - name: worklist
    dicom_worklist: {{report: true}}
  - name: platform
    map: hl7v2-to-fhir
    fhir: {{url: "https://localhost:{fhir}/fhir", tls: {{peer: province-platform}}}}
    retry: {{first: 200ms, most: 5s, give_up_after: 3d}}
"""

_MODALITIES: Final = """\
name: modalities
doc: the CT and the ultrasound ask for their worklist, say what they perform, and store their images
source:
  dicom:
    listen: "127.0.0.1:{dicom}"
    called: [MERIDIAN]
    worklist: {{charsets: {{CT1: GB18030}}}}
    procedure_steps: true
answer: from worklist
destinations:
  - name: worklist
    when: ["message.type.startswith('MPPS^')"]
    dicom_worklist: {{report: true}}
  - name: archive
    when: ["not message.type.startswith('MPPS^')"]
    dicom_archive: {{}}
  - name: pacs
    when: ["not message.type.startswith('MPPS^')"]
    dicom: {{peer: "127.0.0.1:{pacs}", called_ae: PACS, commitment: required, commitment_quiet: 300ms}}
    retry: {{first: 200ms, most: 1s, give_up_after: 3d}}
"""

_STUDIES: Final = """\
name: studies
doc: what is known of the studies in the archive, again when they are complete
source:
  dicom_archive: {{settle: 500ms, quiet: 20s, worklist: dicom-worklist.db, poll: 200ms}}
map: dicom-to-fhir
destinations:
  - name: platform
    fhir: {{url: "https://localhost:{fhir}/fhir", tls: {{peer: province-platform}}}}
    retry: {{first: 200ms, most: 5s, give_up_after: 3d}}
"""

_EXAMINATIONS: Final = """\
name: examinations
doc: tells the hospital information system that an examination has begun, and that it is completed
source:
  dicom_worklist: {{poll: 200ms, sender: "RIS|COUNTYHOSP", receiver: "HIS|COUNTYHOSP"}}
destinations:
  - name: his
    mllp: {{connect: "127.0.0.1:{his}"}}
"""

_RADIOLOGY_PORTS: Final = ("radiology", "dicom", "pacs", "his")


class Landscape:
    """Both sites below one folder, with one private authority for all."""

    def __init__(self, folder: Path, reactor: Any) -> None:
        self.folder = folder
        self.cable = SerialCable(reactor)
        names = ("platform_http", "hospital_http", "fhir", "mllp", "mllp_tls", "coagulation", "analyzer", "work", *_RADIOLOGY_PORTS)
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.platform = NodeFolder(PLATFORM, folder / PLATFORM, self.ports["platform_http"])
        self.hospital = NodeFolder(HOSPITAL, folder / HOSPITAL, self.ports["hospital_http"])
        self.laboratory_certs = folder / LABORATORY

    def write(self) -> None:
        """Make the authority, the certificates and the files."""
        authority = Authority.create(self.folder / "authority", "Meridian demo CA")
        for node in (self.platform, self.hospital):
            authority.issue(node.name, dns=("localhost",), ips=("127.0.0.1",), out=node.site / "certs")
        authority.issue(LABORATORY, dns=("localhost",), out=self.laboratory_certs)
        self._site(self.platform, "province", intake=_INTAKE)
        channels = {"wards": _WARDS, "laboratory": _LABORATORY, "coagulation": _COAGULATION, "blood-gas": _BLOOD_GAS}
        channels |= {"analyzer": _ANALYZER, "work": _WORK}
        channels |= {"radiology": _RADIOLOGY, "modalities": _MODALITIES, "studies": _STUDIES, "examinations": _EXAMINATIONS}
        self._site(self.hospital, "hospital", **channels)
        self._tests(self.hospital.site / "mappings" / "astm-to-fhir")
        images = self.hospital.site / "mappings" / "dicom-to-fhir"
        images.mkdir(parents=True)
        (images / "senders.csv").write_text(f"sender,facility,patients,orders\n*,{FACILITY},{FACILITY},RIS\n")

    def _site(self, node: NodeFolder, level: str, **channels: str) -> None:
        (node.site / "channels").mkdir(parents=True)
        (node.site / "meridian.yaml").write_text(_NODE.format(name=node.name, level=level, http=node.http_port))
        for name, text in channels.items():
            (node.site / "channels" / f"{name}.yaml").write_text(text.format(**self.ports, blood_gas=self.cable.device))

    @staticmethod
    def _tests(folder: Path) -> None:
        """What the laboratory says of its instruments."""
        (folder / "tests").mkdir(parents=True)
        rows = [f"{model.name},{FACILITY},{FACILITY},{model.name}" for model in MODELS]
        (folder / "instruments.csv").write_text("\n".join(["sender,facility,authority,tests", *rows, ""]))
        for model in MODELS:
            codes = [f'{one.local},{one.loinc},"{one.name}",{one.unit}' for one in model.analytes]
            (folder / "tests" / f"{model.name}.csv").write_text("\n".join(["code,to,display,unit", *codes, ""]))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
