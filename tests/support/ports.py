"""The ports that pages and new sites name (2575, 9464 …): one test at a time has them, in whichever process it runs."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def named_ports() -> Iterator[None]:
    with Path(tempfile.gettempdir(), "meridian-tests.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
