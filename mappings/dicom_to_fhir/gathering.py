"""Files -> studies: what ``meridian convert`` makes one Bundle of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from engine.contracts import Gathered
from engine.errors import ConfigError, MessageError
from engine.formats.dicom import DataSet, header, read
from engine.formats.dicom.json_model import model
from engine.message import DICOM, WHOLE
from mappings.dicom_to_fhir.converters import is_uid

STUDY_UID: Final = 0x0020000D
MEDIA_SOP_CLASS: Final = 0x00020002
DIRECTORY: Final = "1.2.840.10008.1.3.10"

Told = Callable[[DataSet], None]
"""Tells a data set what the site knows of its sender's character set."""


def studies(files: Iterable[Path], told: Told) -> Iterator[Gathered]:
    """One for each study, by its UID, its instances as DICOM JSON; files that are no instance of one each alone, so that they are refused
    with their reason. Only one study's headers are in memory at a time."""
    grouped: dict[str, list[Path]] = {}
    names: set[str] = set()
    for file in files:
        uid, directory = _study_of(file)
        if uid:
            grouped.setdefault(uid, []).append(file)
        elif not directory:
            name = file.stem if file.stem not in names else "-".join(file.with_suffix("").parts).strip("/-")
            names.add(name)
            yield Gathered(name, str(file), partial(_begin, file))
    for uid, members in grouped.items():
        yield Gathered(uid, uid, partial(_together, members, told))


def _study_of(file: Path) -> tuple[str, bool]:
    """(Study Instance UID, "" where a file is no instance of a study; whether it is the directory of a medium, which says nothing that
    the instances do not)."""
    try:
        document = read(_begin(file))
    except MessageError:
        return "", False
    one = document.data_sets[0]
    uid = one.text(STUDY_UID) if document.content_type == DICOM else ""
    return uid if is_uid(uid) else "", one.text(MEDIA_SOP_CLASS) == DIRECTORY


def _begin(file: Path) -> bytes:
    """As much of a file as its header can need."""
    try:
        with file.open("rb") as opened:
            return opened.read(WHOLE)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None


def _together(members: list[Path], told: Told) -> bytes:
    found = []
    for file in members:
        one = header(_begin(file), excerpt=file.stat().st_size > WHOLE)
        told(one)
        found.append(model(one))
    return orjson.dumps(found)
