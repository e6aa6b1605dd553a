"""How fast messages are mapped: in this process, on one core, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

from engine import registry
from engine.bench.corpus import PATIENTS, adt, numbered, oru

MAPPING: Final = "hl7v2-to-fhir"
_BATCH: Final = 50
_ROUNDS: Final = 5


def measure(seconds: float) -> dict[str, Any]:
    """For each kind of message: mapped per second (median of five rounds), microseconds each, and the sizes in and out."""
    mapper = registry.mapping(MAPPING).compile(None)
    kinds = {"oru_10_obx": [numbered(oru(patient), patient) for patient in range(PATIENTS)]}
    kinds["adt_a01"] = [numbered(adt(patient), patient) for patient in range(PATIENTS)]
    report = {}
    for kind, bodies in kinds.items():
        sizes = {"bytes_in": len(bodies[0]), "bytes_out": len(mapper.map(bodies[0]).body)}
        rate = median(_rate(mapper.map, bodies, seconds / _ROUNDS) for _ in range(_ROUNDS))
        report[kind] = {"per_second": round(rate, 1), "microseconds": round(1e6 / rate, 1), **sizes}
    return {"mapping": MAPPING, "kinds": report}


def _rate(work: Callable[[bytes], Any], bodies: Sequence[bytes], seconds: float) -> float:
    began, done = time.process_time(), 0
    while (now := time.process_time()) < began + seconds:
        for number in range(done, done + _BATCH):
            work(bodies[number % len(bodies)])
        done += _BATCH
    return done / max(now - began, 1e-9)
