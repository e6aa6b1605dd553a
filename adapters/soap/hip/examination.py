"""What an endpoint of the hospital platform needs around it: the standard's schemas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.soap.hip.schemas import CDAS, SERVICES, compiled
from engine.errors import ConfigError
from engine.examination import Finding, Level
from engine.formats import hip

if TYPE_CHECKING:
    from engine.options import Settings

DOCUMENTS: Final = tuple(f"C{number:04}" for number in range(1, 54))
"""The documents of WS/T 500, each with a schema."""
_SUBJECT: Final = "schemas"
_HOW: Final = f"put the standard's {SERVICES}/*.xsd and {CDAS}/*.xsd into a folder of the site, say schemas: FOLDER; or say validation: off"
_SHOWN: Final = 6


def examine(options: Settings) -> Iterator[Finding]:
    """The folder of schemas: is it there, complete, usable."""
    if options.validation == "off":
        return
    if options.schemas is None:
        yield Finding(Level.WARN, _SUBJECT, "messages are not checked: no folder of schemas is named", _HOW, "validation")
        return
    folder: Path = options.schemas
    level = Level.FAIL if options.validation == "strict" else Level.WARN  # it would take what it says that it refuses
    missing = {kind: [name for name in names if not (folder / kind / f"{name}.xsd").is_file()] for kind, names in _wanted(options)}
    for kind, names in missing.items():
        if names:
            text = f"{len(names)} schemas are missing in {folder / kind}: {_some(names)}; their messages are not checked"
            yield Finding(level, _SUBJECT, text, f"copy the standard's {kind}/NAME.xsd there", "schemas")
    broken = list(_broken(folder))
    yield from broken
    if not broken and not any(missing.values()):
        yield Finding(Level.OK, _SUBJECT, f"all of {folder} are there and can be used", option="schemas")


def _wanted(options: Settings) -> Iterator[tuple[str, Sequence[str]]]:
    yield SERVICES, tuple(hip.SERVICES)
    if options.documents != "off":
        yield CDAS, DOCUMENTS


def _broken(folder: Path) -> Iterator[Finding]:
    known = {SERVICES: set(hip.SERVICES), CDAS: set(DOCUMENTS)}
    for kind, names in known.items():
        for file in sorted((folder / kind).glob("*.xsd")) if (folder / kind).is_dir() else ():
            if file.stem not in names:
                continue
            try:
                compiled(file, folder)
            except ConfigError as error:
                yield Finding(Level.FAIL, _SUBJECT, error.text, "replace it by the standard's file", "schemas")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
