"""FHIR R4 (4.0.1) over HTTP: source (server), destination (client), and the versioned resource repository.

envelopes    requests as envelopes, verdicts as answers    (pure)
source       the listener; server: connections; requests: routing of interactions; reading: reads; validation
destination  the client; client: one connection
entries, interactions, views, search, rows, repository     the resource repository, without HTTP
repository_destination                                      the repository as a destination
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.fhir.options import DESTINATION, REPOSITORY, SOURCE
from engine.message import FHIR_JSON

if TYPE_CHECKING:
    from engine.contracts import Context, Destination, Source
    from engine.message import Envelope, Judgement
    from engine.options import Settings, Spec


class FhirAdapter:
    """engine.contracts.Adapter: ``fhir``."""

    name = "fhir"
    content_types: Sequence[str] = (FHIR_JSON,)
    source_options: Spec | None = SOURCE
    destination_options: Spec | None = DESTINATION

    def rehearse(self, options: Settings, body: bytes, peer: str) -> tuple[Envelope, Judgement | None]:
        """engine.contracts.Rehearsing"""
        from adapters.fhir.rehearsal import rehearse

        return rehearse(options, body, peer)

    def source(self, options: Settings, context: Context) -> Source:
        from adapters.fhir.source import FhirSource

        return FhirSource(options, context)

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.fhir.destination import FhirDestination

        return FhirDestination(options, context)


class RepositoryAdapter:
    """engine.contracts.Adapter: ``fhir_repository``, a destination only."""

    name = "fhir_repository"
    content_types: Sequence[str] = (FHIR_JSON,)
    source_options: Spec | None = None
    destination_options: Spec | None = REPOSITORY

    def source(self, options: Settings, context: Context) -> Source:
        raise NotImplementedError("fhir_repository is a destination")

    def destination(self, options: Settings, context: Context) -> Destination:
        from adapters.fhir.repository_destination import RepositoryDestination

        return RepositoryDestination(options, context)


adapter = FhirAdapter()
repository_adapter = RepositoryAdapter()
