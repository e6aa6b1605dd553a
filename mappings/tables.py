"""Rule tables on disk: CSV files with a heading, `#` comments, and a site's rows laid over the shipped ones.

A row is known by its key column. A site's row with a key that is shipped replaces that row in place, one
with a new key is added at the end, and one whose second column is `-` drops the shipped row.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from engine.errors import Fault

DROP: Final = "-"
CODE_COLUMNS: Final = ("code", "to", "system", "display")
"""Of the tables in codes/: a code as it is sent, and what it is in FHIR."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; `place` is file:line, `site` tells that it is not a shipped one."""

    file: str
    line: int
    cells: dict[str, str]
    site: bool = False

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def fault(self, text: str, allowed: Sequence[str] = (), wrong: str = "") -> Fault:
        """A fault at this row; with `allowed` words, the one nearest to `wrong` is proposed."""
        nearest = get_close_matches(wrong, allowed, 1) if wrong else []
        return Fault(self.file, self.line, text, ", ".join(allowed), nearest[0] if nearest else "")


def read(path: Path, columns: Sequence[str], faults: list[Fault], *, site: bool = False) -> list[Row]:
    """The rows of one file. `columns` are all it may have; the first two must be there, the others are "" when left out."""
    rows: list[Row] = []
    heading: list[str] | None = None
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(path), 0, f"cannot be read as UTF-8 text: {type(error).__name__}"))
        return []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
        if heading is None:
            heading = cells
            faults.extend(_heading_faults(path, number, heading, columns))
            continue
        if len(cells) > len(heading):
            faults.append(Fault(str(path), number, f"has {len(cells)} cells; the heading names {len(heading)}", ", ".join(heading)))
            continue
        found = dict(zip(heading, cells, strict=False))
        rows.append(Row(str(path), number, {name: found.get(name, "") for name in columns}, site))
    return rows


def _heading_faults(path: Path, number: int, heading: list[str], columns: Sequence[str]) -> list[Fault]:
    faults = []
    for name in heading:
        if name not in columns:
            nearest = get_close_matches(name, columns, 1)
            faults.append(Fault(str(path), number, f"there is no column {name!r}", ", ".join(columns), nearest[0] if nearest else ""))
    missing = [name for name in columns[:2] if name not in heading]
    if missing:
        faults.append(Fault(str(path), number, f"the heading lacks {', '.join(missing)}", ", ".join(columns)))
    return faults


def overlay(shipped: list[Row], site: list[Row], columns: Sequence[str], faults: list[Fault]) -> list[Row]:
    """The shipped rows with the site's replaced, dropped and added. Dropping what is not there is a fault."""
    key, second = columns[0], columns[1]
    laid = {row[key]: row for row in shipped}
    for row in site:
        if row[second] != DROP:
            laid[row[key]] = row
        elif laid.pop(row[key], None) is None:
            faults.append(row.fault(f"drops {row[key]!r}, which is not there", sorted(laid)[:12], row[key]))
    return list(laid.values())


class TableSet:
    """The tables of one mapping: `shipped` ones, and over them those of a site in SITE/mappings/`name`.

    `flat` are the columns of the tables at the top. `folders` are those of the tables in a folder, of which a site may add any; in one of
    `closed` it may only lay rows over those that are shipped. Faults, such as a file that no table answers to, are added to `faults`.
    """

    def __init__(
        self,
        name: str,
        shipped: Path,
        site: Path | None,
        faults: list[Fault],
        flat: Mapping[str, Sequence[str]],
        folders: Mapping[str, Sequence[str]],
        closed: Sequence[str] = (),
    ) -> None:
        self.faults = faults
        self._shipped, self._flat, self._folders, self._closed = shipped, flat, folders, closed
        self._site = site / name if site is not None and (site / name).is_dir() else None
        self._check_names()

    def _check_names(self) -> None:
        """A file that no table answers to would silently do nothing: say so."""
        known = [f"{name}.csv" for name in self._flat]
        known += [f"{folder}/{name}.csv" for folder in self._closed for name in self.names(folder)]
        open_folders = [f"{folder}/" for folder in self._folders if folder not in self._closed]
        for path in sorted(self._site.rglob("*.csv")) if self._site is not None else ():
            relative = path.relative_to(self._site or path).as_posix()
            if relative not in known and not relative.startswith(tuple(open_folders)):
                self.faults.append(Row(str(path), 0, {}).fault("is no table of this mapping", [*known, *open_folders], relative))

    def rows(self, name: str) -> list[Row]:
        """One table; `name` is its path below the folder, without .csv."""
        columns = self._folders[name.partition("/")[0]] if "/" in name else self._flat[name]
        shipped = self._shipped / f"{name}.csv"
        rows = read(shipped, columns, self.faults) if shipped.exists() else []
        mine = self._site / f"{name}.csv" if self._site is not None else None
        if mine is not None and mine.exists():
            return overlay(rows, read(mine, columns, self.faults, site=True), columns, self.faults)
        return rows

    def by_key(self, name: str) -> dict[str, Row]:
        """The rows of one table by their first column."""
        rows = self.rows(name)
        key = next(iter(rows[0].cells)) if rows else ""
        return {row[key]: row for row in rows}

    def names(self, folder: str) -> list[str]:
        """The tables in a folder."""
        found = {path.stem for path in (self._shipped / folder).glob("*.csv")}
        if self._site is not None and folder not in self._closed:
            found |= {path.stem for path in (self._site / folder).glob("*.csv")}
        return sorted(found)
