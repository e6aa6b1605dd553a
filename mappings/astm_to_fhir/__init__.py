"""ASTM E1394 / CLSI LIS02-A2 -> FHIR R4: the records become the segments of an OUL^R22, and those FHIR by the rules of hl7v2_to_fhir.

So a platform sees one form, whichever way an instrument speaks, and a site's own tables for HL7 v2 hold here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import ASTM
from mappings.astm_to_fhir.mapper import AstmMapper
from mappings.astm_to_fhir.records import load


class AstmRules:
    """engine.contracts.MappingRules."""

    name = "astm-to-fhir"
    content_types = (ASTM,)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; its folders astm-to-fhir/ and hl7v2-to-fhir/ are laid over the shipped tables."""
        return AstmMapper(site_mappings, load(site_mappings))


rules: Final = AstmRules()
