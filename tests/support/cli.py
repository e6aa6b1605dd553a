"""The command line in this process: what it prints, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from engine.cli import main


@dataclass(frozen=True)
class Said:
    """`code` 0 where the command just ended."""

    code: int
    out: str
    err: str


def meridian(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """A function that runs `meridian` with its arguments; an exception that escapes is a traceback, and fails the test."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["meridian", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            code = 0
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run
