"""Secrets by reference: a file of a site, which is in git, says where a secret is and never what it is.

    key_passphrase: env:MERIDIAN_KEY_PASSPHRASE      an environment variable of the node's process
    auth: {bearer: "file:secrets/platform-token"}    a file, relative to the site; its last line end is not part of it

A reference is checked when the site is checked and when the node starts, and read again each time the secret is needed, so that a
file may be replaced while the node runs. What it stands for is in no repr, no log line and no error.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError, Fault
from engine.options import Faulty, Kind, Masked, Place, Settings

_REFERENCE: Final = r"(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.*\S.*)"
_MOST_BYTES: Final = 64 << 10
_NOWHERE: Final = Place("")


@dataclass(frozen=True, repr=False)
class Secret(Masked):
    """A reference: `scheme` is ``env`` or ``file``; `place` is where it was written."""

    scheme: str
    name: str
    place: Place = _NOWHERE

    def reveal(self) -> str:
        """The secret. Raises ConfigError, with the place of the reference, where it is not there, empty, or more than a line."""
        text = self._variable() if self.scheme == "env" else self._content()
        if not text:
            raise self._fault(f"{self} is empty")
        if any(ord(letter) < 32 for letter in text):
            raise self._fault(f"{self} must hold one line of text")
        return text

    def _variable(self) -> str:
        if self.name not in os.environ:
            raise self._fault(f"the environment variable {self.name} is not set")
        return os.environ[self.name]

    def _content(self) -> str:
        try:
            with self._file.open("rb") as file:
                return file.read(_MOST_BYTES).decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise self._fault(f"cannot read the secret's file {self.name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise self._fault(f"the secret's file {self.name} is not UTF-8 text") from None

    @property
    def _file(self) -> Path:
        return (self.place.folder or Path()) / self.name

    def exposure(self) -> Fault | None:
        """A warning where others than its owner can read the file."""
        if self.scheme == "env" or not self._file.is_file() or not stat.S_IMODE(self._file.stat().st_mode) & 0o077:
            return None
        return Fault(self.place.file, self.place.line, f"{self.place.path}: others can read {self.name}: chmod 600")

    def _fault(self, text: str) -> ConfigError:
        return ConfigError([Fault(self.place.file, self.place.line, f"{self.place.path}: {text}" if self.place.path else text)])

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"


def reference(raw: Any) -> Secret:
    """Raises Faulty, which does not repeat what was written: it is probably the secret."""
    if not isinstance(raw, str) or not re.fullmatch(_REFERENCE, raw):
        raise Faulty("a secret is never written here; say where it is")
    scheme, _, name = raw.partition(":")
    return Secret(scheme, name.strip())


SECRET: Final = Kind(
    "secret",
    "env:VARIABLE or file:PATH (relative to the site)",
    reference,
    {"type": "string", "pattern": f"^{_REFERENCE}$"},
    lambda secret, place: replace(secret, place=place),
)


def secrets_of(value: Any) -> Iterator[Secret]:
    """Every secret that settings hold, however deep."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Settings | Mapping):
        for name in value:
            yield from secrets_of(value[name])
    elif isinstance(value, list):
        for item in value:
            yield from secrets_of(item)
