"""PostgreSQL or MariaDB, and Meridian, are killed (SIGKILL) by turns while results are landed, and started again.

The sender repeats only what was not acknowledged. At the end a checker with SQL of its own finds every message's resources exactly once.
`make test` runs a bounded version; MERIDIAN_CRASH=full (`make crash`) kills 40 times over 4,000 messages.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from engine.bench.node import Node
from engine.bench.processes import tree
from engine.errors import MeridianError
from tests.support.databases import OWN_SERVERS, OwnServer, engine_of, written
from tests.support.landing import Landing, check
from tests.support.mllp import msa
from tests.support.mllp_line import Line
from tests.support.results import PATIENTS, result, value
from tests.support.sites import Site
from tests.support.waiting import until

FULL = os.environ.get("MERIDIAN_CRASH") == "full"
MESSAGES, KILLS, LINES = (4_000, 40, 6) if FULL else (240, 4, 4)


class Sender(threading.Thread):
    """Sends its messages one after another; again until each is acknowledged."""

    def __init__(self, port: int, numbers: list[int]) -> None:
        super().__init__(daemon=True)
        self._port, self._numbers = port, numbers
        self.acknowledged: list[int] = []
        self.stopped = False

    def run(self) -> None:
        left = list(self._numbers)
        while left and not self.stopped:
            with suppress(OSError, AssertionError, EOFError, IndexError), Line(self._port) as line:
                while left and not self.stopped:
                    if not msa(line.ask(result(left[0]))).startswith("AA"):
                        break
                    self.acknowledged.append(left.pop(0))


def killed(node: Node) -> None:
    """With all that works for it."""
    for pid in tree(node._process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    node._process.wait(30)


def started(site: Site) -> Node:
    node = site.running()
    node.__enter__()
    return node


@pytest.mark.parametrize("kind", list(OWN_SERVERS))
def test_every_message_is_landed_once(kind: str, tmp_path: Path) -> None:
    """Kill, start again, go on."""
    seed = int(os.environ.get("MERIDIAN_SEED", time.time_ns() % 10_000))
    chance = random.Random(seed)
    with OWN_SERVERS[kind]() as server:
        schema = {"schema": "fhir"} if kind == "postgresql" else {}
        tables = {"connection": {"url": written(server.url), "connect_timeout": "3s"}, **schema, "group": 16}
        retry = {"first": "100ms", "most": "1s", "give_up_after": "1h"}
        destination = {"name": "tables", "fhir_tables": tables, "order": "by patient", "retry": retry}
        site = Site(tmp_path / "site", map="hl7v2-to-fhir", destinations=[destination])
        node = started(site)
        senders = [Sender(site.port, list(range(1 + line, MESSAGES + 1, LINES))) for line in range(LINES)]
        try:
            for sender in senders:
                sender.start()
            for number, victim in enumerate(chance.sample(["server", "node"] * KILLS, KILLS)):
                due = MESSAGES * (number + 0.2 + 0.6 * chance.random()) / (KILLS + 1)
                until(lambda due=due: landed(server) >= due or not any(one.is_alive() for one in senders), f"{due:.0f} landed messages")
                time.sleep(chance.random() * 0.05)  # not a wait: the moment of the kill is a random one
                if victim == "server":
                    server.kill()
                    server.start()
                else:
                    killed(node)
                    node = started(site)
            for sender in senders:
                sender.join(300)
            assert sum(len(sender.acknowledged) for sender in senders) == MESSAGES
            until(lambda: landed(server) == MESSAGES and site.waiting() == 0, "the landing of all of them", 300)
        finally:
            for sender in senders:
                sender.stopped = True
            with suppress(MeridianError):
                node.__exit__(None, None, None)
        assert site.dead() == {}
        look_for_each(server)
        with Landing(server.url) as landing:
            check(landing)


def landed(server: OwnServer) -> int:
    """0 while it is down, or has no tables yet."""
    try:
        return int(asked(server, "SELECT count(*) FROM fhir.landed_message")[0][0])
    except SQLAlchemyError:
        return 0


def asked(server: OwnServer, sql: str) -> list[Any]:
    """In the schema where they are landed."""
    schema = "fhir." if server.program == "postgres" else ""
    engine = engine_of(server.url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql.replace("fhir.", schema))]
    finally:
        engine.dispose()


def look_for_each(server: OwnServer) -> None:
    """From what was sent, without a line of the program's own code: each message, order, report and result is there once, never changed."""
    numbers = range(1, MESSAGES + 1)
    messages = asked(server, "SELECT control_id, count(*) FROM fhir.landed_message GROUP BY control_id")
    assert dict(messages) == {f"R{n}": 1 for n in numbers}
    headers = asked(server, "SELECT count(*), min(version), max(version) FROM fhir.resource WHERE resource_type = 'MessageHeader'")
    assert headers == [(MESSAGES, 1, 1)]
    assert asked(server, "SELECT count(*) FROM fhir.patient") == [(PATIENTS,)]
    results = asked(
        server,
        """SELECT s.placer, p_number.value, o.value_text, o.control_id, o.version, r.filler
           FROM fhir.service_request s
           JOIN fhir.diagnostic_report_based_on b ON b.request_id = s.id
           JOIN fhir.diagnostic_report r ON r.id = b.resource_id
           JOIN fhir.diagnostic_report_result x ON x.resource_id = r.id
           JOIN fhir.observation o ON o.id = x.observation_id
           JOIN fhir.identifier p_number ON p_number.resource_type = 'Patient' AND p_number.resource_id = o.subject_id""",
    )
    assert sorted(results) == sorted((f"O{n}", f"P{n % PATIENTS}", value(n), f"R{n}", 1, f"F{n}") for n in numbers)
    assert asked(server, "SELECT count(*) FROM fhir.observation") == [(MESSAGES,)]
