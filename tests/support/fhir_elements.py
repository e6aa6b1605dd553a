"""The table of FHIR R4 elements that rows-to-fhir checks its rules with, made from fhir.resources (R4B, which differs from R4 in a few
resources for evidence and medication definitions only). Run as a program it writes the table."""

from __future__ import annotations

import csv
import importlib
import io
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fhir.resources import R4B

TABLE = Path(__file__).parents[2] / "mappings" / "rows_to_fhir" / "tables" / "elements.csv"
HEAD = (
    "# Elements of FHIR R4, made by tests/support/fhir_elements.py. `list`: repeats; `values`: the codes, or the types that it refers to.\n"
)
_OBSERVED = "registered preliminary final amended corrected cancelled entered-in-error unknown"
_ENCOUNTERED = "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown"
_COMPARED = "< <= >= >"
CUT_SHORT = {
    ("DetectedIssue", "status"): _OBSERVED,
    ("DeviceUseStatement", "status"): "active completed entered-in-error intended stopped on-hold",
    ("DiagnosticReport", "status"): "registered partial preliminary final amended corrected appended cancelled entered-in-error unknown",
    ("Encounter", "status"): _ENCOUNTERED,
    ("EncounterStatusHistory", "status"): _ENCOUNTERED,
    ("Observation", "status"): _OBSERVED,
    ("RiskAssessment", "status"): _OBSERVED,
    ("SupplyRequest", "status"): "draft active suspended cancelled completed entered-in-error unknown",
    ("Task", "status"): "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed entered-in-error",
    **{(kind, "comparator"): _COMPARED for kind in ("Age", "Count", "Distance", "Duration", "Quantity")},
}
"""Codes of required bindings that the models name only some of (``final | amended +``): FHIR R4's own value sets."""
_SKIPPED = ("resource_type", "resourceType", "fhir_comments", "contained", "implicitRules", "language", "modifierExtension")


def models() -> dict[str, Any]:
    found = {}
    for module in pkgutil.iter_modules(R4B.__path__):
        if module.name in ("tests", "fhirtypes"):
            continue
        loaded = importlib.import_module(f"{R4B.__name__}.{module.name}")
        for name, kind in vars(loaded).items():
            if isinstance(kind, type) and hasattr(kind, "model_fields") and kind.__module__ == loaded.__name__:
                found[name] = kind
    return found


def rows() -> Iterator[tuple[str, str, str, str, str, str]]:
    for name, model in sorted(models().items()):
        for field, info in model.model_fields.items():
            element = info.alias or field
            if element.startswith("_") or field.endswith("__ext") or element in _SKIPPED:
                continue
            more = info.json_schema_extra or {}
            text = str(info.annotation)
            match = re.search(r"(\w+)Type\b", text)
            kind = match[1] if match else next(iter(re.findall(r"Annotated\[[\w.]+, (?:\w+\.)*(\w+)\(", text)), "")
            if not kind:
                kind = "boolean" if "bool" in text else "xhtml" if element == "div" else "url"
            kind = {"EncodedBytes": "base64Binary", "UuidVersion": "uuid"}.get(kind, kind)
            values = more.get("enum_values") or more.get("enum_reference_types") or ()
            kept = "" if "+" in values else " ".join(one for one in values if " " not in one)
            kept = CUT_SHORT.get((name, element), kept)
            required = "1" if more.get("element_required") or info.is_required() else ""
            yield name, element, kind[0].lower() + kind[1:] if match is None else kind, "1" if "List[" in text else "", required, kept


def table() -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("type", "element", "kind", "list", "required", "values"))
    writer.writerows(rows())
    return HEAD + out.getvalue()


if __name__ == "__main__":
    TABLE.write_text(table())
