"""The destination `fhir_tables` on PostgreSQL, over a line that can be cut in the commit."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.engine import URL
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.database.landing import adapter
from engine.bench.loopback import free_port
from engine.contracts import Adapter, Destination
from engine.errors import PermanentDelivery, TransientDelivery
from engine.message import BodyRef
from tests.contracts.destination_contract import DestinationContract
from tests.support.database_line import Line
from tests.support.databases import own_database
from tests.support.landing import NOON, Landing, check, context, options, parcel


def body(number: int) -> bytes:
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:s", "value": str(number)}]}
    request = {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier=urn:s|{number}"}
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient, "request": request}]}).encode()


class Peer:
    """A database with the tables in it, empty; `mode` as the contract has it."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.landing = Landing(self.url)
        self.landing.land()
        with self.landing.engine.begin() as connection:
            for constraint in ("no_more", "not_him"):
                connection.execute(text(f"ALTER TABLE fhir.patient DROP CONSTRAINT IF EXISTS {constraint}"))
            names = ", ".join(f"fhir.{name}" for name in ("landed_message", "resource", "resource_version", "patient", "identifier"))
            connection.execute(text(f"TRUNCATE {names}"))
            connection.execute(text("UPDATE fhir.landing_state SET value = 0"))
        self.line = Line(str(self.url.host), int(self.url.port or 5432))
        self._mode = "take"

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = mode
        self.line.cut = mode == "hang up"
        if mode == "refuse":
            with self.landing.engine.begin() as connection:
                connection.execute(text("ALTER TABLE fhir.patient ADD CONSTRAINT no_more CHECK (version < 0) NOT VALID"))

    @property
    def taken(self) -> list[str]:
        found: list[str] = self.landing.rows("landed_message", "control_id")
        return found

    def stop(self) -> None:
        self.line.stop()
        self.landing.engine.dispose()


class TablesContract(DestinationContract, TestCase):
    url: ClassVar[URL]

    @classmethod
    def setUpClass(cls) -> None:
        """One database for all of them: making the tables takes longer than any of the tests."""
        opened = ExitStack()
        cls.url = opened.enter_context(own_database("postgresql"))
        cls.addClassCleanup(opened.close)

    def start_peer(self) -> Peer:
        return Peer(self.url)

    def make(self) -> Destination:
        return self._to(self.peer.line.port)

    def make_nowhere(self) -> Destination:
        return self._to(free_port())

    def _to(self, port: int, days: int = 0, **more: Any) -> Destination:
        """`days` after noon."""
        url = self.peer.url.set(port=port)
        later = NOON + days * 86_400_000_000
        made: Destination = adapter.destination(options(url, **more), context(reactor, clock=lambda: later))
        return made

    def parcel(self, number, content=None):  # type: ignore[no-untyped-def]
        return parcel(number, body(number) if content is None else content)

    def test_it_is_what_the_contract_says(self) -> None:
        assert isinstance(self.destination, Destination)
        plug: Adapter = adapter
        self.assertEqual(plug.name, "fhir_tables")

    @inlineCallbacks
    def test_the_commit_whose_answer_was_lost_is_recognized(self):  # type: ignore[no-untyped-def]
        """The receipt of the second attempt is that of the first landing; nothing is there twice."""
        self.peer.mode = "hang up"
        yield self.destination.deliver(self.parcel(1)).addErrback(lambda failure: None)
        self.assertEqual(self.peer.line.commits_cut, 1)
        self.peer.mode = "take"
        receipt = yield self.destination.deliver(self.parcel(1))
        self.assertEqual((receipt.reference, json.loads(receipt.answer)["created"]), ("landing 1", 1))
        check(self.peer.landing)

    @inlineCallbacks
    def test_what_is_refused_is_singled_out(self):  # type: ignore[no-untyped-def]
        """Of a group the others are landed; the constraint is named, the value is not, and the database's own words are kept."""
        with self.peer.landing.engine.begin() as connection:
            connection.execute(text("ALTER TABLE fhir.patient ADD CONSTRAINT not_him CHECK (family <> 'Zorn')"))
        bad = body(5).replace(b'"resourceType": "Patient", ', b'"resourceType": "Patient", "name": [{"family": "Zorn"}], ')
        parcels = [self.parcel(number, bad if number == 5 else None) for number in range(1, 20)]
        results = yield gatherResults([self.destination.deliver(one).addErrback(lambda failure: failure.value) for one in parcels])
        refused = [result for result in results if isinstance(result, PermanentDelivery)]
        self.assertEqual(len(refused), 1)
        self.assertIs(refused[0], results[4])
        self.assertIn("not_him", refused[0].text)
        self.assertIn("23514", refused[0].text)
        self.assertNotIn("Zorn", str(refused[0]))
        self.assertIn(b"Zorn", refused[0].answer)
        self.assertEqual(sorted(map(int, self.peer.taken)), [number for number in range(1, 20) if number != 5])
        check(self.peer.landing)

    @inlineCallbacks
    def test_what_is_no_bundle_is_permanent(self):  # type: ignore[no-untyped-def]
        for content in (b"", b"garbage", b"[]", BodyRef("00", 1)):
            yield self.assertFailure(self.destination.deliver(self.parcel(1, content)), PermanentDelivery)

    @inlineCallbacks
    def test_missing_tables_make_everything_wait(self):  # type: ignore[no-untyped-def]
        """Somebody dropped the schema: that is no message's fault. The next attempt makes the tables anew."""
        yield self.destination.deliver(self.parcel(1))
        with self.peer.landing.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA fhir CASCADE"))
        error = yield self.assertFailure(self.destination.deliver(self.parcel(2)), TransientDelivery)
        self.assertTrue(error.whole_destination)
        yield self.destination.deliver(self.parcel(2))
        self.assertEqual(self.peer.taken, ["2"])

    @inlineCallbacks
    def test_close_finishes_what_is_under_way(self):  # type: ignore[no-untyped-def]
        results = [self.destination.deliver(self.parcel(number)) for number in range(1, 6)]
        yield self.destination.close()
        self.closed = True
        yield gatherResults(results)
        self.assertEqual(self.peer.taken, ["1", "2", "3", "4", "5"])

    @inlineCallbacks
    def test_what_is_old_goes_between_two_groups(self):  # type: ignore[no-untyped-def]
        """While others are delivered; an old version and an old message are no more, what is now is there, and close waits for a step."""
        for number, content in enumerate(
            (body(1), body(1).replace(b"POST", b"PUT").replace(b'"Patient", "ifN', b'"Patient?identifier=urn:s|1", "ifN')), 1
        ):
            yield self.destination.deliver(self.parcel(number, content))
        yield self.destination.close()
        self.destination = self._to(self.peer.line.port, 400, keep={"versions": "365d", "messages": "365d", "without_export": True})
        yield self.destination.open()
        yield gatherResults([self.destination.deliver(self.parcel(number)) for number in range(3, 9)])
        yield self.destination.close()
        self.closed = True
        self.assertEqual(self.peer.taken, [str(number) for number in range(3, 9)])
        self.assertEqual(len(self.peer.landing.rows("patient")), 7)
