"""The capture that a channel's options ask for."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from sqlalchemy.engine import Engine

from adapters.database.capture.changes import Wording
from adapters.database.capture.reading import Capture
from adapters.database.capture.state import Mark
from adapters.database.connection import make_engine
from adapters.database.urls import engine_text

if TYPE_CHECKING:
    from adapters.database.capture.log import Log
    from engine.contracts import Context
    from engine.options import Settings


def capture_of(options: Settings, context: Context) -> Capture:
    """Raises ConfigError."""
    engine = make_engine(options.connection, context)
    wording = Wording(options, options.name or context.name, engine_text(engine))
    mark = Mark(context.data, context.name)
    return Capture(options, log_of(options, context, engine), wording, mark, context.clock, context.reactor.seconds, engine.dispose)


def log_of(options: Settings, context: Context, engine: Engine) -> Log:
    if engine.dialect.name == "postgresql":
        from adapters.database.capture.postgresql import PostgresLog

        slot, publication = names_of(options, context)
        return PostgresLog(options, context, engine, slot, publication)
    from adapters.database.capture.mariadb import BinaryLog

    return BinaryLog(options, context, engine, server_id_of(options, context))


def names_of(options: Settings, context: Context) -> tuple[str, str]:
    """Slot and publication."""
    usual = f"meridian_{re.sub(r'[^a-z0-9_]', '_', context.name.lower())}"[:63]
    return options.slot or usual, options.publication or usual


def server_id_of(options: Settings, context: Context) -> int:
    """As which replica we read: one that no other is likely to be."""
    made = int.from_bytes(blake2b(f"{context.node}/{context.name}".encode(), digest_size=4).digest(), "big")
    return int(options.server_id or made | 1 << 31)
