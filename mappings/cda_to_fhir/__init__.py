"""HL7 CDA R2 documents -> FHIR R4: those of WS/T 500 and of C-CDA by the same rules, and whatever else is CDA as far as these know it.

Other mappings take documents into their own Bundles by `documents(site_mappings)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import CDA
from mappings.cda_to_fhir.context import CdaTransaction, Described, Mapped
from mappings.cda_to_fhir.documents import Documents, documents
from mappings.cda_to_fhir.mapper import CdaMapper


class CdaRules:
    """engine.contracts.MappingRules."""

    name = "cda-to-fhir"
    content_types = (CDA,)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; cda-to-fhir/ is laid over the shipped tables, hl7v2-to-fhir/ over those that both use."""
        return CdaMapper(site_mappings, documents(site_mappings))


rules: Final = CdaRules()
__all__ = ["CdaTransaction", "Described", "Documents", "Mapped", "documents", "rules"]
