"""What a Store Instances Response says of each instance (PS3.18 clause 10.5.3, annex I.2). Pure.

The response module is read as DICOM JSON (annex F) or as Native DICOM Model XML (PS3.19 annex A), which older servers send whatever they
are asked for: Referenced SOP Sequence (0008,1199) names what was stored, Failed SOP Sequence (0008,1198) what was not, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser
from xml.etree.ElementTree import ParseError as XmlError

import orjson

from engine.errors import ParseError

_REFERENCED, _FAILED = "00081199", "00081198"
_SOP_INSTANCE, _RETRIEVE_URL, _WARNING_REASON, _FAILURE_REASON = "00081155", "00081190", "00081196", "00081197"
_NO_REASON: Final = 0x0110
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Said:
    """Of one instance: `failure` reason (0 = it was stored), `warning` reason (0 = none), `retrieve_url` ("" = not told)."""

    failure: int = 0
    warning: int = 0
    retrieve_url: str = ""


def read_answer(body: bytes, content_type: str) -> dict[str, Said]:
    """SOP Instance UID -> what is said of it; a failure outweighs a success. Raises ParseError."""
    try:
        is_xml = "xml" in content_type.lower() or body.lstrip()[:1] == b"<"
        data_set = _xml(body) if is_xml else _json(body)
        said = {uid: Said(0, _number(item, _WARNING_REASON), _text(item, _RETRIEVE_URL)) for uid, item in _items(data_set, _REFERENCED)}
        said.update((uid, Said(_number(item, _FAILURE_REASON) or _NO_REASON)) for uid, item in _items(data_set, _FAILED))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError):
        raise ParseError("the answer is no Store Instances Response that can be read") from None
    return said


def _items(data_set: Mapping[str, Any], tag: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for item in (data_set.get(tag) or {}).get("Value", [])[:_MOST]:
        uid = _text(item, _SOP_INSTANCE)
        if uid:
            yield uid, item


def _text(item: Mapping[str, Any], tag: str) -> str:
    values = (item.get(tag) or {}).get("Value") or [""]
    return str(values[0]).strip()


def _number(item: Mapping[str, Any], tag: str) -> int:
    text = _text(item, tag)
    return int(text) & 0xFFFF if text else 0


def _json(body: bytes) -> Mapping[str, Any]:
    """Some servers send a list of one."""
    found = orjson.loads(body)
    data_set = found[0] if isinstance(found, list) else found
    if not isinstance(data_set, dict):
        raise ValueError("no data set")
    return data_set


def _xml(body: bytes) -> dict[str, Any]:
    """In the shape of DICOM JSON."""
    parser = XMLParser(target=_NoDoctype())  # noqa: S314  a document type, and so an entity, is refused
    try:
        parser.feed(body)
        root: Element = parser.close()
    except XmlError:
        raise ValueError("not well formed") from None
    return _attributes(root)


class _NoDoctype(TreeBuilder):
    def doctype(self, *_: Any) -> None:
        raise ValueError("a document type declaration is not allowed")


def _attributes(parent: Element) -> dict[str, Any]:
    found = {}
    for element in parent:
        if _local(element) == "DicomAttribute":
            items: list[Any] = [_attributes(item) for item in element if _local(item) == "Item"]
            values = items or [one.text or "" for one in element if _local(one) in ("Value", "URI")]
            found[str(element.get("tag")).upper()] = {"Value": values}
    return found


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]
