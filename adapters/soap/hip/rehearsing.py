"""The service without a node, for a channel's tests. Pure."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.soap.hip.service import HipService
from engine.contracts import Context
from engine.observe import Metrics

if TYPE_CHECKING:
    from engine.options import Settings


def service(options: Settings) -> HipService:
    """Its clock stands still, its log is nobody's."""
    log = logging.Logger("rehearsal")
    log.addHandler(logging.NullHandler())
    nobody: Any = None

    def silent(event: str, **facts: Any) -> None:
        """Nothing is audited."""

    context = Context("rehearsal", nobody, Path(), Path(), lambda: 0, lambda: "REHEARSAL", log, Metrics(), nobody, silent, answered=True)
    return HipService(options, context)
