"""Which place a channel file names, and under whose name files are claimed there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adapters.file.local_folder import LocalFolder
from adapters.file.remote import RemotePlace
from adapters.file.ssh.options import SFTP
from engine import registry
from engine.errors import ConfigError
from engine.options import TEXT, Option

if TYPE_CHECKING:
    from adapters.file.places import Place
    from engine.contracts import Context
    from engine.options import Settings

PLACES: Final[Sequence[Option]] = (
    Option("folder", TEXT, "a folder of this machine, relative to the site; one of the places must be said"),
    Option("sftp", SFTP, "a folder on an SFTP server"),
)
"""The options of which a source or destination says exactly one."""
_OWNER: Final = "files.owner"


def wrong_place(options: Any) -> str:
    """For engine.options.Spec.check: "" where exactly one place is said."""
    names = [option.name for option in PLACES]
    said = [name for name in names if options.get(name) is not None]
    return "" if len(said) == 1 else f"needs exactly one of {', '.join(names)}"


def place_of(options: Any, context: Context) -> Place:
    """The place that the options name, not yet open. Raises OSError where the data folder cannot be written."""
    owner = owner_of(context)
    if options.get("sftp") is not None:
        return _remote("adapters.file.ssh.wire", "SftpWire", options.sftp, context, owner)
    return LocalFolder(context.site / options.folder, owner, f"folder {options.folder}")


def _remote(module: str, wire: str, settings: Settings, context: Context, owner: str) -> Place:
    return RemotePlace(_loaded(module, wire)(settings, context), owner, context.reactor.seconds)


def _loaded(module: str, name: str) -> Any:
    """Only where it is used: a node with folders of its own needs no library for other machines'. Raises ConfigError."""
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        extra = registry.extra_of(error.name or "")
        raise ConfigError(f"this needs the package {error.name!r}: pip install 'meridian[{extra}]'") from None


def owner_of(context: Context) -> str:
    """Node, channel and a mark of this data folder: two nodes that were given one name, and copies of a site, are still two owners."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{context.node}-{_mark(context.data, context.new_id)}-{context.name}")


def _mark(data: Path, new_id: Any) -> str:
    file = data / _OWNER
    try:
        return file.read_text("ascii").strip()
    except FileNotFoundError:
        data.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="ascii") as made:
            made.write(str(new_id()))
    except FileExistsError:  # another channel of this node was first
        pass
    return file.read_text("ascii").strip()
