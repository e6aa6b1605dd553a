"""What a peer's status means for an instance: C-STORE (PS3.4 table B.2-1) and STOW-RS failure reasons (PS3.18 annex I.2.2) alike. Pure.

0000, B000, B006, B007      taken (with the warning that something was coerced, left out, or does not match)
A7xx, 0110, 0213, 0001, FE00 transient: out of resources, or a failure of its own in processing
anything else               permanent: A9xx the data set does not match its SOP class, Cxxx it cannot be understood, 0122 the SOP class
                            is not supported, 0124 not authorized, C122 (STOW) the transfer syntax is not supported …
"""

from __future__ import annotations

from typing import Final

from engine.errors import DeliveryError, PermanentDelivery, TransientDelivery

_TAKEN: Final = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
_FOR_NOW: Final = frozenset({0x0110, 0x0213, 0x0001, 0xFE00})
_WORDS: Final = {
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class and instance conflict",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class",
    0xC122: "transfer syntax not supported",
}
_RANGES: Final = {0xA7: "out of resources", 0xA9: "data set does not match SOP class", 0xC0: "cannot understand"}


def is_taken(status: int) -> bool:
    return status in _TAKEN


def in_words(status: int) -> str:
    """``A700H out of resources``"""
    words = _WORDS.get(status) or _RANGES.get(status >> 8) or ("cannot understand" if status >> 12 == 0xC else "")
    return f"{status:04X}H {words}".rstrip()


def failure(status: int, who: str, answer: bytes = b"", *, whole_when_full: bool = False) -> DeliveryError:
    """The error for a status that is no success; `who` answered it. `whole_when_full`: a peer that is out of resources takes nothing
    else either."""
    text = f"{who} answered {in_words(status)}"
    if status >> 8 == 0xA7 or status in _FOR_NOW:
        return TransientDelivery(text, answer=answer, whole_destination=whole_when_full and status >> 8 == 0xA7)
    return PermanentDelivery(text, answer=answer)
