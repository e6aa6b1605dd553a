"""A site's own table of stations: what an order does not say of modality, AE title, station name and location."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.errors import ConfigError

COLUMNS: Final = ("service", "code", "modality", "ae_title", "station_name", "location")


class Stations:
    """Rows with the columns `service` (as OBR-24 or IPC-5 says it) and `code` (the procedure's), where blank is any; and what they give."""

    def __init__(self, rows: Sequence[Mapping[str, str]] = ()) -> None:
        self._rows = rows

    @classmethod
    def read(cls, path: Path | None) -> Stations:
        """Raises ConfigError."""
        if path is None:
            return cls()
        try:
            lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip() and not line.startswith("#")]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"stations: cannot read {path}: {error}") from None
        reader = csv.DictReader(lines, skipinitialspace=True)
        unknown = sorted(set(reader.fieldnames or ("",)) - set(COLUMNS))
        if unknown:
            raise ConfigError(f"stations: {path} has a column {unknown[0]!r}; allowed: {', '.join(COLUMNS)}")
        return cls([{name: (row.get(name) or "").strip() for name in COLUMNS} for row in reader])

    def of(self, service: str, codes: Sequence[str]) -> Mapping[str, str]:
        """The first row that fits; nothing is given where none does."""
        for row in self._rows:
            if row["service"] in ("", service) and (not row["code"] or row["code"] in codes):
                return row
        return {}
