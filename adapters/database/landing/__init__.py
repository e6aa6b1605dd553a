"""The landing schema: FHIR resources in relational tables, for analysts and for what reads tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.database.landing.options import DESTINATION
from engine.message import FHIR_JSON

if TYPE_CHECKING:
    from adapters.database.findings import Finding
    from engine.contracts import Context, Destination, Source
    from engine.options import Settings, Spec


class FhirTablesAdapter:
    """engine.contracts.Adapter: a destination only."""

    name = "fhir_tables"
    content_types: Sequence[str] = (FHIR_JSON,)
    source_options: Spec | None = None
    destination_options: Spec | None = DESTINATION

    def source(self, options: Settings, context: Context) -> Source:
        raise NotImplementedError("fhir_tables is a destination")

    def check_destination(self, options: Settings, context: Context) -> list[Finding]:
        """For `meridian db check`. Changes nothing."""
        from adapters.database.landing.checking import check

        return check(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.database.landing.destination import TablesDestination

        return TablesDestination(options, context)


adapter = FhirTablesAdapter()
