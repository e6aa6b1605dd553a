"""DICOM -> FHIR R4: one instance, or a study's instances, as ImagingStudy; structured reports as DiagnosticReport and Observations."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import DICOM, DICOM_JSON
from mappings.dicom_to_fhir.loading import compile_all
from mappings.dicom_to_fhir.mapper import DicomMapper


class DicomRules:
    """engine.contracts.MappingRules."""

    name = "dicom-to-fhir"
    content_types = (DICOM, DICOM_JSON)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; dicom-to-fhir/ is laid over the shipped tables, hl7v2-to-fhir/ over those that both use."""
        return DicomMapper(site_mappings, compile_all(site_mappings))


rules: Final = DicomRules()
