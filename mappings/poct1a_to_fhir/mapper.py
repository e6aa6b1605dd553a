"""The compiled mapping: a point-of-care device's observations in, a FHIR transaction Bundle out."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError, Fault
from engine.formats.hl7v2.separators import STANDARD
from engine.formats.poct1a import codec
from engine.message import Lineage, Rendition
from mappings import instruments
from mappings.hl7v2_to_fhir import loading
from mappings.hl7v2_to_fhir.context import V2Transaction
from mappings.hl7v2_to_fhir.lineage import PROTOCOL, FieldTrace
from mappings.hl7v2_to_fhir.mapper import V2Mapper, prepared
from mappings.instruments import Instruments
from mappings.poct1a_to_fhir.translation import Translation

SITE_FOLDER: Final = "poct1a-to-fhir"


def load(site_mappings: Path | None) -> Instruments:
    """The site's devices. Raises ConfigError with every fault."""
    faults: list[Fault] = []
    found = instruments.load(site_mappings / SITE_FOLDER if site_mappings is not None else None, (), faults)
    if faults:
        raise ConfigError(faults)
    return found


class Poct1aMapper:
    """engine.contracts.Mapper. Pure; pickles as the path of the site's mappings."""

    def __init__(self, site_mappings: Path | None, devices: Instruments) -> None:
        self._site_mappings = site_mappings
        self._devices = devices
        self._v2 = V2Mapper(site_mappings, loading.compile_all(site_mappings))

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle for one message. Raises ParseError, UnsupportedError (no observations), ValidationError (an unknown device)."""
        return self._map(body, V2Transaction())[0]

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element the one it came from."""
        trace = FieldTrace()
        tx = V2Transaction(trace=trace, losses=[])
        rendition, translation, segments = self._map(body, tx)
        lineage = (line for line in trace.lineage(tx, segments) if line.target or line.rule != PROTOCOL)
        return rendition, [translation.segments.traced(line) for line in lineage]

    def _map(self, body: bytes, tx: V2Transaction) -> tuple[Rendition, Translation, list[list[str]]]:
        message = codec.decode(body)
        translation = Translation(message, self._devices, sha256(body).hexdigest())
        tx.unescape = partial(STANDARD.unescape, charset="utf-8")
        tx.source = ("POCT1-A2 message", message.kind)
        segments = prepared(translation.segments.lines, STANDARD)
        self._v2.walk(segments, tx)
        return self._v2.rendition(tx, segments, body), translation, segments


def _compile_again(site_mappings: Path | None) -> Poct1aMapper:
    return Poct1aMapper(site_mappings, load(site_mappings))
