"""Documents made from the schemas of WS/T 500 (read where they are at hand, at run time), each valid against its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lxml import etree

from tests.support.reference import reference

FOLDER: Final = reference("nhc-wst846", "cdas")
XS: Final = "{http://www.w3.org/2001/XMLSchema}"
V3: Final = "urn:hl7-org:v3"
XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_TIME: Final = "20260314092653"
_FACTS: Final[dict[tuple[str, str, str], str]] = {
    ("id", "root", "patientRole"): "2.16.156.10011.1.12",
    ("id", "root", "patient"): "2.16.156.10011.1.3",
    ("id", "extension", "patient"): "110101198001011232",
    ("id", "root", "ClinicalDocument"): "2.16.156.10011.1.1",
    ("id", "extension", "ClinicalDocument"): "D000000000000000000000000000000001",
    ("code", "codeSystem", "ClinicalDocument"): "2.16.156.10011.2.4",
}
"""Values of attributes by (element, attribute, element around it)."""
_PLAIN: Final = {
    "codeSystem": "2.16.156.10011.2.2.1", "code": "DE04.01.119.00", "displayName": "主诉", "root": "2.16.156.10011.1.4", "extension": "1001",
    "classCode": "OBS", "moodCode": "EVN", "typeCode": "COMP", "value": _TIME, "unit": "d", "use": "H", "determinerCode": "INSTANCE",
}  # fmt: skip
_NUMBERS: Final = frozenset(
    f"xs:{name}"
    for name in ("float", "int", "long", "byte", "integer", "short", "nonNegativeInteger", "positiveInteger", "decimal", "double")
)


def local(element: etree._Element) -> str:
    return etree.QName(element).localname


class Generator:
    """Makes a document of one schema. `full` takes optional elements in and repeats what may be repeated."""

    def __init__(self, schema: Path, *, full: bool) -> None:
        self._root = etree.parse(schema).getroot()
        self._full = full
        self._types = {one.get("name"): one for one in self._root if one.tag in (f"{XS}complexType", f"{XS}simpleType")}

    def document(self) -> bytes:
        declared = self._root.find(f"{XS}element")
        assert declared is not None
        nsmap: dict[str | None, str] = {None: V3, "xsi": "http://www.w3.org/2001/XMLSchema-instance"}
        made = etree.Element(f"{{{V3}}}ClinicalDocument", nsmap=nsmap)  # type: ignore[arg-type]
        self._fill(made, declared)
        return etree.tostring(made, encoding="utf-8", xml_declaration=True)

    def _fill(self, made: etree._Element, declared: etree._Element) -> None:
        complex_type = declared.find(f"{XS}complexType")
        if complex_type is None and declared.get("type") in self._types:
            complex_type = self._types[declared.get("type")]
        if complex_type is not None and complex_type.tag == f"{XS}complexType":
            self._complex(made, complex_type)
            return
        simple = declared.find(f"{XS}simpleType")
        kind = declared.get("type") or ""
        if not kind and simple is None:
            made.set(XSI, "ST")  # anyType: a value
            made.text = "值"
        else:
            made.text = declared.get("fixed") or self._text(simple, kind, made, "")

    def _complex(self, made: etree._Element, complex_type: etree._Element) -> None:
        content = complex_type.find(f"{XS}simpleContent")
        for attribute in self._attributes(complex_type):
            around = made.getparent()
            place = (local(made), attribute.get("name") or "", "" if around is None else local(around))
            if attribute.get("use") == "required" or self._full or place in _FACTS or place == ("code", "code", "ClinicalDocument"):
                self._attribute(made, attribute)
        if content is not None:
            base = content[0].get("base") or ""
            made.text = "1" if base in _NUMBERS else None
            return
        for child in complex_type:
            self._group(made, child)

    def _attributes(self, complex_type: etree._Element) -> Iterator[etree._Element]:
        yield from complex_type.findall(f"{XS}attribute")
        yield from complex_type.findall(f"{XS}simpleContent/*/{XS}attribute")
        yield from complex_type.findall(f"{XS}complexContent/*/{XS}attribute")

    def _group(self, made: etree._Element, group: etree._Element) -> None:
        if group.tag == f"{XS}complexContent":
            for child in group[0]:
                self._group(made, child)
        elif group.tag in (f"{XS}sequence", f"{XS}all"):
            for _ in range(max(1, int(group.get("minOccurs", "1")))):
                for child in group:
                    self._group(made, child)
        elif group.tag == f"{XS}choice":
            for child in [one for one in group if one.tag != f"{XS}annotation"][:1]:
                self._group(made, child)
        elif group.tag == f"{XS}element":
            least, most = int(group.get("minOccurs", "1")), group.get("maxOccurs", "1")
            count = max(least, 2 if most == "unbounded" and self._depth(made) < 9 else 1) if self._full else least
            for _ in range(count):
                inner = etree.SubElement(made, f"{{{V3}}}{group.get('name')}")
                self._fill(inner, group)

    @staticmethod
    def _depth(made: etree._Element) -> int:
        return len(list(made.iterancestors()))

    def _attribute(self, made: etree._Element, attribute: etree._Element) -> None:
        name = attribute.get("name") or ""
        fixed = attribute.get("fixed")
        around = made.getparent()
        inside = "" if around is None else local(around)
        element = local(made)
        simple = attribute.find(f"{XS}simpleType")
        fact = _FACTS.get((element, name, inside))
        made.set(
            name, fixed or (fact if fact and self._fits(simple, fact) else self._text(simple, attribute.get("type") or "", made, name))
        )

    @staticmethod
    def _fits(simple: etree._Element | None, text: str) -> bool:
        """Whether a fact may stand there: the schema allows any text of its length."""
        if simple is None:
            return True
        longest = simple.find(f".//{XS}maxLength")
        free = all(simple.find(f".//{XS}{facet}") is None for facet in ("enumeration", "length", "pattern"))
        return free and (longest is None or len(text) <= int(longest.get("value") or 0))

    def _text(self, simple: etree._Element | None, kind: str, made: etree._Element, name: str) -> str:
        """A text that a simple type allows."""
        facets: dict[str, str] = {}
        if simple is not None:
            restriction = simple.find(f"{XS}restriction")
            assert restriction is not None
            kind = restriction.get("base") or ""
            for facet in restriction:
                facets.setdefault(etree.QName(facet).localname, facet.get("value") or "")
        if "enumeration" in facets:
            return facets["enumeration"]
        if "pattern" in facets:
            return _TIME if "2[0-3]" in facets["pattern"] else "20260314"
        if kind in _NUMBERS:
            if name == "value" and made.tag.endswith("birthTime"):
                return "19800101"
            return facets.get("minInclusive") or "1"
        if kind == "xs:boolean":
            return "true"
        text = _PLAIN.get(name, "文字" if not name else "1")
        least, most = int(facets.get("length") or facets.get("minLength") or 0), int(facets.get("length") or facets.get("maxLength") or 999)
        return text.ljust(least, "0")[: max(most, 0)]


def schemas() -> list[Path]:
    return sorted(FOLDER.glob("C00*.xsd"))
