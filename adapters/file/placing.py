"""Which place a channel file names, and under whose name files are claimed there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adapters.file.drop.options import SERVE
from adapters.file.ftps.options import FTPS
from adapters.file.ftps.wire import FtpsWire
from adapters.file.local_folder import LocalFolder
from adapters.file.remote import RemotePlace
from adapters.file.ssh.options import SFTP
from engine import registry
from engine.errors import ConfigError
from engine.options import TEXT, Option

if TYPE_CHECKING:
    from adapters.file.places import Place
    from engine.contracts import Context

PLACES: Final[Sequence[Option]] = (
    Option("folder", TEXT, "a folder of this machine, relative to the site; one of the places must be said"),
    Option("sftp", SFTP, "a folder on an SFTP server"),
    Option("ftps", FTPS, "a folder on an FTP server that speaks TLS"),
)
"""The options of which a destination says exactly one; a source may say SERVED instead."""
SERVED: Final = Option("serve", SERVE, "an SFTP server of our own, where others put files")
_OWNER: Final = "files.owner"


def wrong_place(options: Any) -> str:
    """For engine.options.Spec.check: "" where exactly one place is said."""
    names = [option.name for option in (*PLACES, SERVED) if option.name in options]
    said = [name for name in names if options.get(name) is not None]
    return "" if len(said) == 1 else f"needs exactly one of {', '.join(names)}"


def place_of(options: Any, context: Context) -> Place:
    """The place that the options name, not yet open. Raises OSError where the data folder cannot be written."""
    owner = owner_of(context)
    if options.get("sftp") is not None:
        wire = _loaded("adapters.file.ssh.wire", "SftpWire")(options.sftp, context)
        return RemotePlace(wire, owner, context.reactor.seconds)
    if options.get("ftps") is not None:
        return RemotePlace(FtpsWire(options.ftps, context), owner, context.reactor.seconds)
    if options.get("serve") is not None:
        place: Place = _loaded("adapters.file.drop.place", "DropPlace")(options.serve, context, owner)
        return place
    return LocalFolder(context.site / options.folder, owner, f"folder {options.folder}")


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
