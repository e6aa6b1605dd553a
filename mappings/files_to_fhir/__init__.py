"""Files with what their names say (application/vnd.meridian.file) -> FHIR R4: a DocumentReference with the bytes, and whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import FILE
from mappings.files_to_fhir.loading import compile_all
from mappings.files_to_fhir.mapper import FilesMapper


class FilesRules:
    """engine.contracts.MappingRules."""

    name = "files-to-fhir"
    content_types = (FILE,)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; files-to-fhir/ is laid over the shipped tables, cda-to-fhir/ and hl7v2-to-fhir/ over theirs."""
        return FilesMapper(site_mappings, compile_all(site_mappings))


rules: Final = FilesRules()
