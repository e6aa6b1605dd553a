"""HL7 v2 -> FHIR R4, by tables that follow HL7's v2-to-FHIR guide."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import HL7V2
from mappings.hl7v2_to_fhir.loading import compile_all
from mappings.hl7v2_to_fhir.mapper import V2Mapper


class V2Rules:
    """engine.contracts.MappingRules."""

    name = "hl7v2-to-fhir"
    content_types = (HL7V2,)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; its folder hl7v2-to-fhir/ is laid over the shipped tables."""
        return V2Mapper(site_mappings, compile_all(site_mappings))


rules: Final = V2Rules()
