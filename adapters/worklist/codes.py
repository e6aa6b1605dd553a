"""An instrument's own test codes: the laboratory's table, read backwards."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from adapters.worklist.orders import Order
from engine.errors import ConfigError


class Codes:
    """What an instrument calls the tests that were ordered. Without a table every code is as it was ordered."""

    def __init__(self, names: Mapping[str, Sequence[str]] | None) -> None:
        self._names = names

    @classmethod
    def read(cls, path: Path | None) -> Codes:
        """Columns `code, to` and `ordered_as` (further codes, separated by blanks, under which the test is ordered: a panel's, a local
        one). Raises ConfigError."""
        if path is None:
            return cls(None)
        try:
            lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip() and not line.startswith("#")]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tests: cannot read {path}: {error}") from None
        rows = list(csv.DictReader(lines, skipinitialspace=True))
        if not rows or "code" not in rows[0]:
            raise ConfigError(f"tests: {path} has no column 'code'")
        names: dict[str, list[str]] = {}
        for row in rows:
            code = (row["code"] or "").strip()
            for ordered in (code, (row.get("to") or "").strip(), *(row.get("ordered_as") or "").split()):
                if ordered and code not in names.setdefault(ordered, []):
                    names[ordered].append(code)
        return cls(names)

    def of(self, orders: Sequence[Order]) -> Iterator[tuple[Order, str]]:
        """Each order with each of the instrument's codes for it; an order that it has no test for is left out."""
        for order in orders:
            for code in [order.code] if self._names is None else self._names.get(order.code, ()):
                yield order, code
