"""Messages made from the standard's schemas, where a test has them: the least that each of the services takes, nothing of it kept here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

XSD = "{http://www.w3.org/2001/XMLSchema}"
V3 = "{urn:hl7-org:v3}"
IDS = "7f1c2a30-5d3e-4b53-8a55-0a4a7c8f1e"
CANDIDATES = ("20260301101530", "20260301", "1", "2", "01", "1.0", "true", "active", "2026", "A1", "000000")
TYPES = {
    "long": "20260301101530",
    "int": "1",
    "byte": "1",
    "short": "1",
    "positiveInteger": "1",
    "nonNegativeInteger": "30",
    "float": "1.5",
    "boolean": "true",
}


class Sampler:
    """`values` are what attributes at a path's end are to hold (``sender/device/id/item/@extension``), where a test wants them said."""

    def __init__(self, schema: Path, values: dict[str, str] | None = None) -> None:
        self._root = etree.parse(str(schema)).getroot()
        self._named = {one.get("name"): one for one in self._root if one.tag in (f"{XSD}complexType", f"{XSD}simpleType")}
        self._values = {"PRESET": "", **(values or {})}

    def message(self) -> Any:
        top = self._root.find(f"{XSD}element")
        element = etree.Element(V3 + top.get("name"), nsmap={None: V3[1:-1]})
        self._fill(element, top, "")
        return element

    def text(self) -> str:
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(self.message(), encoding="unicode", pretty_print=True)

    def _fill(self, element: Any, declared: Any, path: str) -> None:
        for node in self._content(declared):
            if node.tag == f"{XSD}attribute":
                if node.get("use") == "required" or node.get("name") in ("root", "extension", "code", "value"):
                    element.set(node.get("name"), self._value(node, f"{path}/@{node.get('name')}"))
                continue
            for _ in range(int(node.get("minOccurs", "1"))):
                self._fill(etree.SubElement(element, V3 + node.get("name")), node, f"{path}/{node.get('name')}")
        if len(element) == 0 and self._simple(declared) is not None:
            element.text = self._value(declared, path) or None

    def _content(self, declared: Any) -> Iterator[Any]:
        """Attributes and elements of a declaration, through its types."""
        kind = self._named.get((declared.get("type") or "").rpartition(":")[2])
        for node in declared if kind is None else kind:
            if node.tag in (f"{XSD}attribute", f"{XSD}element"):
                yield node
            elif node.tag in {XSD + name for name in ("complexType", "sequence", "all", "simpleContent", "complexContent", "extension")}:
                base = self._named.get((node.get("base") or "").rpartition(":")[2])
                if base is not None:
                    yield from self._content(base)
                yield from self._content(node)

    def _simple(self, declared: Any) -> Any:
        kind = (declared.get("type") or "").rpartition(":")[2]
        if declared.find(f"{XSD}simpleType") is not None:
            return declared.find(f"{XSD}simpleType")
        if declared.find(f".//{XSD}extension") is not None and declared.find(f"{XSD}complexType/{XSD}simpleContent") is not None:
            base = declared.find(f"{XSD}complexType/{XSD}simpleContent/{XSD}extension").get("base").rpartition(":")[2]
            return base if base != "string" else None
        return kind if kind in TYPES else None

    def _value(self, declared: Any, path: str) -> str:
        """One that its facets allow."""
        preset = next((value for end, value in self._values.items() if path.endswith("/" + end)), "")
        if preset or declared.get("fixed") is not None:
            return preset or declared.get("fixed")
        restriction = declared.find(f".//{XSD}restriction")
        if restriction is None:
            kind = (declared.get("type") or "").rpartition(":")[2]
            named = self._named.get(kind)
            restriction = named.find(f".//{XSD}restriction") if named is not None else None
            if restriction is None:
                return TYPES.get(kind, "样本" if path.endswith("displayName/@value") else "S1")
        return self._restricted(restriction)

    @staticmethod
    def _restricted(restriction: Any) -> str:
        facets: dict[str, list[str]] = {}
        for facet in restriction:
            facets.setdefault(facet.tag.removeprefix(XSD), []).append(facet.get("value") or "")
        if "enumeration" in facets:
            return next((value for value in facets["enumeration"] if value), "")
        length = int(facets.get("length", facets.get("minLength", ["1"]))[0])
        base = (restriction.get("base") or "").rpartition(":")[2]
        kept = (TYPES[base], *CANDIDATES) if base in TYPES else CANDIDATES
        longest = int(facets.get("maxLength", ["64"])[0])
        candidates = [*kept, *(word.strip() for word in "|".join(facets.get("pattern", [])).split("|") if len(word) < 40)]
        if base not in TYPES and "pattern" not in facets:
            return (IDS + "x" * 64)[: max(length, 1)] if length > 2 else "S1"[: max(length, min(2, longest))]
        for value in candidates:
            low, high = (
                int(facets.get(name, [otherwise])[0])
                for name, otherwise in (("minInclusive", "-1" + "0" * 18), ("maxInclusive", "1" + "0" * 18))
            )
            fits = any(re.fullmatch(pattern.strip(), value) for pattern in facets["pattern"]) if "pattern" in facets else True
            if fits and length <= len(value) <= longest and (not value.isdigit() or low <= int(value) <= high):
                return value
        return candidates[0]
