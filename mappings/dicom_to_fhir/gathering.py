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

STUDY_UID: Final = 0x0020000D

Told = Callable[[DataSet], None]
"""Tells a data set what the site knows of its sender's character set."""


def studies(files: Iterable[Path], told: Told) -> Iterator[Gathered]:
    """One for each study, by its UID, its instances as DICOM JSON; files that are no instance of one each alone, so that they are refused
    with their reason. Only one study's headers are in memory at a time."""
    grouped: dict[str, list[Path]] = {}
    for file in files:
        grouped.setdefault(_study_of(file) or f"\x00{file}", []).append(file)
    for uid, members in grouped.items():
        if uid.startswith("\x00"):
            yield Gathered(members[0].stem, str(members[0]), members[0].read_bytes)
        else:
            yield Gathered(uid, uid, partial(_together, members, told))


def _study_of(file: Path) -> str:
    try:
        document = read(_begin(file))
    except MessageError:
        return ""
    return document.data_sets[0].text(STUDY_UID) if document.content_type == DICOM else ""


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
