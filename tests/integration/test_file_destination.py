"""The destination `file` on a real folder: whole files under safe names, nothing overwritten, and nothing written twice."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.file import adapter
from adapters.file.local_folder import LocalFolder
from adapters.file.places import numbered
from engine.contracts import Destination
from engine.errors import PermanentDelivery, TransientDelivery
from engine.message import FHIR_JSON, BodyRef, Parcel
from tests.support.fhir import context


def parcel(number: int, body: bytes | BodyRef = b'{"resourceType":"Patient","id":"p1"}', control_id: str = "") -> Parcel:
    return Parcel(number, number, body, FHIR_JSON, "Patient", control_id or str(number), f"key-{number}")


class FileDestinationTests(TestCase):
    """One folder."""

    timeout = 60

    def setUp(self) -> None:
        self.site = Path(self.mktemp())
        self.out = self.site / "out"
        self.out.mkdir(parents=True)
        self.destination: Any = None

    @inlineCallbacks
    def tearDown(self) -> Any:
        if self.destination is not None:
            yield self.destination.close()

    def make(self, **options: Any) -> Deferred[None]:
        said = {"folder": "out", "name": "${message.control_id}.json", **options}
        made = context(self.site / "data", reactor, name="c/files")
        object.__setattr__(made, "site", self.site)
        object.__setattr__(made, "body_file", lambda ref: self.site / ref.digest)
        self.destination = adapter.destination(adapter.destination_options.defaults(**said), made)  # type: ignore[union-attr]
        assert isinstance(self.destination, Destination)
        opened: Deferred[None] = self.destination.open()
        return opened

    def tree(self) -> dict[str, bytes]:
        return {str(one.relative_to(self.out)): one.read_bytes() for one in self.out.rglob("*") if one.is_file()}

    @inlineCallbacks
    def test_as_many_at_once_as_it_says(self) -> Any:
        """Each under its own name, whole, and nothing else lies there."""
        yield self.make()
        receipts = yield gatherResults(
            [self.destination.deliver(parcel(number)) for number in range(1, self.destination.max_in_flight + 1)]
        )
        self.assertEqual([receipt.reference for receipt in receipts], [f"{number}.json" for number in range(1, 17)])
        self.assertEqual(len(self.tree()), 16)

    @inlineCallbacks
    def test_the_same_again_is_no_second_file(self) -> Any:
        """Written, and the answer lost: the content tells."""
        yield self.make(existing="number")
        first = yield self.destination.deliver(parcel(1))
        again = yield self.destination.deliver(parcel(1))
        other = yield self.destination.deliver(parcel(1, b"{}"))
        self.assertEqual([one.reference for one in (first, again, other)], ["1.json", "1.json", "1.2.json"])
        self.assertEqual((yield self.destination.deliver(parcel(1, b"{}"))).reference, "1.2.json")

    @inlineCallbacks
    def test_names_that_are_taken_cost_no_writing(self) -> Any:
        """A channel that calls every message the same: a message is written for a name that is free, not for each before it."""
        yield self.make(existing="number")
        for number in range(1, 20):
            (self.out / numbered("1.json", number)).write_bytes(b"theirs")
        written: list[str] = []
        original = LocalFolder.write
        self.patch(LocalFolder, "write", lambda place, name, *more: written.append(name) or original(place, name, *more))
        self.assertEqual((yield self.destination.deliver(parcel(1))).reference, "1.20.json")
        self.assertEqual(written, ["1.json", "1.20.json"])

    @inlineCallbacks
    def test_another_content_under_a_name_that_is_there(self) -> Any:
        """A dead letter; the file that is there stays as it is."""
        yield self.make()
        (self.out / "1.json").write_bytes(b"theirs")
        yield self.assertFailure(self.destination.deliver(parcel(1)), PermanentDelivery)
        self.assertEqual(self.tree(), {"1.json": b"theirs"})

    @inlineCallbacks
    def test_what_a_message_lacks_for_its_name_is_said(self) -> Any:
        """Which of the paths in the name it is: the reason alone is what an operator sees."""
        yield self.make(name="${id}-${birthDate}.json")
        failed = yield self.assertFailure(self.destination.deliver(parcel(1)), PermanentDelivery)
        self.assertIn("the message lacks birthDate", failed.text)

    @inlineCallbacks
    def test_no_message_names_a_path(self) -> Any:
        """What a name cannot have is replaced; no file appears anywhere else."""
        yield self.make()
        for number, name in enumerate(("../../etc/cron.d/x", "/etc/passwd", "a/b", "..", "a\x00c", "报告 1", "x" * 500), 1):
            yield self.destination.deliver(parcel(number, control_id=name))
        self.assertEqual(sorted(os.listdir(self.site)), ["data", "out"])
        self.assertEqual(len(os.listdir(self.out)), 7)
        self.assertIn("报告_1.json", os.listdir(self.out))

    @inlineCallbacks
    def test_a_name_out_of_the_content(self) -> Any:
        """By a path of it; a message that lacks that is a dead letter, not a file called by nothing."""
        yield self.make(name="${id}.json", into="patients/new", marker=".done")
        yield self.destination.deliver(parcel(1))
        self.assertEqual(sorted(self.tree()), ["patients/new/p1.json", "patients/new/p1.json.done"])
        error = yield self.assertFailure(self.destination.deliver(parcel(2, b'{"resourceType":"Patient"}')), PermanentDelivery)
        self.assertEqual(error.location, "id")

    @inlineCallbacks
    def test_a_big_body_is_copied(self) -> Any:
        """From its file, at flat memory."""
        yield self.make()
        content = os.urandom(3 << 20)
        digest = hashlib.sha256(content).hexdigest()
        (self.site / digest).write_bytes(content)
        for _ in range(2):
            yield self.destination.deliver(parcel(1, BodyRef(digest, len(content))))
        self.assertEqual(self.tree(), {"1.json": content})

    @inlineCallbacks
    def test_a_full_disk_and_a_folder_that_is_away(self) -> Any:
        """Nothing is left half written, the whole destination waits, and the same parcel goes out afterwards."""
        yield self.make()
        original = os.fsync

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "fsync", full)
        error = yield self.assertFailure(self.destination.deliver(parcel(1)), TransientDelivery)
        self.assertTrue(error.whole_destination)
        self.assertIn("No space left", error.text)
        self.assertEqual(self.tree(), {})
        self.patch(os, "fsync", original)
        self.out.rename(self.site / "away")
        error = yield self.assertFailure(self.destination.deliver(parcel(1)), TransientDelivery)
        self.assertTrue(error.whole_destination)
        self.assertFalse(self.out.exists())
        (self.site / "away").rename(self.out)
        yield self.destination.deliver(parcel(1))
        self.assertEqual(list(self.tree()), ["1.json"])
