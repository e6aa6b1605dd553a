"""The compiled mapping: ASTM records in, a FHIR transaction Bundle out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.errors import ParseError
from engine.formats import astm
from engine.formats.hl7v2.separators import STANDARD
from engine.message import Lineage, Rendition
from mappings.astm_to_fhir.records import Tables, load
from mappings.astm_to_fhir.translation import Translation
from mappings.hl7v2_to_fhir import loading
from mappings.hl7v2_to_fhir.context import V2Transaction
from mappings.hl7v2_to_fhir.lineage import PROTOCOL, FieldTrace
from mappings.hl7v2_to_fhir.mapper import V2Mapper, prepared


class AstmMapper:
    """engine.contracts.Mapper. Pure; pickles as the path of the site's mappings."""

    def __init__(self, site_mappings: Path | None, tables: Tables) -> None:
        self._site_mappings = site_mappings
        self._tables = tables
        self._v2 = V2Mapper(site_mappings, loading.compile_all(site_mappings))

    def __reduce__(self) -> tuple[Any, ...]:
        return _compile_again, (self._site_mappings,)

    def map(self, body: bytes, charset: str | None = None) -> Rendition:
        """The Bundle for one message. Raises ParseError, UnsupportedError (no results), ValidationError (an instrument unknown to the
        site; a result without an order)."""
        return self._map(body, charset, V2Transaction())[0]

    def explain(self, body: bytes) -> tuple[Rendition, list[Lineage]]:
        """The same Bundle, and for each element the ASTM element it came from."""
        trace = FieldTrace()
        tx = V2Transaction(trace=trace, losses=[])
        rendition, message, translation, segments = self._map(body, None, tx)
        lineage = (line for line in trace.lineage(tx, segments) if line.target or line.rule != PROTOCOL)
        return rendition, [*(translation.segments.traced(line) for line in lineage), *_unread(message, translation)]

    def _map(self, body: bytes, charset: str | None, tx: V2Transaction) -> tuple[Rendition, astm.Message, Translation, list[list[str]]]:
        message = _decoded(body, charset)
        translation = Translation(message, self._tables, sha256(body).hexdigest())
        tx.unescape = partial(STANDARD.unescape, charset="utf-8")
        tx.source = ("ASTM E1394 message", "results")
        segments = prepared(translation.segments.lines, STANDARD)
        self._v2.walk(segments, tx)
        return self._v2.rendition(tx, segments, body), message, translation, segments


def _decoded(body: bytes, charset: str | None) -> astm.Message:
    """In `charset`; from a file, where nobody says which, in UTF-8 or, failing that, GB18030."""
    if charset is not None:
        return astm.codec.decode_with(body, charset)
    body = body.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    try:
        return astm.codec.decode_with(body, "utf-8")
    except ParseError as error:
        if error.hl7_code != "102":
            raise
        return astm.codec.decode_with(body, "gb18030")


def _unread(message: astm.Message, translation: Translation) -> Iterator[Lineage]:
    """Valued fields of which nothing was made; type, sequence number and the header's delimiters say nothing of their own."""
    counted: dict[str, int] = {}
    for record in message.records:
        number = counted[record.type] = counted.get(record.type, 0) + 1
        for index, text in enumerate(record.fields[2:], 3):
            source = f"{record.type}[{number}]-{index}"
            if text and source not in translation.read:
                protocol = (record.type == "H" and index in (3, 13)) or record.type == "L"
                yield Lineage("", source, PROTOCOL if protocol else "not carried")


def _compile_again(site_mappings: Path | None) -> AstmMapper:
    return AstmMapper(site_mappings, load(site_mappings))
