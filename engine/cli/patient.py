"""What `meridian doctor` looks at: a site, also one that cannot be loaded."""

from __future__ import annotations

import fcntl
import os
from functools import cached_property
from pathlib import Path

from channels import Site, load
from channels.spec import NODE
from engine.cli.parts import Part, parts
from engine.documents import read_yaml
from engine.errors import ConfigError, Fault
from engine.options import Place, Settings


class Patient:
    """One site, also where it cannot be loaded: then as far as it can be read."""

    def __init__(self, folder: Path, connect: bool) -> None:
        self.folder, self.connect = folder, connect
        self.faults: list[Fault] = []

    @cached_property
    def site(self) -> Site | None:
        """None where it has faults; those are in `faults` then."""
        try:
            return load(self.folder)
        except ConfigError as error:
            self.faults = error.faults
            return None

    @cached_property
    def node(self) -> Settings:
        """meridian.yaml, with defaults for what is wrong in it."""
        faults: list[Fault] = []
        name = "meridian.yaml"
        return NODE.parse(read_yaml(self.folder / name, name, faults), Place(name, 1, "", self.folder), faults)

    @property
    def data(self) -> Path:
        return self.folder / str(self.node.store.path if self.node.store else "data")

    @property
    def certs(self) -> Path:
        return self.folder / str(self.node.certs)

    @property
    def parts(self) -> list[Part]:
        return list(parts(self.site)) if self.site is not None else []

    @cached_property
    def running(self) -> bool:
        """Whether a node has this site's store."""
        try:
            handle = os.open(self.data / "node.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False
