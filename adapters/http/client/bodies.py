"""Templates of a request's body: JSON and forms, written in YAML, and plain text. Values go into the finished tree or are encoded, never
into the text of JSON. Pure.

    json: {patient: "${PID-3.1}", value: {number: "${OBX-5}"}, final: true}
    form: {order: "${ORC-2.1}"}
    text: "result ${OBX-5}"

In JSON a text that is one placeholder alone is null where the message has no such value; ``{number: …}``, ``{boolean: …}`` and
``{json: …}`` make what their text says of another type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from engine import templates
from engine.errors import ParseError, PermanentDelivery
from engine.formats.fhir import Exact, dump, parse_any
from engine.message import FORM, JSON
from engine.options import TEXT, Faulty
from engine.templates import Value

_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_BOOLEANS: Final = {"true": True, "1": True, "Y": True, "false": False, "0": False, "N": False}
TYPED: Final = ("number", "boolean", "json")


@dataclass(frozen=True, slots=True)
class Body:
    """A compiled one: `kind` is ``json``, ``form`` or ``text``; `names` are the placeholders in it."""

    kind: str
    tree: Any
    names: tuple[str, ...]

    @property
    def content_type(self) -> str:
        return {"json": JSON, "form": FORM}.get(self.kind, "text/plain; charset=utf-8")

    def fill(self, value: Value) -> bytes:
        """Raises PermanentDelivery where a value is not of the type that it is put in as."""
        if self.kind == "text":
            return (templates.text_of(self.tree, value) or "").encode("utf-8", "replace")
        if self.kind == "form":
            filled = [(name, templates.text_of(text, value)) for name, text in self.tree.items()]
            return urlencode([(name, text) for name, text in filled if text is not None]).encode("ascii")
        return dump(_filled(self.tree, value))


def json_body(raw: Any) -> Body:
    """Raises Faulty."""
    tree = _plain(raw)
    return Body("json", tree, templates.names_in(_texts(tree)))


def form_body(raw: Any) -> Body:
    """Raises Faulty."""
    if not isinstance(raw, Mapping):
        raise Faulty("a form has names and texts")
    tree = {str(name): str(TEXT.read(text)) for name, text in raw.items()}
    return Body("form", tree, templates.names_in(tree.values()))


def text_body(raw: Any) -> Body:
    """Raises Faulty. What looks like JSON or XML is refused: a value could become markup in it."""
    text = str(TEXT.read(raw))
    if text.lstrip()[:1] in ("{", "[", "<") and templates.names_in([text]):
        raise Faulty("a value could become markup in this text: write JSON as `json`; XML with values is not possible")
    return Body("text", text, templates.names_in([text]))


def _plain(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return {str(name): _plain(item) for name, item in raw.items()}
    if isinstance(raw, list):
        return [_plain(item) for item in raw]
    if raw is None or isinstance(raw, bool | int):
        return raw
    return Exact(str(raw)) if isinstance(raw, float) else str(TEXT.read(raw))


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(item)


def _filled(tree: Any, value: Value) -> Any:
    if isinstance(tree, str):
        return templates.text_of(tree, value)
    if isinstance(tree, list):
        return [_filled(item, value) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1 and (kind := next(iter(tree))) in TYPED and isinstance(tree[kind], str):
        text = templates.text_of(tree[kind], value)
        return None if text is None or not text.strip() else _AS[kind](text.strip(), tree[kind])
    return {name: _filled(item, value) for name, item in tree.items()}


def _number(text: str, written: str) -> Any:
    if not _NUMBER.fullmatch(text):
        raise PermanentDelivery("a value of this message is no number", location=written)
    return Exact(text)


def _boolean(text: str, written: str) -> bool:
    if text not in _BOOLEANS:
        raise PermanentDelivery(f"a value of this message is none of {', '.join(_BOOLEANS)}", location=written)
    return _BOOLEANS[text]


def _json(text: str, written: str) -> Any:
    try:
        return parse_any(text.encode("utf-8", "surrogatepass"))
    except ParseError:
        raise PermanentDelivery("a value of this message is no JSON", location=written) from None


_AS: Final[Mapping[str, Callable[[str, str], Any]]] = {"number": _number, "boolean": _boolean, "json": _json}
