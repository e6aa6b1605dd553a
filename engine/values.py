"""Value objects: dataclasses that are frozen to the type checker, and only there.

A frozen dataclass sets each field through ``object.__setattr__``, which makes it five times as slow to make; every message takes a dozen.
Used as ``@value(frozen=True, slots=True)``. Compared and hashed by their fields; pickled as the call that makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass, fields
    from operator import attrgetter

    def value(*, frozen, slots):
        def made(plain):
            kind = dataclass(slots=slots, unsafe_hash=frozen)(plain)
            values = attrgetter(*[field.name for field in fields(kind)])
            kind.__reduce__ = lambda self: (kind, values(self))  # every kind has more than one field, so this is a tuple
            return kind

        return made


__all__ = ["value"]
