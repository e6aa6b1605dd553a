"""One message's transaction, and how the rules read its elements. Namespaces are left aside: some senders have none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from engine.formats.hip.services import local_name
from mappings.cda_to_fhir.context import CdaTransaction
from mappings.hl7v2_to_fhir.context import clean
from mappings.transaction import Draft

_BLANK: Final = re.compile(r"[\s\-—_/\\.,，。无]*")

Found = tuple[Any, str]
"""(element, attribute), with "" for the element itself."""


def is_blank(text: str) -> bool:
    """Nothing, or what people type where they must type something."""
    return _BLANK.fullmatch(text) is not None


class HipDraft(Draft):
    """A Draft with the element that it is about and the row of routes.csv that made it."""

    __slots__ = ("element", "parent", "route")

    def __init__(self, route: Any, element: Any, parent: HipDraft | None) -> None:
        super().__init__(route.resource, route.write, local_name(element), [], {})
        self.route, self.element, self.parent = route, element, parent


@dataclass(slots=True)
class HipTransaction(CdaTransaction):
    """`authorities` are who assigns the sender's numbers, by the role of the number (tables/senders.csv). `unmapped` counts codes that no
    table knew; `flags` are those of the element that is being mapped. `read` collects what was read, while that is to be explained;
    `kept` are bodies under construction, which labels know by their address."""

    authorities: dict[str, str] = field(default_factory=dict)
    unmapped: int = 0
    flags: dict[str, None] = field(default_factory=dict)
    read: set[tuple[Any, str]] | None = None
    kept: list[Draft] = field(default_factory=list)

    def get(self, element: Any, attribute: str) -> str:
        """An attribute as text, "" where there is none; with "" the element's own text."""
        text = clean((element.get(attribute) if attribute else element.text) or "")
        if text and self.read is not None:
            self.read.add((element, attribute))
        return text

    def said(self, found: Found) -> str:
        """What an attribute, or an element in any of the ways in which senders write one, says: ``@value``, text, ``item/part/@value``
        (EN), ``item/@value`` (TEL), ``displayName/@value`` (CD), ``originalText/@value``."""
        element, attribute = found
        if attribute:
            return self.get(element, attribute)
        own = self.get(element, "value") or self.get(element, "")
        if own:
            return own
        below = (inner for name in ("item", "part", "displayName", "originalText", "any", "low") for inner in children(element, name))
        return next((text for one in below if (text := self.said((one, "")))), "")

    def flag(self, code: str) -> None:
        """What is being mapped is doubtful, and whoever uses it must see that (``meta.tag``)."""
        self.flags[code] = None

    def unknown(self, code: str, table: str) -> None:
        """`code` is in no row of `table`."""
        self.unmapped += 1
        self.flag("unmapped-code")
        self.lose(f"code {code!r}", f"no row in codes/{table}.csv")


def children(element: Any, name: str) -> Iterator[Any]:
    found: Iterator[Any] = element.iterchildren(f"{{*}}{name}")
    return found


def child(element: Any, path: str) -> Any:
    """The first element at `path`, None where there is none."""
    for name in path.split("/"):
        element = next(children(element, name), None)
        if element is None:
            return None
    return element


def place(found: Found) -> str:
    """Where it stands: ``PRPA_IN201311UV02/controlActProcess/…/id/item[2]/@extension``."""
    element, attribute = found
    steps = [f"@{attribute}"] if attribute else []
    while element is not None:
        parent, name = element.getparent(), local_name(element)
        same = list(children(parent, name)) if parent is not None else []
        steps.append(f"{name}[{same.index(element) + 1}]" if len(same) > 1 else name)
        element = parent
    return "/".join(reversed(steps))
