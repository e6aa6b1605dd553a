"""Rows of databases and of tabular files -> FHIR R4, by rules that the site writes.

options       what a rules file may say
definitions   what FHIR has where, so that a rule that cannot be is said at once
objects       any JSON object as a record
views         what rules read of a record
converters    text -> values of FHIR types
compiling     rules -> closures
loading       a site's files
identity      what makes a resource the same one in the next message
mapper        a record -> a Bundle
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.contracts import Mapper
from engine.message import JSON, ROWS
from mappings.rows_to_fhir.mapper import compile_again


class RowsRules:
    """engine.contracts.MappingRules."""

    name = "rows-to-fhir"
    content_types = (ROWS, JSON)

    def compile(self, site_mappings: Path | None) -> Mapper:
        """`site_mappings` is SITE/mappings; its folder rows-to-fhir/ holds the rules. There are no shipped ones."""
        return compile_again(site_mappings, None)

    def compile_file(self, file: Path, site_mappings: Path | None = None) -> Mapper:
        """One rules file, for rows of any table."""
        return compile_again(site_mappings, file)


rules: Final = RowsRules()
