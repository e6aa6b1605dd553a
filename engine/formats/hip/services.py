"""The services of the hospital platform, and which one a message is for (WS/T 846.1-2024: each has a name, which is its action)."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from engine.errors import ParseError

_NAMED: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_UNKNOWN: Final = "200"


class Kind(StrEnum):
    """What a service does."""

    REGISTER = "register"
    ADD = "add"
    UPDATE = "update"
    MERGE = "merge"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Service:
    """A row of services.csv, where the columns are explained."""

    name: str
    part: int
    root: str
    kind: Kind
    subject: str
    sign: str
    title: str


def _table() -> dict[str, Service]:
    lines = (Path(__file__).parent / "services.csv").read_text("utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {
        row["service"]: Service(row["service"], int(row["part"]), row["root"], Kind(row["kind"]), row["subject"], row["sign"], row["title"])
        for row in rows
    }


SERVICES: Final[Mapping[str, Service]] = _table()
"""By name, in the standard's order."""
_BY_ROOT: Final[Mapping[str, Sequence[Service]]] = {
    root: [service for service in SERVICES.values() if service.root == root] for root in {service.root for service in SERVICES.values()}
}


def service_of(action: str, element: Any, actions: Mapping[str, str] | None = None) -> Service:
    """The service that `action` and the message's `element` say together. `actions` are a site's words for services.

    They must agree; where there is no action the element decides, if it can. Raises ParseError, in English and Chinese.
    """
    root = local_name(element)
    if action:
        return _agreed(_acted(action, actions or {}), root)
    candidates = _BY_ROOT.get(root, ())
    if not candidates:
        raise ParseError(f"unknown message {_shown(root)} 未知的消息类型", hl7_code=_UNKNOWN)
    if len(candidates) == 1:
        return candidates[0]
    signed = [service for service in candidates if service.sign and has_path(element, service.sign)]
    if len(signed) == 1:
        return signed[0]
    raise ParseError(f"no action, and {root} is the message of several services 缺少服务名称（action），无法确定服务", hl7_code=_UNKNOWN)


def _acted(action: str, actions: Mapping[str, str]) -> Service:
    service = SERVICES.get(actions.get(action, action))
    if service is None:
        raise ParseError(f"unknown action {_shown(action)} 未知的服务（action）", hl7_code=_UNKNOWN)
    return service


def _agreed(service: Service, root: str) -> Service:
    if root != service.root:
        raise ParseError(
            f"the action {service.name} takes {service.root}, the message is {_shown(root)} 消息与服务（action）不一致", hl7_code=_UNKNOWN
        )
    return service


def _shown(word: str) -> str:
    """A sender's word in a text that is logged: only what looks like a name."""
    return word if _NAMED.fullmatch(word) else "(not a name)"


def local_name(element: Any) -> str:
    """Without its namespace."""
    return str(element.tag).rpartition("}")[2]


def has_path(element: Any, path: str) -> bool:
    """Whether names `a/b` stand one in the other anywhere below `element`, namespaces left aside."""
    first, *rest = path.split("/")
    return any(_goes_on(found, rest) for found in element.iter(f"{{*}}{first}"))


def _goes_on(element: Any, names: Sequence[str]) -> bool:
    return not names or any(_goes_on(child, names[1:]) for child in element.iterchildren(f"{{*}}{names[0]}"))
