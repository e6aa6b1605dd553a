"""What is other than expected, element by element, in words for who reads the test's output."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson


def differences(wanted: Any, got: Any, path: str = "") -> Iterator[str]:
    """Element by element: what is missing, what is too much, what is other."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        yield from _of_objects(wanted, got, path)
    elif isinstance(wanted, list) and isinstance(got, list) and all(isinstance(x, dict) for x in [*wanted, *got]):
        yield from _of_items(wanted, got, path)
    elif isinstance(wanted, list) and isinstance(got, list):
        lines = difflib.unified_diff([str(x) for x in wanted], [str(x) for x in got], "expected", "got", lineterm="", n=0)
        yield from (f"{path}: {line}" for line in lines if line[:2] not in ("--", "++", "@@"))
    elif wanted != got:
        yield f"{path}: expected {_short(wanted)}, got {_short(got)}"


def _of_objects(wanted: dict[str, Any], got: dict[str, Any], path: str) -> Iterator[str]:
    for name in [*wanted, *(name for name in got if name not in wanted)]:
        where = f"{path}.{name}" if path else name
        if name not in got:
            yield _missing(where, wanted[name])
        elif name not in wanted:
            yield _surplus(where, got[name])
        else:
            yield from differences(wanted[name], got[name], where)


def _of_items(wanted: Sequence[Any], got: Sequence[Any], path: str) -> Iterator[str]:
    """Equal items are found first, so that one more or one less does not make all that follow differ."""
    matcher = difflib.SequenceMatcher(None, [_canonical(x) for x in wanted], [_canonical(x) for x in got], autojunk=False)
    for what, w1, w2, g1, g2 in matcher.get_opcodes():
        if what == "equal":
            continue
        for index in range(max(w2 - w1, g2 - g1)):
            if g1 + index >= g2:
                yield _missing(_where(path, w1 + index, wanted[w1 + index]), wanted[w1 + index])
            elif w1 + index >= w2:
                yield _surplus(_where(path, g1 + index, got[g1 + index]), got[g1 + index])
            else:
                yield from differences(wanted[w1 + index], got[g1 + index], _where(path, w1 + index, wanted[w1 + index]))


def _where(path: str, index: int, item: dict[str, Any]) -> str:
    """With the resource's type where it is a Bundle's entry: nobody counts to entry[17]."""
    resource = item.get("resource")
    kind = resource.get("resourceType", "") if isinstance(resource, dict) else ""
    return f"{path}[{index}]({kind})" if kind else f"{path}[{index}]"


def _missing(where: str, value: Any) -> str:
    return f"{where}: missing, expected {_short(value)}"


def _surplus(where: str, value: Any) -> str:
    return f"{where}: not expected, got {_short(value)}"


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
