"""The folder that an export goes to, and what it promises.

    FOLDER/manifest.json                 written last: what it names is there, whole, and does not change any more
    FOLDER/SHA256SUMS                    the same files for `sha256sum -c`
    FOLDER/<table>/schema.json           columns, their types and what they mean
    FOLDER/<table>/<table>-<from>-<to>.parquet    rows whose sequence number lies in that range, both ends included

Files are written under a name that begins with a point, and renamed when they are on disk. A file that the manifest does not name is what
an interrupted run has left; the next run removes it. One run at a time has the folder's lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError

MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"
_LOCK: Final = ".lock"
_FILE: Final = re.compile(r"\.?(?P<table>\w+)-\d+-\d+\.(?:parquet|ndjson)(?:\.part)?")


@dataclass(frozen=True)
class File:
    """One file of the export; `name` relative to the folder, `rows_from` and `rows_to` are sequence numbers, both included."""

    name: str
    table: str
    rows: int
    size: int
    sha256: str
    rows_from: int
    rows_to: int
    schema_version: int


@dataclass
class Manifest:
    """What the folder has. `database` tells one database from another, `upto` says how far each table has come."""

    format: str
    database: str
    upto: dict[str, int] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)
    schemas: dict[str, str] = field(default_factory=dict)  # name of a schema.json -> its SHA-256


class Folder:
    """The folder of one export, while it is locked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Manifest | None:
        """None where there is no manifest yet. Raises ConfigError where it is none of ours."""
        file = self.path / MANIFEST
        if not file.exists():
            return None
        try:
            content = json.loads(file.read_text("utf-8"))
            files = [File(**one) for one in content["files"]]
            return Manifest(content["format"], content["database"], dict(content["upto"]), files, dict(content["schemas"]))
        except (ValueError, TypeError, KeyError):
            raise ConfigError(f"{file} is not the manifest of an export") from None

    def clean(self, manifest: Manifest | None) -> list[str]:
        """Remove what an interrupted run has left; gives the names."""
        kept = {file.name for file in manifest.files} if manifest else set()
        gone = []
        for file in sorted(self.path.glob("*/*")):
            match = _FILE.fullmatch(file.name)
            name = f"{file.parent.name}/{file.name}"
            if match and match["table"] == file.parent.name and name not in kept:
                file.unlink()
                gone.append(name)
        return gone

    def write(self, manifest: Manifest) -> None:
        """The checksums first, the manifest last."""
        sums = {**manifest.schemas, **{file.name: file.sha256 for file in manifest.files}}
        self.put(SUMS, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode())
        content = {**asdict(manifest), "files": [asdict(file) for file in manifest.files]}
        self.put(MANIFEST, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")

    def put(self, name: str, content: bytes) -> None:
        """A whole small file, in place of the one that was there."""
        part = self.part(name)
        part.write_bytes(content)
        self.finish(part, name)

    def part(self, name: str) -> Path:
        """Where a file is written until it is whole."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.with_name(f".{file.name}.part")

    def finish(self, part: Path, name: str) -> None:
        """It is on disk, then it has its name."""
        _sync(part)
        os.replace(part, self.path / name)
        _sync((self.path / name).parent)

    def sum(self, name: str) -> str:
        with (self.path / name).open("rb") as content:
            return file_digest(content, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[Folder]:
    """Raises ConfigError where another export is writing there."""
    path.mkdir(parents=True, exist_ok=True)
    with (path / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another export is writing to {path}") from None
        yield Folder(path)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def encoded(value: Any) -> bytes:
    """JSON that is the same for the same content."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"
