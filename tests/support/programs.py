"""Programs that worker processes can compile by name, some of them badly behaved."""

from __future__ import annotations

import os
import time

from engine.channel import Recipe
from engine.message import ACCEPTED, Envelope, Judgement, Status
from engine.store.contract import Plan, Routed


class Shouting:
    """Maps to upper case. The body ``die`` kills the process, ``hang`` never comes back."""

    light = False
    checks_content = False
    reads_content = False

    def judge(self, envelope: Envelope) -> Judgement:
        return ACCEPTED

    def plan(self, envelope: Envelope) -> Plan:
        body = envelope.body
        assert isinstance(body, bytes)
        if body == b"die":
            os.kill(os.getpid(), 9)
        if body == b"hang":
            time.sleep(3600)
        return Plan(Status.QUEUED, (Routed("d", body.upper()),))


def shouting() -> Shouting:
    return Shouting()


RECIPE = Recipe(shouting, ())
