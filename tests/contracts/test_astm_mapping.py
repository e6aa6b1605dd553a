"""astm-to-fhir held to the contract of mappings."""

from __future__ import annotations

import re
from typing import ClassVar
from unittest import TestCase

from engine.formats.astm import codec
from tests.contracts.mapping_contract import MappingContract
from tests.support.astm_instrument import RECORDS, content

H, P, O, R, L = RECORDS  # noqa: E741  # as the standard calls them
_SOURCE = re.compile(r"([HPORCL])\[(\d+)\](?:-(\d+))?")


class AstmMappingTests(MappingContract, TestCase):
    """With several patients, comments, a control, vendor's delimiters."""

    mapping = "astm-to-fhir"
    bodies: ClassVar[list[bytes]] = [
        content(),
        content(H, P, "C|1|L|fasting|G", O, R, "C|1|I|hemolytic|I", "R|2|^^^K|POS^12.3", "P|2|P2", "O|1|S2||^^^K\\^^^NA", R, L),
        content(H, P, O, R, "O|2|QC1||^^^K||||||Q", R, L),
        content(*RECORDS).replace(b"|", b"%").replace(b"H%\\^&", b"H%@^\\"),
    ]
    unsupported: ClassVar[list[tuple[bytes, str]]] = [
        (content(H, "Q|1|^S1||ALL", L), "200"),
        (content(H, P, O, L), "200"),
        (content(H, L), "200"),
    ]
    undecodable: ClassVar[list[bytes]] = [b"", b"P|1|P1\r", b"H|\\^&\rX|1\r", b"H||\r", b"H|\\^&|||\xff\xff\r"]
    lacking: ClassVar[list[tuple[bytes, str]]] = [(content(H, P, R, L), "R[1]")]
    secrets: ClassVar[list[str]] = ["王", "小明", "P1", "19800101"]
    overlay: ClassVar[tuple[str, str]] = ("astm-to-fhir/instruments.csv", "sender,facility,tests\ncobas,COUNTY,\n")
    before, after = b"urn:meridian:ns:unknown:MR", b"urn:meridian:ns:COUNTY:MR"
    bad_overlay: ClassVar[tuple[str, str]] = ("astm-to-fhir/instruments.csv", "sender,facility,tests\n# ours\ncobas,COUNTY,kobas\n")
    bad_line = 3

    def resolves(self, body: bytes, source: str) -> bool:
        """`R[2]-4`: the second result has a fourth field."""
        match = _SOURCE.fullmatch(source)
        if match is None:
            return False
        records = list(codec.decode(body).of(match[1]))
        number = int(match[2])
        return number <= len(records) and (match[3] is None or bool(records[number - 1].get(int(match[3]))))
