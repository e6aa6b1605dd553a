"""POCT1-A2 observations -> FHIR R4: each service becomes an order of an OUL^R22, and that FHIR by the rules of hl7v2_to_fhir."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import POCT1A
from mappings.poct1a_to_fhir.mapper import Poct1aMapper, load


class Poct1aRules:
    """engine.contracts.MappingRules."""

    name = "poct1a-to-fhir"
    content_types = (POCT1A,)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; poct1a-to-fhir/ names the devices, hl7v2-to-fhir/ is laid over the shipped tables."""
        return Poct1aMapper(site_mappings, load(site_mappings))


rules: Final = Poct1aRules()
