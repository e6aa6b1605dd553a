"""The embedded FHIR repository takes the Bundles of cda-to-fhir, and knows the same ones again."""

from __future__ import annotations

from pathlib import Path

import orjson

from engine import registry
from tests.support import cda
from tests.support.fhir import body_of, open_repository

MAPPER = registry.mapping("cda-to-fhir").compile(None)
DOCUMENTS = (
    cda.clinic_record(), cda.prescription(), cda.laboratory_report(), cda.vital_signs(), cda.discharge_summary(), cda.continuity_of_care(),
    cda.scanned(),
)  # fmt: skip


def test_a_document_that_comes_again_makes_nothing_twice(tmp_path: Path) -> None:
    """Every entry is taken, and has the same place the second time."""
    repository = open_repository(tmp_path / "r.db")
    places: dict[str, set[str]] = {}
    for document in (*DOCUMENTS, *DOCUMENTS):
        body = MAPPER.map(document).body
        (answer,) = repository.apply([("", body)])
        for entry, said in zip(orjson.loads(body)["entry"], body_of(answer)["entry"], strict=True):
            assert said["response"]["status"][:3] in ("200", "201"), (entry["request"], said)
            places.setdefault(entry["fullUrl"], set()).add(said["response"]["location"].partition("/_history")[0])
    assert {url: found for url, found in places.items() if len(found) > 1} == {}
    repository.close()
