"""What was wrong with a file, for whoever has sent it: NAME.errors.csv beside it. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

_MOST: Final = 10_000
"""Lines of a report; the messages are all kept, however many."""


class Report:
    """Collects faults in the order of the file. No payload: line, part, member and reason."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, int, int, str]] = []
        self.faults = 0

    def add(self, file: str, line: int, part: int, reason: str) -> None:
        self.faults += 1
        if len(self._lines) < _MOST:
            self._lines.append((file, line, part, reason))

    def chunks(self) -> Iterator[bytes]:
        """As CSV in UTF-8, with the mark by which spreadsheets know it."""
        out = io.StringIO()
        write = csv.writer(out).writerow
        write(("file", "line", "part", "reason"))
        for file, line, part, reason in self._lines:
            write((_plain(file), line or "", part, reason))
        if self.faults > len(self._lines):
            write(("", "", "", f"and {self.faults - len(self._lines)} more"))
        yield out.getvalue().encode("utf-8-sig")


def _plain(name: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{name}" if name[:1] in "=+-@" else name
