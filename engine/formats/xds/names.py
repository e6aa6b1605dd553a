"""The names that the standards give: namespaces, object types, statuses, actions, and the table of metadata attributes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, NamedTuple

XDSB: Final = "urn:ihe:iti:xds-b:2007"
RIM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
LCM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
RS: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
QUERY: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XOP: Final = "http://www.w3.org/2004/08/xop/include"
NAMESPACES: Final = {"xdsb": XDSB, "rim": RIM, "lcm": LCM, "rs": RS, "query": QUERY}

PROVIDE: Final = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
PROVIDED: Final = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse"
STORED_QUERY: Final = "urn:ihe:iti:2007:RegistryStoredQuery"
MULTI_PATIENT_QUERY: Final = "urn:ihe:iti:2009:MultiPatientStoredQuery"
RETRIEVE: Final = "urn:ihe:iti:2007:RetrieveDocumentSet"
RETRIEVED: Final = "urn:ihe:iti:2007:RetrieveDocumentSetResponse"

STABLE: Final = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND: Final = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"
"""Object types of a DocumentEntry (4.2.3.2.30)."""
SUBMISSION_SET: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
FOLDER: Final = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
"""Classification nodes that say what a RegistryPackage is (4.2.1.1, 4.2.1.2)."""
LIMITED: Final = frozenset(
    f"urn:uuid:{one}"
    for one in (
        "5003a9db-8d8d-49e6-bf0c-990e34ac7707",
        "ab9b591b-83ab-4d03-8f5d-f93b1fb92e85",
        "2c144a76-29a9-4b7c-af54-b25409fe7d03",
    )
)
"""limitedMetadata of submission sets, document entries and folders."""

HAS_MEMBER: Final = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
RELATIONSHIPS: Final = {f"urn:ihe:iti:2007:AssociationType:{word}": word for word in ("RPLC", "XFRM", "APND", "XFRM_RPLC", "signs")} | {
    "urn:ihe:iti:2010:AssociationType:IsSnapshotOf": "IsSnapshotOf"
}
"""Between documents (4.2.2.2)."""
APPROVED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
SUCCESS: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
PARTIAL: Final = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
ERROR: Final = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
WARNING: Final = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One row of attributes.csv."""

    object: str
    attribute: str
    kind: str
    name: str
    most: str
    full: str
    limited: str
    format: str


class Attributes(NamedTuple):
    """`of` lists an object's in the order of the table; `schemes` finds one by the URN of its scheme, `slots` by its slot."""

    of: dict[str, dict[str, Attribute]]
    schemes: dict[str, Attribute]
    slots: dict[tuple[str, str], Attribute]


def _load() -> Attributes:
    text = files("engine.formats.xds").joinpath("attributes.csv").read_text("utf-8")
    rows = [Attribute(**row) for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))]
    of: dict[str, dict[str, Attribute]] = {}
    for row in rows:
        of.setdefault(row.object, {})[row.attribute] = row
    schemes = {row.name: row for row in rows if row.name.startswith("urn:uuid:")}
    return Attributes(of, schemes, {(row.object, row.name): row for row in rows if row.kind == "slot"})


ATTRIBUTES: Final = _load()
