"""What `meridian doctor` and `meridian check` find out about folders: there, ours, on one file system. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.file.examining_far import examine_far
from engine.examination import Finding, Level

if TYPE_CHECKING:
    from engine.examination import View
    from engine.options import Settings

_RIGHTS: Final = os.R_OK | os.W_OK | os.X_OK


def examine(options: Settings, view: View) -> Iterable[Finding]:
    if options.folder is None:
        yield from examine_far(options, view)
        return
    folder = view.folder / options.folder
    if not folder.is_dir():
        yield Finding(Level.WARN, "folder", f"{folder} is not there", "make it, or mount it", "folder")
        return
    if not os.access(folder, _RIGHTS):
        yield Finding(Level.FAIL, "folder", f"{folder} cannot be read and written by this user", _GRANT, "folder")
        return
    below = [name for name in ("done", "faulty", "into") if options.get(name)]
    troubles = [finding for name in below for finding in _below(folder, options[name], name)]
    yield from troubles
    if not troubles:
        yield Finding(Level.OK, "folder", f"{folder} can be read and written")


_GRANT: Final = "run the node as a user who may rename files there, or grant it"


def _below(folder: Path, name: str, option: str) -> Iterator[Finding]:
    there = folder / name
    if not there.is_dir():
        return
    if there.stat().st_dev != folder.stat().st_dev:
        text = f"{there} is on another file system than {folder}: files cannot be moved there at once"
        yield Finding(Level.FAIL, "folder", text, "put both on one file system", option)
    elif not os.access(there, _RIGHTS):
        yield Finding(Level.FAIL, "folder", f"{there} cannot be written by this user", _GRANT, option)
