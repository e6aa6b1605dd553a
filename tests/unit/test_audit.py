"""The audit log: what was written can be searched, and no change of it goes unnoticed."""

import json
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from engine.audit import AuditLog, records, search, verify


class AuditTests(TestCase):
    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.folder = Path(self.mktemp())
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: 1_764_000_000_000_000)
        for number in range(5):
            log.record("tls.refused" if number % 2 else "fhir.read", party=f"p{number}")
        yield log.close()
        (self.file,) = self.folder.glob("*.jsonl")

    def change(self, edit) -> list[str]:  # type: ignore[no-untyped-def]
        """Rewrite the file's lines by `edit`, and give what the verifier says."""
        lines = self.file.read_text().splitlines()
        self.file.write_text("\n".join(edit(lines)) + "\n")
        return verify(self.folder)

    def test_what_is_whole_verifies(self) -> None:
        """Five records, no fault."""
        self.assertEqual((len(list(records(self.folder))), verify(self.folder)), (5, []))

    def test_search(self) -> None:
        """By event and by a fact, newest first."""
        self.assertEqual([r.facts["party"] for r in search(self.folder, event="tls.")], ["p3", "p1"])
        self.assertEqual(len(search(self.folder, fact="p2")), 1)

    def test_an_edit_is_found(self) -> None:
        """One changed fact."""
        self.assertIn("record 2 has been changed", self.change(lambda lines: [line.replace('"p1"', '"px"') for line in lines]))

    def test_a_deletion_is_found(self) -> None:
        """One line less in the middle."""
        self.assertTrue(self.change(lambda lines: lines[:2] + lines[3:]))

    def test_reordering_is_found(self) -> None:
        """Two lines exchanged."""
        self.assertTrue(self.change(lambda lines: [lines[1], lines[0], *lines[2:]]))

    def test_a_cut_off_end_is_found(self) -> None:
        """The last line gone: the head tells."""
        (fault,) = self.change(lambda lines: lines[:-1])
        self.assertIn("cut off", fault)

    def test_garbage_is_found(self) -> None:
        """A line that is no record."""
        self.assertTrue(self.change(lambda lines: [*lines[:3], "?", *lines[3:]]))

    @inlineCallbacks
    def test_the_chain_goes_on_after_a_restart(self):  # type: ignore[no-untyped-def]
        """A new process continues where the last one ended."""
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: 1_764_000_000_000_000)
        log.record("node.started")
        yield log.close()
        self.assertEqual(verify(self.folder), [])
        self.assertEqual(json.loads((self.folder / "head.json").read_text())["seq"], 6)

    @inlineCallbacks
    def test_a_torn_last_line_does_not_spoil_what_follows(self):  # type: ignore[no-untyped-def]
        """A kill in the middle of a write: the torn record is cut off, the chain goes on and verifies."""
        with self.file.open("a") as file:
            file.write('{"seq": 6, "at": 17')
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: 1_764_000_000_000_000)
        log.record("node.started")
        yield log.close()
        self.assertEqual(verify(self.folder), [])
        self.assertEqual([record.seq for record in records(self.folder)], [1, 2, 3, 4, 5, 6])

    def test_a_head_that_is_behind_after_a_crash_is_fine(self) -> None:
        """The records are written before the head: a crash in between is no fault. An unreadable head is one."""
        first = next(iter(records(self.folder)))
        (self.folder / "head.json").write_text(json.dumps({"seq": 1, "hash": first.hash}))
        self.assertEqual(verify(self.folder), [])
        (self.folder / "head.json").write_text("")
        self.assertEqual(verify(self.folder), ["head.json cannot be read"])
