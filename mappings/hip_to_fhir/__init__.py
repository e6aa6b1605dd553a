"""Messages of the hospital platform (WS/T 846-2024) -> FHIR R4: registers, visits, orders, appointments, states, terminology, documents."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import SOAP
from mappings.hip_to_fhir.loading import compile_all
from mappings.hip_to_fhir.mapper import HipMapper


class HipRules:
    """engine.contracts.MappingRules."""

    name = "hip-to-fhir"
    content_types = (SOAP,)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; hip-to-fhir/ is laid over the shipped tables, hl7v2-to-fhir/ over those that both use."""
        return HipMapper(site_mappings, compile_all(site_mappings))


rules: Final = HipRules()
