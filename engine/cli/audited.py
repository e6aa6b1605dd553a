"""Who has seen or changed what by the command line: written to the site's audit log before it happens."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.audit import Entry, append
from engine.cli.opened import data_of, now
from engine.errors import ConfigError


def audited(site: Path, event: str, **facts: Any) -> None:
    """Put it on disk, with the operating system's user. Raises ConfigError where it cannot be written: then it must not happen."""
    audited_all(site, [(event, facts)])


def audited_all(site: Path, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """The same for several at once: all of them are written, or none."""
    folder = data_of(site) / "audit"
    who = _who()
    entries = [
        Entry(now(), event, {name: str(value) for name, value in {**who, **facts}.items() if value != ""}) for event, facts in events
    ]
    try:
        folder.mkdir(exist_ok=True)
        append(folder, entries, now())
    except OSError as error:
        raise ConfigError(f"this must be audited, and the audit log in {folder} cannot be written: {error.strerror}") from None


def _who() -> dict[str, str]:
    """By the process's own user id, which no environment variable changes; `sudo` is who sudo says it was."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        user = str(os.getuid())
    return {"user": user, "sudo": os.environ.get("SUDO_USER", "")}
