"""While explaining: what of a document was not carried."""

from __future__ import annotations

from typing import Final

from engine.formats.cda import Element
from mappings.cda_to_fhir.context import CdaTransaction
from mappings.cda_to_fhir.source import Source

_FORMAL: Final = frozenset(("realmCode", "typeId", "templateId", "statusCode", "reference"))
_STRUCTURAL: Final = frozenset(
    ("classCode", "moodCode", "typeCode", "determinerCode", "contextControlCode", "contextConductionInd", "nullFlavor", "ID", "negationInd")
) | {"inversionInd"}


def _protocol(element: Element) -> bool:
    """What says how a document is written, not what it says."""
    name = str(element.tag).rpartition("}")[2]
    if name in _FORMAL:
        return True
    told = [one for one in element.attrib if str(one) not in _STRUCTURAL and "schemaLocation" not in str(one)]
    return not told and not (element.text and element.text.strip())


def uncarried(source: Source) -> None:
    """While explaining: everything with a value of which nothing was made."""
    if source.tx.notes is None:
        return
    claim_binaries(source.tx, source.path(source.header.root))
    for element in source.header.root.iter():
        if not (element.attrib or (element.text and element.text.strip())) or _protocol(element):
            continue
        path = source.path(element)
        steps = path.split("/")
        if not any("/".join(steps[:length]) in source.marked for length in range(2, len(steps) + 1)):
            source.lost(element, "not carried")


def claim_binaries(tx: CdaTransaction, place: str) -> None:
    for draft in tx.drafts:
        if draft.kind == "Binary":
            tx.claim(draft.body, place, "the bytes as they came")
