"""Files cut into messages, each with its place. Pure; at flat memory, however long the file. A bad piece does not stop the next.

lines.py        physical lines, bounded
delimited.py    CSV and its kin (RFC 4180): rows
grouping.py     consecutive rows with one key: a header with its details
fixed_width.py  columns by place, in characters or bytes
ndjson.py       a JSON document on each line
hl7v2.py        HL7 v2 batches (v2.5 clause 2.10.3) and bare sequences of messages
xml_pieces.py   the elements at a path of an XML document
whole.py        what is not cut: JSON, PDF, anything
archives.py     zip, tar and gzip around any of these
labelled.py     a file with what is known of it, as one body
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from engine.errors import ParseError
from engine.values import value


@value(frozen=True, slots=True)
class Piece:
    """One message of a file, good or bad.

    `number` counts from 1 in the file, bad ones too; `line` is the one on which it begins, from 1 (0: such a file has no lines), `offset`
    its first byte, 0 where that is not known. `body` None means the whole file. `fault` says what is wrong with it, without payload: the
    body is then what stands in the file.
    """

    number: int
    body: bytes | None
    content_type: str
    line: int = 0
    offset: int = 0
    message_type: str = ""
    control_id: str = ""
    sender: str = ""
    patient_ids: Sequence[str] = ()
    fault: ParseError | None = None


Splitter = Callable[[BinaryIO], Iterator[Piece]]
"""Cuts a file that is read from its beginning; the same bytes give the same pieces. Raises ParseError where the rest cannot be cut, with
the place as its location. Some seek."""
