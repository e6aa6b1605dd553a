"""What of a message without its end is complete: the storage rule of ASTM E1394 / CLSI LIS02-A2. Pure.

Records stand in levels (clause 5.2): the header and the terminator in 0, patients and queries in 1, orders in 2, results in 3; comments
and manufacturer's records belong to what they follow. A record of a lower level than the one before it says that all before it is
complete: a sender counts that as stored, and after a failure of the line may begin again with what comes behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_LEVELS: Final = {b"H": 0, b"L": 0, b"P": 1, b"Q": 1, b"S": 1, b"O": 2, b"R": 3}


def complete(records: Sequence[bytes]) -> tuple[list[bytes], int]:
    """The messages, each from its H on, that the complete records make, and how many records these are."""
    last = count = 0
    for index, record in enumerate(records):
        level = _LEVELS.get(_type(record), last)
        if level < last:
            count = index
        last = level
    begins = [index for index, record in enumerate(records[:count]) if _type(record) == b"H"]
    ends = [*begins[1:], count]
    return [b"".join(one + b"\r" for one in records[begin:end]) for begin, end in zip(begins, ends, strict=False)], count


def _type(record: bytes) -> bytes:
    return record.lstrip(b"\n")[:1].upper()
