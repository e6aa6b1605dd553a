"""DICOM instances without their pixels, as files (PS3.10) and as JSON (PS3.18 annex F). Pure codecs.

dataset.py      attributes, values, items: one model for both
reading.py      files, in any transfer syntax, up to the pixels
charsets.py     Specific Character Set, strictly
paths.py        how an attribute is named
dictionary.py   PS3.6, as pydicom has it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from engine.errors import ParseError
from engine.formats.dicom.dataset import DataSet, Root, of_json
from engine.formats.dicom.paths import parse_path
from engine.formats.dicom.reading import header
from engine.message import DICOM, DICOM_JSON, Excerpt

__all__ = ["DataSet", "Instances", "codec", "header", "instances", "json_codec", "read"]


class Instances:
    """engine.contracts.Document: the data sets of one file (one) or of one study (some)."""

    def __init__(self, data_sets: Sequence[DataSet], content_type: str) -> None:
        self.data_sets, self.content_type = tuple(data_sets), content_type

    def get(self, path: str) -> str | None:
        """None where there is no such attribute, or nothing in it. Several values stand with a backslash between them."""
        instance, steps = parse_path(path)
        if instance > len(self.data_sets):
            return None
        here = self.data_sets[instance - 1]
        for tag, number in steps[:-1]:
            items = here.items(tag)
            if len(items) < (number or 1):
                return None
            here = items[(number or 1) - 1]
        tag, number = steps[-1]
        values = here.values(tag)
        return (values[number - 1] if 0 < number <= len(values) else "" if number else "\\".join(values)) or None


class DicomCodec:
    """engine.contracts.Codec for one instance as a file."""

    content_type = DICOM
    headers = True

    def decode(self, body: bytes) -> Instances:
        """Raises ParseError."""
        return self.decode_with(body, "")

    def decode_with(self, body: bytes, charset: str) -> Instances:
        """`charset` is what the text is in where the data set declares no character set, or one that anything would fit."""
        return Instances([header(body, fallback=charset, excerpt=isinstance(body, Excerpt))], DICOM)

    def check_path(self, path: str) -> None:
        parse_path(path)


class DicomJsonCodec:
    """engine.contracts.Codec for the instances of a study."""

    content_type = DICOM_JSON

    def decode(self, body: bytes) -> Instances:
        """Raises ParseError."""
        return Instances(instances(body), DICOM_JSON)

    def check_path(self, path: str) -> None:
        parse_path(path)


def instances(body: bytes) -> list[DataSet]:
    """The data sets of a DICOM JSON document; a single one may stand without its list. Raises ParseError."""
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ParseError("this is not JSON", location="document") from None
    models = found if isinstance(found, list) else [found]
    if not models or not all(isinstance(model, dict) and model for model in models):
        raise ParseError("a list of data sets was expected (PS3.18 annex F)", location="document")
    return [of_json(model, Root(), f"[{number}].") for number, model in enumerate(models, 1)]


def read(body: bytes, charset: str | None = None) -> Instances:
    """Either, by what the bytes are: JSON begins with a bracket."""
    if body[:1024].lstrip()[:1] in (b"[", b"{") and body[128:132] != b"DICM":
        return json_codec.decode(body)
    return codec.decode_with(body, charset or "")


codec = DicomCodec()
json_codec = DicomJsonCodec()
