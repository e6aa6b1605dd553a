"""Document submissions (IHE ITI-41), and what a Document Consumer has retrieved, -> FHIR R4: submission set and folders as List, document
entries as DocumentReference, by the mapping of MHD (IHE ITI TF-3 clause 4.5); CDA documents by cda-to-fhir."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import SOAP
from mappings.xdr_to_fhir.loading import compile_all
from mappings.xdr_to_fhir.mapper import XdrMapper


class XdrRules:
    """engine.contracts.MappingRules."""

    name = "xdr-to-fhir"
    content_types = (SOAP,)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; xdr-to-fhir/ is laid over the shipped tables, cda-to-fhir/ and hl7v2-to-fhir/ over theirs."""
        return XdrMapper(site_mappings, compile_all(site_mappings))


rules: Final = XdrRules()
