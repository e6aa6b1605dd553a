"""rows-to-fhir keeps the contract of mappings, with the rules of examples/old-laboratory."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from unittest import TestCase

from engine import registry
from engine.formats.rows import codec
from tests.contracts.mapping_contract import MappingContract
from tests.support.laboratory_rows import GLUCOSE, HEPATITIS, ORDER, POTASSIUM, SITE, UNKNOWN, order

NOTHING = order(**dict.fromkeys(ORDER, None))


class RowsMappingContract(MappingContract, TestCase):
    """What is shipped is the mapping; the rules are always a site's."""

    mapping = "rows-to-fhir"
    bodies = [  # noqa: RUF012
        order(GLUCOSE, POTASSIUM, HEPATITIS),
        order(UNKNOWN, state="R", order_no="A2", doctor=None, reported_at=None),
        order(state="N", order_no="A3", tube=None, sex="?", born="1990-13-45"),
        order(GLUCOSE, order_no="A4", patient_no=None, id_card=None, name=None, phone=None, born=None, sex=None, doctor="D99"),
    ]
    unsupported = [(order(table="other"), "200"), (order(GLUCOSE, change="delete"), "201")]  # noqa: RUF012
    undecodable = [b"", b"{}", b'{"origin":1}', b"\xff", b"[" * 5000]  # noqa: RUF012
    lacking = [(NOTHING, "row")]  # noqa: RUF012
    secrets = ["P1", "张三", "110101199003070097"]  # noqa: RUF012
    overlay = ("rows-to-fhir/codes/tests.csv", "code,to,system,display\nGLU,2339-0,http://loinc.org,Glucose in Blood\n")
    before = b'"2345-7"'
    after = b'"2339-0"'
    bad_overlay = (
        "rows-to-fhir/results.yaml",
        "table: orders\nresources:\n  patient:\n    resource: Patient\n    set:\n      birthdate: born\n",
    )
    bad_line = 6

    def setUp(self) -> None:
        self.mapper = registry.mapping(self.mapping).compile(SITE)

    def site(self, table: str, text: str) -> Path:
        """The example's rules with one file replaced."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        site = Path(folder.name) / "mappings"
        shutil.copytree(SITE, site)
        (site / table).write_text(text)
        return site

    def resolves(self, body: bytes, source: str) -> bool:
        document = codec.decode(body)
        path = re.sub(r"^(row|key)$", "table", source)
        return document.get(path) is not None or re.fullmatch(r"details\.results(\[\d+\])?", source) is not None

    def test_without_rules_nothing_is_mapped(self) -> None:
        """And the refusal says where they belong."""
        self.mapper = registry.mapping(self.mapping).compile(None)
        assert "mappings/rows-to-fhir/" in str(self.refusal(self.bodies[0]))
