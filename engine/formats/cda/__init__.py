"""HL7 CDA release 2: the header of a clinical document, its elements, and whether it is what its envelope says of it. A pure codec."""

from __future__ import annotations

from typing import Final

from engine.formats.cda.claims import Claimed, Discrepancy, cross_check
from engine.formats.cda.elements import (
    NO_CODE,
    NO_ID,
    V3,
    XSI_TYPE,
    Code,
    Element,
    Id,
    attribute,
    children,
    code_of,
    first,
    id_of,
    is_no_number,
    local,
    text_of,
    time_of,
)
from engine.formats.cda.header import LIMITS, Author, ClinicalDocument, Encounter, NonXmlBody, Party, Related, checked, read, whole
from engine.message import CDA


class CdaCodec:
    """engine.contracts.Codec"""

    content_type = CDA
    headers = True

    def decode(self, body: bytes) -> ClinicalDocument:
        return read(body)

    def check_path(self, path: str) -> None:
        checked(path)


codec: Final = CdaCodec()


__all__ = [
    "LIMITS", "NO_CODE", "NO_ID", "V3", "XSI_TYPE", "Author", "Claimed", "ClinicalDocument", "Code", "Discrepancy", "Element",
    "Encounter", "Id", "NonXmlBody", "Party", "Related", "attribute", "checked", "children", "code_of", "codec", "cross_check", "first",
    "id_of", "is_no_number", "local", "read", "text_of", "time_of", "whole",
]  # fmt: skip
