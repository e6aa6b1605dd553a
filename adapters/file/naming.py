"""Names of files out of what a message says. No message can name a path. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.file.places import is_plain
from engine.errors import PermanentDelivery
from engine.options import Faulty, Kind
from engine.templates import Value, names_in, paths_in, text_of

_UNFIT: Final = re.compile(r"[^\w.,=@+()-]")
_MOST: Final = 120
"""Characters of one value in a name."""


def _template(raw: Any) -> str:
    text = str(raw)
    if any(name.startswith(("content.", "tables.")) for name in names_in([text], ())):
        raise Faulty("a name is made of ${message.…} and paths of the content")
    if not is_plain(re.sub(r"\$\{[^{}]*\}", "x", text)):
        raise Faulty(f"{raw!r} is no name of a file: it has a slash, begins with a dot, or is too long")
    return text


TEMPLATE: Final = Kind("name", "a name such as ${message.control_id}.json", _template, {"type": "string"})


def name_of(template: str, value: Value) -> str:
    """Raises PermanentDelivery where the message lacks what its name is made of, or it makes none."""
    name = text_of(template, lambda one: _fit(one, value(one)))
    if name is None or not is_plain(name):
        raise PermanentDelivery("the name that this message makes is none that a file can have")
    return name


def _fit(asked: str, found: str | None) -> str:
    if not found:
        raise PermanentDelivery(f"the message lacks {asked}, by which its file is named", location=asked)
    return _UNFIT.sub("_", found)[:_MOST].lstrip(".") or "_"


def asked_paths(template: str) -> list[str]:
    """Paths of the content that a name is made of."""
    return paths_in(names_in([template], ()))
