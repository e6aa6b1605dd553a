"""Parties from a CSV file: a header line, a party a line, several values of one field divided by semicolons. Pure.

    id,kind,name,belongs_to,identifiers,certificates,ae_titles,senders,serials,may_send,channels
    analyzer-7,device,BC-6800,county,,,,BC-6800|COUNTY,SN4711,ORU^R01;OUL^*,results

Columns may stand in any order; only `id` and `kind` are needed. An identifier is ``SYSTEM|VALUE``, and so is one of `patients`, or
``Patient/ID``; `keys` are public keys as JWK; `requests_per_minute` is one number.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from engine.errors import Fault
from engine.parties.keys import public_keys
from engine.parties.model import Kind, Mark, Party, faults_of

MARKS: Final[Mapping[str, Mark]] = {
    "certificates": Mark.CERTIFICATE,
    "ae_titles": Mark.AE_TITLE,
    "senders": Mark.SENDER,
    "serials": Mark.SERIAL,
}
LISTS: Final = ("identifiers", *MARKS, "may_send", "channels", "keys", "patients")
COLUMNS: Final = ("id", "kind", "name", "belongs_to", *LISTS, "requests_per_minute")
_NEEDED: Final = ("id", "kind")


def read(lines: Iterable[str], file: str, faults: list[Fault]) -> dict[str, tuple[int, Party]]:
    """Each party with its line, by id; everything wrong is added to `faults`."""
    rows = _rows(lines, file, faults)
    _, header = next(rows, (1, []))
    columns = [name.strip() for name in header]
    if wrong := list(_header_faults(columns, file)):
        faults.extend(wrong)
        return {}
    found: dict[str, tuple[int, Party]] = {}
    for line, row in rows:
        told, party = _party(dict(zip(columns, row, strict=False)), len(row) - len(columns))
        if party is not None and party.id in found:
            told.append(f"{party.id!r} is on line {found[party.id][0]} already")
        elif party is not None:
            found[party.id] = (line, party)
        faults.extend(Fault(file, line, text) for text in told)
    return found


def _rows(lines: Iterable[str], file: str, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the line that it begins on."""
    reader = csv.reader(lines, strict=True)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        faults.append(Fault(file, line, f"not CSV: {error}"))


def _header_faults(columns: list[str], file: str) -> Iterator[Fault]:
    for name in columns:
        if name not in COLUMNS:
            nearest = get_close_matches(name, COLUMNS, 1)
            yield Fault(file, 1, f"there is no column {name!r}", ", ".join(COLUMNS), nearest[0] if nearest else "")
        elif columns.count(name) > 1:
            yield Fault(file, 1, f"the column {name!r} is there more than once")
    for name in _NEEDED:
        if name not in columns:
            yield Fault(file, 1, f"the column {name!r} is missing")


def _party(row: Mapping[str, str], surplus: int) -> tuple[list[str], Party | None]:
    """What is wrong with a row, and its party where enough of it can be read."""
    if surplus > 0:
        return [f"has {surplus} more cells than the header"], None
    row = {name: cell.strip() for name, cell in row.items()}
    try:
        party = party_of(
            row.get("id", ""),
            row.get("kind", ""),
            name=row.get("name", ""),
            belongs_to=row.get("belongs_to", ""),
            lists={name: [part for part in map(str.strip, row.get(name, "").split(";")) if part] for name in LISTS},
            requests_per_minute=row.get("requests_per_minute", "") or "0",
        )
    except ValueError as error:
        return [str(error)], None
    return list(faults_of(party)), party


def party_of(
    party_id: str, kind: str, *, name: str, belongs_to: str, lists: Mapping[str, Iterable[str]], requests_per_minute: str = "0"
) -> Party:
    """A party as it is written; `lists` by the names of the columns. Raises ValueError for what cannot be one at all."""
    if not (requests_per_minute.isascii() and requests_per_minute.isdigit() and len(requests_per_minute) < 10):
        raise ValueError(f"requests_per_minute: {requests_per_minute!r} is no whole number")
    if kind not in tuple(Kind):
        raise ValueError(f"{kind!r} is no kind of party: {', '.join(Kind)}")
    return Party(
        id=party_id,
        kind=Kind(kind),
        name=name,
        belongs_to=belongs_to,
        identifiers=tuple(dict.fromkeys(_identifier(text) for text in lists["identifiers"])),
        marks=tuple(dict.fromkeys((mark, value) for column, mark in MARKS.items() for value in lists[column])),
        may_send=tuple(dict.fromkeys(lists["may_send"])),
        channels=tuple(dict.fromkeys(lists["channels"])),
        keys=tuple(dict.fromkeys(key for text in lists["keys"] for key in public_keys(text))),
        patients=tuple(dict.fromkeys(lists["patients"])),
        requests_per_minute=int(requests_per_minute),
    )


def _identifier(text: str) -> tuple[str, str]:
    """``uscc|91110000600037341L``, as FHIR writes a token."""
    system, divided, value = text.partition("|")
    if not divided:
        raise ValueError(f"{text!r} is no identifier such as uscc|91110000600037341L")
    return system, value
