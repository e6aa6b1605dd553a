"""A query of the modality worklist: the identifier read, and its answers written (PS3.4 clause K.4.1). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydicom.uid import ImplicitVRLittleEndian

from adapters.dicom.worklist import matching, repertoire
from adapters.dicom.worklist.answer import asked, supported, whole
from adapters.dicom.worklist.attributes import CHARSET, STATION
from adapters.dicom.worklist.elements import Item, encode, parse
from adapters.dicom.worklist.steps import Step

SOP_CLASS: Final = "1.2.840.10008.5.1.4.31"
PENDING: Final = 0xFF00
PENDING_WITH_WARNING: Final = 0xFF01
"""A match, where a key is not known here."""
REQUESTED: Final = "requested"
_UTF_8: Final = ("ISO_IR 192",)


class Wanted(NamedTuple):
    """What can be looked for before anything is read: days YYYYMMDD from and to, and single values; "" for any."""

    first: str
    last: str
    modality: str
    patient: str
    accession: str


@dataclass(frozen=True, slots=True)
class Query:
    """`charset` is what the answers are to be written in, `station` whose worklist is asked for, `implicit` its transfer syntax."""

    keys: Item
    charset: tuple[str, ...]
    station: str
    implicit: bool

    @property
    def wanted(self) -> Wanted:
        inner = matching.inner(self.keys)
        first, last = matching.bounds(self.keys)
        modality = matching.single(inner, 0x00080060)
        return Wanted(first, last, modality, matching.single(self.keys, 0x00100020), matching.single(self.keys, 0x00080050))

    @property
    def status(self) -> int:
        """Of each match."""
        return PENDING if supported(self.keys) else PENDING_WITH_WARNING

    def answers(self, steps: Iterable[tuple[Step, str]]) -> Iterator[bytes]:
        """The data set for each step that matches, of steps with their statuses."""
        extended = repertoire.extended(self.charset)
        for step, status in steps:
            item = whole(step, status, extended, self.station)
            if matching.matches(self.keys, item):
                yield self._written(step, status, item)

    def _written(self, step: Step, status: str, item: Item) -> bytes:
        """In the character set that is wanted, in UTF-8 where that has not all that the step has: a name is never garbled."""
        try:
            return self._encoded(item, self.charset)
        except UnicodeEncodeError:
            return self._encoded(whole(step, status, False, self.station), _UTF_8)

    def _encoded(self, item: Item, charset: tuple[str, ...]) -> bytes:
        found = asked(self.keys, item)
        if charset:
            found[CHARSET] = charset
        return encode(found, charset, implicit=self.implicit)


def read(identifier: bytes, transfer_syntax: str, calling: str, charset: Sequence[str] = ()) -> Query:
    """The query of `calling`, to be answered in `charset`, none: the one of the identifier itself. Raises ParseError for what is no data
    set, and ValidationError (its location a tag) for keys that the SOP class does not allow."""
    keys, own = parse(identifier, transfer_syntax, charset)
    matching.check(keys)
    chosen = tuple(charset or own)
    if not repertoire.known(chosen):
        chosen = _UTF_8
    station = matching.single(matching.inner(keys), STATION) or calling
    return Query(keys, chosen, station, transfer_syntax == ImplicitVRLittleEndian)
