"""The destination that de-identifies: what it hands on, what it holds back, and what it leaves on the disk."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase

from engine.contracts import Context
from engine.deidentify.policy import SPEC
from engine.deidentify.sending import Deidentifying
from engine.errors import PermanentDelivery, TransientDelivery
from engine.formats.hl7v2 import decode
from engine.message import DICOM, FHIR_JSON, HL7V2, BodyRef, Parcel, Receipt
from engine.observe import Metrics
from engine.options import Place
from tests.support.deidentify import KEY, cleaned_file, file_of, image, policy
from tests.unit.test_deidentify_hl7v2 import body


class Inner:
    """Takes everything; reads what is a file, as a destination of images does."""

    max_in_flight = 2
    reads_files = True

    def __init__(self, context: Context) -> None:
        self.context, self.taken, self.files = context, [], []
        self.wait: Deferred[Receipt] | None = None
        self.asked: Deferred[None] = Deferred()

    def wind_up(self) -> None:
        """What waits is given back."""
        if self.wait is not None:
            self.wait.errback(TransientDelivery("the node stops"))

    def open(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)

    def deliver(self, parcel: Parcel) -> Deferred[Receipt]:
        self.taken.append(parcel)
        if isinstance(parcel.body, BodyRef):
            file = self.context.body_file(parcel.body)
            self.files.append((file, file.read_bytes()))
        if not self.asked.called:
            self.asked.callback(None)
        return self.wait or succeed(Receipt("ok"))


class Sending(TestCase):
    def setUp(self) -> Any:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.key = self.folder / "key"
        self.key.write_text(KEY)
        self.stored = self.folder / "stored.dcm"
        self.destination = self.make(dates="shift")
        return self.destination.open()

    def tearDown(self) -> Any:
        return self.destination.close()

    def make(self, **options: Any) -> Deidentifying:
        context = Context(
            name="images/research",
            reactor=reactor,
            site=self.folder,
            data=self.folder,
            clock=lambda: 0,
            new_id=lambda: "1",
            log=logging.getLogger("test"),
            metrics=Metrics(),
            tls=None,  # type: ignore[arg-type]
            audit=lambda *_, **__: None,
            body_file=lambda ref: self.stored,
        )
        settings = SPEC.parse({"key": "file:key", **options}, Place("channels/a.yaml", 3, "deidentify", self.folder), [])
        self.inner: Inner
        return Deidentifying(settings, context, self._inner)

    def _inner(self, context: Context) -> Any:
        self.inner = Inner(context)
        return self.inner

    def parcel(self, content: bytes | BodyRef, kind: str = HL7V2) -> Parcel:
        return Parcel(1, 1, content, kind, "ORU^R01", "C1", "key-1", order_key="MRN4711")

    def stored_image(self, **attributes: Any) -> Parcel:
        content = file_of(image(**attributes))
        self.stored.write_bytes(content)
        return self.parcel(BodyRef(hashlib.sha256(content).hexdigest(), len(content)), DICOM)

    @inlineCallbacks
    def test_a_stop_reaches_the_inner_destination(self) -> Any:
        """What waits there for long is given back, so that the node can end."""
        self.inner.wait = Deferred()
        delivered = self.destination.deliver(self.parcel(body()))
        yield self.inner.asked
        self.destination.wind_up()
        yield self.assertFailure(delivered, TransientDelivery)

    @inlineCallbacks
    def test_a_message_is_handed_on_without_its_patient(self) -> Any:
        """Everything but the content stays as it was."""
        receipt = yield self.destination.deliver(self.parcel(body()))
        (sent,) = self.inner.taken
        self.assertEqual(receipt.reference, "ok")
        self.assertNotIn(b"MRN4711", sent.body)
        self.assertEqual(replace(sent, body=b""), self.parcel(b""))
        self.assertTrue(decode(sent.body).get("PID-3.1"))

    @inlineCallbacks
    def test_an_image_is_a_file_until_its_delivery_has_ended(self) -> Any:
        """Named by its digest; the control id is the new SOP Instance UID; afterwards nothing is left, and the original is untouched."""
        parcel = self.stored_image()
        self.inner.wait = Deferred()
        delivered = self.destination.deliver(parcel)
        while not self.inner.taken:
            yield _turn()
        (sent,), ((file, content),) = self.inner.taken, self.inner.files
        self.assertEqual(content, cleaned_file(self.stored.read_bytes(), policy(dates="shift")))
        self.assertEqual((sent.body.digest, sent.body.size), (hashlib.sha256(content).hexdigest(), len(content)))
        self.assertEqual(sent.control_id, policy().pseudonyms.uid("1.2.826.0.1.3680043.2.1"))
        self.assertTrue(file.exists())
        self.inner.wait.callback(Receipt("done"))
        yield delivered
        self.assertFalse(file.exists())
        self.assertTrue(self.stored.exists())

    @inlineCallbacks
    def test_what_is_held_is_a_dead_letter_and_nothing_is_handed_on(self) -> Any:
        """With the attribute, without the value; for an image no file is left."""
        error = yield self.assertFailure(self.destination.deliver(self.stored_image(Manufacturer="for Quixote")), PermanentDelivery)
        self.assertEqual(error.text, "quarantined: Manufacturer: the result still holds what identifies the patient")
        yield self.assertFailure(self.destination.deliver(self.parcel(b"no message")), PermanentDelivery)
        yield self.assertFailure(self.destination.deliver(self.parcel(b"H|\\^&", "application/astm+e1394")), PermanentDelivery)
        self.assertEqual((self.inner.taken, list(self.destination._folder.iterdir())), ([], []))

    @inlineCallbacks
    def test_without_its_key_everything_waits(self) -> Any:
        """And goes on as soon as the key is there, under the new one."""
        self.key.unlink()
        error = yield self.assertFailure(self.destination.deliver(self.parcel(body())), TransientDelivery)
        self.assertTrue(error.whole_destination)
        self.key.write_text(KEY[::-1])
        yield self.destination.deliver(self.parcel(body()))
        expected = policy(KEY[::-1]).pseudonyms.identifier("urn:oid:1.2.3", "MRN4711")
        self.assertEqual(decode(self.inner.taken[0].body).get("PID-3.1"), expected)

    @inlineCallbacks
    def test_a_long_text_comes_as_a_file_and_goes_on_in_memory(self) -> Any:
        """A destination of images may get one all the same."""
        content = orjson.dumps({"resourceType": "Patient", "name": [{"family": "Quixote"}], "identifier": [{"value": "MRN4711"}]})
        self.stored.write_bytes(content)
        yield self.destination.deliver(self.parcel(BodyRef(hashlib.sha256(content).hexdigest(), len(content)), FHIR_JSON))
        self.assertNotIn(b"Quixote", self.inner.taken[0].body)

    @inlineCallbacks
    def test_what_a_crash_has_left_is_removed_at_the_start(self) -> Any:
        """It is made again when it is wanted."""
        yield self.destination.close()
        (self.destination._folder / "rest").write_bytes(b"x")
        self.destination = self.make()
        yield self.destination.open()
        self.assertEqual(list(self.destination._folder.iterdir()), [])


def _turn() -> Deferred[None]:
    """One turn of the reactor."""
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)  # type: ignore[attr-defined]
    return turned


@pytest.mark.parametrize("attribute", ["max_in_flight", "reads_files"])
def test_it_takes_what_the_inner_one_takes(attribute: str) -> None:
    """As many at once, and files where that reads them."""
    sending = Sending()
    sending.setUp()
    assert getattr(sending.destination, attribute) == getattr(Inner, attribute)
    sending.tearDown()
