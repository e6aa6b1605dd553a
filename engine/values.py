"""Value objects: dataclasses that are frozen to the type checker, and only there.

A frozen dataclass sets each field through ``object.__setattr__``, which makes it five times as slow to make; every message takes a dozen.
Used as ``@value(frozen=True, slots=True)``. Compared and hashed by their fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass
    from functools import partial

    def value(*, frozen: bool, slots: bool):
        return partial(dataclass, slots=slots, unsafe_hash=frozen)


__all__ = ["value"]
