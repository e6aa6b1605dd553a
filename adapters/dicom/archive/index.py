"""Reading an archive: which patients, studies, series and instances match (PS3.4 C.4.1), and where their files are.

For any thread: each has a connection of its own, and sees the last commit. Where there is no archive yet nothing matches.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from pydicom.dataset import Dataset

from adapters.dicom.archive import levels, statements
from adapters.dicom.archive.database import connect_to_read, store_error
from adapters.dicom.archive.elements import Elements
from adapters.dicom.archive.levels import Level
from adapters.dicom.archive.matching import bounds, fold, is_universal, matches

_BATCH: Final = 200
_UNMATCHED: Final = (levels.CHARACTER_SET, levels.LEVEL)


class Held(NamedTuple):
    """One instance that is shown. `path` is immutable, and may be gone when it is opened: retention has removed it since."""

    path: Path
    sop_class: str
    sop_uid: str
    transfer_syntax: str
    series_uid: str
    study_uid: str
    size: int


class Index:
    """`folder` is the archive's; nothing is made in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []

    def close(self) -> None:
        """Call when nobody reads."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._local = threading.local()

    def query(self, level: str, matching: Dataset | Elements) -> Iterator[Dataset]:
        """As `find`; each with what `matching` names and the unique keys, empty where it is not known."""
        keys = as_elements(matching) if isinstance(matching, Dataset) else matching
        wanted = [*keys, *(levels.UNIQUE[one] for one in levels.above(Level(level)))]
        for found in self.find(level, keys):
            answer = {tag: found.get(tag) or {"vr": keys[tag]["vr"]} for tag in dict.fromkeys(wanted) if tag in found or tag in keys}
            yield Dataset.from_json(answer)

    def find(self, level: str, keys: Elements) -> Iterator[Elements]:
        """Everything known at `level` (PATIENT, STUDY, SERIES, IMAGE) and above it of what matches `keys`, as DICOM JSON, in the order
        in which it came. Keys of lower levels match nothing. Raises StoreError."""
        where, values = _narrow(Level(level), keys)
        wanted = {tag: key for tag, key in keys.items() if not is_universal(key) and tag not in _UNMATCHED}
        for found in self._rows(Level(level), where, values):
            if matches(wanted, found):
                yield found

    def instances(
        self,
        study_uid: str | Sequence[str] = "",
        series_uid: str | Sequence[str] = "",
        sop_uid: str | Sequence[str] = "",
        patient_id: str | Sequence[str] = "",
        most: int = 1_000_000,
    ) -> list[Held]:
        """The instances shown of these studies, series …; "" asks for any, but not everywhere. In the order of series and arrival.
        Raises StoreError."""
        asked = {"s.uid": study_uid, "e.uid": series_uid, "i.uid": sop_uid, "p.patient_id": patient_id}
        named = {column: _listed(given) for column, given in asked.items() if given}
        if not named:
            return []
        where = " and ".join(f"{column} in ({', '.join('?' * len(given))})" for column, given in named.items())
        values = [value for given in named.values() for value in given]
        sql = f"{statements.HELD} where {where} and i.replaced is null order by s.id, e.id, i.id limit {most:d}"
        return [self._held(row) for row in self._all(sql, values)]

    def versions(self, sop_uid: str) -> list[Held]:
        """All that came under a SOP Instance UID, the newest, which is shown, first. Raises StoreError."""
        return [self._held(row) for row in self._all(statements.VERSIONS, [sop_uid])]

    # --- inside ----------------------------------------------------------------------------------

    def _held(self, row: Sequence[Any]) -> Held:
        digest, *rest = row
        return Held(self.folder / digest[:2] / digest[2:], *rest)

    def _rows(self, level: Level, where: str, values: list[Any]) -> Iterator[Elements]:
        """In batches, so that no read holds the log of the database for as long as the peer takes for the answers."""
        last, alias = 0, statements.ALIAS[level]
        while True:
            sql = (
                f"select {statements.COLUMNS[level]} from {statements.FROM[level]} "
                f"where {alias}.id > ? and {statements.THERE[level]}{where} order by {alias}.id limit {_BATCH}"
            )
            rows = self._all(sql, [last, *values])
            for row in rows:
                yield self._elements(level, row)
            if len(rows) < _BATCH:
                return
            last = rows[-1][0]

    def _elements(self, level: Level, row: Sequence[Any]) -> Elements:
        found: Elements = {}
        if level is Level.IMAGE:
            *row, header, transfer_syntax = row
            found.update(levels.of_instance(orjson.loads(zlib.decompress(header))))
            found[levels.AVAILABLE_SYNTAX] = {"vr": "UI", "Value": [transfer_syntax]}
        for content in row[1:]:
            found.update(orjson.loads(content))
        if level is Level.PATIENT:
            counted = self._all(statements.COUNT_PATIENT, [row[0]])[0]
            studies, instances, series = counted
            numbers = zip(levels.COUNTED[Level.PATIENT], (studies, series, instances), strict=True)
            found.update({tag: {"vr": "IS", "Value": [count]} for tag, count in numbers})
        return found

    def _all(self, sql: str, values: Sequence[Any]) -> list[Any]:
        connection = self._connection()
        if connection is None:
            return []
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise store_error(error) from error

    def _connection(self) -> sqlite3.Connection | None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect_to_read(self.folder)
            if connection is not None:
                self._open.append(connection)
        return connection


def as_elements(keys: Dataset) -> Elements:
    """A data set that is in memory as DICOM JSON."""
    return keys.to_json_dict(bulk_data_threshold=1 << 30)


# --- narrowing: SQL that leaves out what cannot match; what it leaves is matched in full -------------------


def _narrow(level: Level, keys: Elements) -> tuple[str, list[Any]]:
    """Further conditions ("" for none) and their values."""
    conditions: list[str] = []
    values: list[Any] = []
    for tag, key in keys.items():
        found = None if is_universal(key) else _condition(level, tag, key)
        if found is not None:
            conditions.append(found[0])
            values += found[1]
    return "".join(f" and {condition}" for condition in conditions), values


_EXACT: Final = {
    levels.PATIENT_ID: ("p.patient_id", Level.PATIENT),
    levels.STUDY_UID: ("s.uid", Level.STUDY),
    levels.ACCESSION: ("s.accession", Level.STUDY),
    levels.SERIES_UID: ("e.uid", Level.SERIES),
    levels.MODALITY: ("e.modality", Level.SERIES),
    levels.SOP_UID: ("i.uid", Level.IMAGE),
    levels.SOP_CLASS: ("i.sop_class", Level.IMAGE),
}


def _condition(level: Level, tag: str, key: Elements | dict[str, Any]) -> tuple[str, list[Any]] | None:
    wanted = [value for value in key["Value"] if value is not None]
    if tag in _EXACT and _EXACT[tag][1] in levels.above(level):
        plain = [str(value) for value in wanted]
        if any("*" in value or "?" in value for value in plain):
            return None
        return f"{_EXACT[tag][0]} in ({', '.join('?' * len(plain))})", plain
    if tag == levels.STUDY_DATE and level is not Level.PATIENT and len(wanted) == 1:
        return "s.date between ? and ?", list(bounds("DA", str(wanted[0])))
    if tag == levels.PATIENT_NAME and len(wanted) == 1:
        return _by_prefix(level, wanted[0])
    return None


def _by_prefix(level: Level, name: Any) -> tuple[str, list[Any]] | None:
    """A name's first component group up to its first wild card; it may be in any group of the patient's."""
    text = name.get("Alphabetic", "") if isinstance(name, dict) else str(name)
    prefix = re.split(r"[*?]", fold(text))[0].rstrip("^ ")
    named = statements.PATIENT_OF_NAME if level is Level.PATIENT else statements.STUDY_OF_NAME
    return (named, [prefix, prefix + "\U0010ffff"]) if prefix else None


def _listed(given: str | Sequence[str]) -> Sequence[str]:
    return given.split("\\") if isinstance(given, str) else given
