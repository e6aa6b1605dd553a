"""Images and documents that show whom they are of: they are not cleaned, they do not leave."""

from __future__ import annotations

from typing import Any, Final

from engine.deidentify.policy import Policy
from engine.errors import Quarantined

_OFTEN_ANNOTATED: Final = frozenset(("US", "IVUS", "ES", "XC", "OT", "SC", "DOC", "BMD", "OP", "GM"))
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_ENCAPSULATED: Final = "1.2.840.10008.5.1.4.1.1.104."


def refuse_pictures(dataset: Any, sop_class: str, policy: Policy) -> None:
    """Raises Quarantined: text is burned into the pixels, or may be (the destination decides about those); a face can be recognized; the
    instance is a document (PDF, CDA, STL) or a directory."""
    if sop_class == _DIRECTORY:
        raise Quarantined("a media directory cannot be de-identified", location="MediaStorageSOPClassUID")
    if sop_class.startswith(_ENCAPSULATED) or "EncapsulatedDocument" in dataset:
        raise Quarantined("an encapsulated document cannot be de-identified", location="EncapsulatedDocument")
    annotated = _word(dataset, "BurnedInAnnotation")
    if annotated == "YES":
        raise Quarantined("the image says that text is burned into its pixels", location="BurnedInAnnotation")
    if _word(dataset, "RecognizableVisualFeatures") == "YES":
        raise Quarantined("the image says that the patient can be recognized in it", location="RecognizableVisualFeatures")
    if annotated != "NO" and policy.quarantine_unknown and _often_annotated(dataset, sop_class):
        raise Quarantined(
            "an image of this kind often has text burned in, and it does not say that it has none", location="BurnedInAnnotation"
        )


def _often_annotated(dataset: Any, sop_class: str) -> bool:
    if not any(keyword in dataset for keyword in ("Rows", "NumberOfFrames")):
        return False
    captured = sop_class == _SECONDARY_CAPTURE or sop_class.startswith(f"{_SECONDARY_CAPTURE}.") or "ConversionType" in dataset
    return captured or _word(dataset, "Modality") in _OFTEN_ANNOTATED


def _word(dataset: Any, keyword: str) -> str:
    return str(dataset.get(keyword, "") or "").strip().upper()
