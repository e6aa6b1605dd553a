"""Where each element of a Bundle came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.message import Lineage

if TYPE_CHECKING:
    from mappings.hl7v2_to_fhir.mapper import V2Mapper


def explain(mapper: V2Mapper, body: bytes) -> list[Lineage]:
    return []
