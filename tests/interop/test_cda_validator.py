"""What cda-to-fhir makes, before a validator of other people's (npm @medplum/core): structure, invariants, targets of references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import registry
from engine.errors import MessageError
from tests.property.test_cda_mutations import SAMPLES, damaged
from tests.support import cda
from tests.support.cda_schemas import Generator, schemas
from tests.support.peers import ForeignPeer, node_script

VALIDATOR = Path(__file__).parent / "fhir_peers" / "validator.mjs"


def validated(folder: Path, bundles: dict[str, bytes]) -> tuple[list[Any], Any]:
    """(the issues, the count of files and resources)."""
    command = node_script(VALIDATOR, "@medplum/core", folder)
    made = folder / "bundles"
    made.mkdir()
    for name, body in bundles.items():
        (made / f"{name}.json").write_bytes(body)
    with ForeignPeer(command, folder=str(made)) as peer:
        *issues, counted = peer.all_heard()
    return issues, counted


@pytest.fixture(scope="module")
def bundles() -> dict[str, bytes]:
    mapper = registry.mapping("cda-to-fhir").compile(None)
    documents = {f"sample-{number}": one for number, one in enumerate((*SAMPLES, cda.scanned(), cda.ccd()))}
    for schema in schemas():
        for full in (False, True):
            documents[f"{schema.stem}-{full}"] = Generator(schema, full=full).document()
    documents |= {f"damaged-{seed}": damaged(SAMPLES[seed % len(SAMPLES)], seed) for seed in range(60)}
    made = {}
    for name, document in documents.items():
        try:
            made[name] = mapper.map(document).body
        except MessageError:
            assert name.startswith("damaged")
    return made


def test_nothing_is_found_wrong(tmp_path: Path, bundles: dict[str, bytes]) -> None:
    issues, counted = validated(tmp_path, bundles)
    assert issues == []
    assert counted["files"] == len(bundles) > 50
    assert counted["resources"] > 500


def test_the_validator_finds_what_is_wrong(tmp_path: Path, bundles: dict[str, bytes]) -> None:
    """An unknown element, a reference to another type, a broken invariant: none would pass."""
    body = bundles["sample-5"]
    planted = {
        "element": body.replace(b'"onsetDateTime"', b'"onsetTimeDate"', 1),
        "target": body.replace(b'"recorder":', b'"encounter":', 1),
        "invariant": body.replace(b'"section":[{"title":"Problems"', b'"section":[{"title":"Empty"},{"title":"Problems"', 1),
    }
    issues, _ = validated(tmp_path, planted)
    assert {one["file"] for one in issues} == {"element.json", "target.json", "invariant.json"}
