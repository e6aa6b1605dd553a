"""The resources of the studies service and the paths to them (PS3.18 clauses 10.1.1, 10.4.1, 10.5.1, 10.6.1). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote

from adapters.dicom.web.faults import WebRefusal

_UID: Final = re.compile(r"(?=.{1,64}$)[0-9]+(?:\.[0-9]+)*")
_LEVELS: Final = ("studies", "series", "instances")
_BELOW: Final = ("metadata", "rendered", "thumbnail", "bulkdata", "frames")
_READ: Final = ("GET", "HEAD", "OPTIONS")
_MOST_PARAMETERS: Final = 200
_MOST_FRAMES: Final = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about.

    `kind`: ``query`` (a list of studies, series or instances: `level`), ``retrieve`` (all instances below), ``metadata``, ``frames``,
    ``rendered``, ``thumbnail``, ``bulkdata`` or ``capabilities``. `path` are the steps of a bulk data address.
    """

    kind: str
    level: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    frames: tuple[int, ...] = ()
    path: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    def parameter(self, name: str) -> str:
        """The first value of a query parameter, "" where there is none."""
        return next((value for key, value in self.parameters if key == name), "")

    @property
    def allowed(self) -> tuple[str, ...]:
        stores = self.kind in ("query", "retrieve") and self.level == "studies" and not self.series
        return (*_READ, "POST") if stores else _READ


def find_target(method: str, address: str, base: str) -> Target:
    """The resource that `address` (path and query) names. Raises WebRefusal 404, 405 with Allow, 400."""
    path, _, query = address.partition("?")
    if path != base and not path.startswith(base + "/"):
        raise WebRefusal(404, f"the DICOMweb resources are below {base or '/'}")
    parts = [unquote(part) for part in path[len(base) :].strip("/").split("/")]
    try:
        parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise WebRefusal(400, "there are too many query parameters") from None
    target = _target(parts, tuple(parameters))
    if method not in target.allowed:
        allowed = ", ".join(target.allowed)
        raise WebRefusal(405, f"here the method must be one of {allowed}", headers={"Allow": allowed})
    return target


def _target(parts: list[str], parameters: tuple[tuple[str, str], ...]) -> Target:
    if parts == [""]:
        return Target("capabilities", parameters=parameters)
    uids: dict[str, str] = {}
    for depth in range(len(_LEVELS)):
        if not parts or parts[0] not in _LEVELS[depth:]:
            break
        level, parts = parts[0], parts[1:]
        if not parts:
            return Target("query", level, *_three(uids), parameters=parameters)
        if list(uids) != list(_LEVELS[: _LEVELS.index(level)]):
            raise WebRefusal(404, "there is no such resource")
        if not _UID.fullmatch(parts[0]):
            raise WebRefusal(400, "this is no UID (PS3.5 clause 9.1)")
        uids[level], parts = parts[0], parts[1:]
        if not parts:
            return Target("retrieve", level, *_three(uids), parameters=parameters)
    return _below(uids, parts, parameters)


def _three(uids: dict[str, str]) -> tuple[str, str, str]:
    return uids.get("studies", ""), uids.get("series", ""), uids.get("instances", "")


def _below(uids: dict[str, str], parts: list[str], parameters: tuple[tuple[str, str], ...]) -> Target:
    """What of a study, series or instance."""
    if not uids or not parts or parts[0] not in _BELOW:
        raise WebRefusal(404, "there is no such resource")
    level, kind, rest = list(uids)[-1], parts[0], parts[1:]
    found = Target(kind, level, *_three(uids), parameters=parameters)
    if kind in ("metadata", "rendered", "thumbnail") and not rest:
        return found
    if level == "instances" and kind == "bulkdata" and rest:
        return Target(kind, level, found.study, found.series, found.instance, path=tuple(rest), parameters=parameters)
    if level == "instances" and kind == "frames" and rest and rest[1:] in ([], ["rendered"], ["thumbnail"]):
        kind = rest[1] if rest[1:] else "frames"
        return Target(kind, level, found.study, found.series, found.instance, _frames(rest[0]), parameters=parameters)
    raise WebRefusal(404, "there is no such resource")


def _frames(text: str) -> tuple[int, ...]:
    """A frame list (PS3.18 10.4.1.1.6): numbers from 1, with commas. Raises WebRefusal 400."""
    numbers = text.split(",")
    if len(numbers) > _MOST_FRAMES or not all(number.isascii() and number.isdecimal() and 0 < len(number) < 9 for number in numbers):
        raise WebRefusal(400, "this is no list of frame numbers")
    frames = tuple(map(int, numbers))
    if 0 in frames:
        raise WebRefusal(400, "frames are counted from 1")
    return frames
