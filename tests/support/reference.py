"""Reference material that may lie beside the repository (or beside a folder that holds it), and that no user has: tests that want it skip
where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).resolve()


def reference(*parts: str) -> Path:
    """Where that part of the material is, or would be."""
    found = (folder.joinpath("shared", "data", *parts) for folder in _HERE.parents[3:])
    return next((path for path in found if path.exists()), Path("missing", *parts))
