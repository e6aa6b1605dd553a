"""What a server says of a file (draft-ietf-secsh-filexfer-02 clause 5)."""

from __future__ import annotations

import stat
from typing import Any

from asyncssh.constants import FILEXFER_TYPE_DIRECTORY, FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_SYMLINK

from adapters.file.places import Entry


def entry_of(name: str, attributes: Any) -> Entry:
    return Entry(name, attributes.size or 0, int(attributes.mtime or 0) * 1_000_000)


def kind_of(attributes: Any, longname: bytes | str | None) -> int:
    """S_IFREG, S_IFDIR …; 0 where the server does not say."""
    if attributes.permissions is not None and stat.S_IFMT(attributes.permissions):
        return stat.S_IFMT(attributes.permissions)
    kinds = {FILEXFER_TYPE_REGULAR: stat.S_IFREG, FILEXFER_TYPE_DIRECTORY: stat.S_IFDIR, FILEXFER_TYPE_SYMLINK: stat.S_IFLNK}
    if attributes.type in kinds:
        return kinds[attributes.type]
    first = bytes(longname[:1]) if isinstance(longname, bytes) else (longname or "")[:1].encode()
    return {b"d": stat.S_IFDIR, b"l": stat.S_IFLNK}.get(first, 0)
