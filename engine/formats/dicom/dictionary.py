"""The data dictionary (PS3.6), as pydicom has it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.uid import UID

_UID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,60}))+")
LONG: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
"""Value representations with a length of 32 bits in explicit VR (PS3.5 table 7.1-1)."""
SHORT: Final = frozenset(
    ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US")
)
"""Those with one of 16 bits."""


@lru_cache(maxsize=8192)
def keyword_of(tag: int) -> str:
    """``PatientID``; ``(0009,1001)`` where the dictionary has none."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int | None:
    """The tag of a keyword, None where there is none."""
    return tag_for_keyword(keyword)


@lru_cache(maxsize=8192)
def vr_of(tag: int) -> str:
    """The value representation, UN where the dictionary has none. Of several (``US or SS``) the first."""
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0:
        return "UL"
    if group & 1:
        return "LO" if 0x10 <= element <= 0xFF else "UN"
    try:
        return dictionary_VR(tag)[:2]
    except KeyError:
        return "UN"


def uid_keyword(uid: str) -> str:
    """``CTImageStorage``; "" for a UID that the dictionary has not."""
    return str(UID(uid).keyword) if _UID.fullmatch(uid) else ""


def uid_name(uid: str) -> str:
    """``CT Image Storage``; "" for a UID that the dictionary has not."""
    return str(UID(uid).name) if uid_keyword(uid) else ""
