"""What the demo shows while it runs."""

from __future__ import annotations

import io

from rich.console import Console

from engine.cli.demo import _table
from engine.demo.show import SOURCES
from engine.store.contract import LedgerLine


def test_a_channel_is_one_line_of_a_hundred_columns() -> None:
    """Each node, and below it each of its channels with large numbers; nothing is wrapped or cut."""
    lines = [LedgerLine(channel, "", 12345, 12345, 12345, 12345, 12345) for channel in SOURCES]
    console = Console(width=100, file=io.StringIO())
    console.print(_table({"county-hospital": lines, "province-platform": []}, []))
    shown = console.file.getvalue().splitlines()
    assert len(shown) == 4 + len(SOURCES)
    assert all(f"{channel} ({source})" in "\n".join(shown) for channel, source in SOURCES.items())
