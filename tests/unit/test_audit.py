"""The audit log: what was written can be searched, and no change of it goes unnoticed."""

import errno
import json
import logging
import os
from pathlib import Path
from unittest import mock, skipIf

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from engine.audit import AuditLog, Entry, append, records, search, verify
from engine.errors import ConfigError
from engine.observe import Metrics

NOW = 1_764_000_000_000_000
DAY = 86_400_000_000


class AuditTests(TestCase):
    @inlineCallbacks
    def setUp(self):  # type: ignore[no-untyped-def]
        self.folder = Path(self.mktemp())
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: NOW)
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
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: NOW)
        log.record("node.started")
        yield log.close()
        self.assertEqual(verify(self.folder), [])
        self.assertEqual(json.loads((self.folder / "head.json").read_text())["seq"], 6)

    @inlineCallbacks
    def test_a_torn_last_line_does_not_spoil_what_follows(self):  # type: ignore[no-untyped-def]
        """A kill in the middle of a write: the torn record is cut off, the chain goes on and verifies."""
        with self.file.open("a") as file:
            file.write('{"seq": 6, "at": 17')
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: NOW)
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

    # --- a cut-off end, and a restart after it ---

    def cut(self, lines: int) -> None:
        """Somebody removes the last lines."""
        self.file.write_text("".join(self.file.read_text().splitlines(keepends=True)[:-lines]))

    @inlineCallbacks
    def restart(self):  # type: ignore[no-untyped-def]
        """What the verifier says after a new process has written a record."""
        with self.assertLogs("meridian.audit", logging.ERROR) as said:
            log = AuditLog(self.folder, reactor=reactor, clock=lambda: NOW)
        log.record("node.started")
        yield log.close()
        self.assertIn("damaged", said.output[0])
        return verify(self.folder)

    @inlineCallbacks
    def test_a_cut_off_end_stays_known_after_a_restart(self):  # type: ignore[no-untyped-def]
        """The new process writes down what it has found, so that its own head does not hide it."""
        self.cut(2)
        (fault,) = yield self.restart()
        self.assertIn("before record 4 was written: the log ends at record 3, but head.json is of another record 5", fault)
        self.assertEqual(len(search(self.folder, event="audit.damaged")), 1)

    @inlineCallbacks
    def test_a_removed_head_stays_known_after_a_restart(self):  # type: ignore[no-untyped-def]
        """Also where the log was cut off with it; before the restart the verifier says so too."""
        self.cut(2)
        (self.folder / "head.json").unlink()
        self.assertIn("head.json is gone", verify(self.folder)[0])
        (fault,) = yield self.restart()
        self.assertIn("before record 4 was written: head.json was gone", fault)

    @inlineCallbacks
    def test_an_emptied_log_stays_known_after_a_restart(self):  # type: ignore[no-untyped-def]
        """The head alone is left."""
        self.file.unlink()
        (fault,) = yield self.restart()
        self.assertIn("the log ends at record 0", fault)

    def test_a_copy_of_the_head_proves_what_a_rewritten_one_hides(self) -> None:
        """Log and head replaced by a new, consistent pair: only a copy kept elsewhere tells."""
        copy = Path(self.mktemp())
        copy.write_bytes((self.folder / "head.json").read_bytes())
        for file in (self.file, self.folder / "head.json"):
            file.unlink()
        append(self.folder, [Entry(NOW, "node.started")] * 7, NOW)
        self.assertEqual(verify(self.folder), [])
        (fault,) = verify(self.folder, (copy,))
        self.assertIn("another record 5", fault)

    def test_an_older_copy_is_fine(self) -> None:
        """The log has gone on since."""
        copy = Path(self.mktemp())
        copy.write_bytes((self.folder / "head.json").read_bytes())
        append(self.folder, [Entry(NOW, "node.started")], NOW)
        self.assertEqual(verify(self.folder, (copy,)), [])

    def test_a_new_log_has_a_head_from_its_beginning(self) -> None:
        """Else its first crash would look like a head that somebody has removed."""
        folder = Path(self.mktemp())
        folder.mkdir()
        append(folder, [], NOW)
        self.assertEqual(json.loads((folder / "head.json").read_text())["seq"], 0)
        self.assertEqual(verify(folder), [])

    # --- clocks, and two writers ---

    def test_a_clock_that_is_set_back(self) -> None:
        """Across a day, and forward again: the order of the files is that of the records."""
        for now in (NOW + 2 * DAY, NOW - DAY, NOW + DAY, NOW + 5 * DAY):
            append(self.folder, [Entry(now, "tick")], now)
        self.assertEqual(verify(self.folder), [])
        self.assertEqual([record.seq for record in records(self.folder)], list(range(1, 10)))

    @inlineCallbacks
    def test_the_command_line_writes_beside_the_node(self):  # type: ignore[no-untyped-def]
        """Both into one chain, in any order."""
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: NOW)
        for number in range(5):
            log.record("node", number=number)
            append(self.folder, [Entry(NOW, "messages.shown", {"user": "anna"})], NOW)
            if number % 2:
                yield log.flush()
        yield log.close()
        self.assertEqual(verify(self.folder), [])
        self.assertEqual(len(search(self.folder, event="messages.")), 5)

    @skipIf(os.geteuid() != 0, "only root can give files away")
    def test_what_root_has_made_stays_the_nodes(self) -> None:
        """An operator looks at a message as root, just after midnight: the new day's file must not lock the node out."""
        folder = Path(self.mktemp())
        folder.mkdir()
        os.chown(folder, 1234, 1235)
        append(folder, [Entry(NOW, "messages.shown")], NOW)
        self.assertEqual({(file.stat().st_uid, file.stat().st_gid) for file in folder.iterdir()}, {(1234, 1235)})
        self.assertEqual(len(list(folder.iterdir())), 3)

    # --- what cannot be written ---

    @inlineCallbacks
    def test_a_full_disk_loses_no_record_and_is_said(self):  # type: ignore[no-untyped-def]
        """Log, metrics and `failing` say so; when there is room again all is written, once, in order."""
        metrics = Metrics()
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: NOW, metrics=metrics)
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        before = self.file.read_bytes()
        for broken in ("engine.audit.writing.os.fsync", "engine.audit.writing._write_head"):
            log.record("while.full", by=broken)
            with mock.patch(broken, side_effect=full), self.assertLogs("meridian.audit", logging.ERROR) as said:
                yield log.flush()
            self.assertIn("cannot be written", said.output[0])
            self.assertEqual(log.failing, "No space left on device")
            self.assertEqual(self.file.read_bytes(), before)
        log.record("while.full", by="after")
        value = metrics.registry.get_sample_value
        self.assertEqual((value("meridian_audit_failures_total"), value("meridian_audit_unwritten")), (2.0, 2.0))
        yield log.flush()
        self.assertEqual((log.failing, value("meridian_audit_unwritten")), ("", 0.0))
        self.assertEqual([record.event for record in records(self.folder)][5:], ["while.full"] * 3)
        self.assertEqual(verify(self.folder), [])
        yield log.close()

    @inlineCallbacks
    def test_what_is_too_much_to_keep_is_counted(self):  # type: ignore[no-untyped-def]
        """In the log itself, once it can be written."""
        log = AuditLog(self.folder, reactor=reactor, clock=lambda: NOW)
        with mock.patch("engine.audit.log.MOST", 2):
            for _ in range(5):
                log.record("flood")
        with mock.patch("engine.audit.writing.os.fsync", side_effect=OSError(errno.EIO, "x")), self.assertLogs("meridian.audit"):
            yield log.flush()
        yield log.close()
        self.assertEqual(search(self.folder, event="audit.lost")[0].facts, {"records": "3"})
        self.assertEqual((len(search(self.folder, event="flood")), verify(self.folder)), (2, []))

    def test_a_folder_that_cannot_be_written_is_a_fault_at_the_start(self) -> None:
        """Said as any other fault of the configuration."""
        inside = self.file / "audit"
        with self.assertRaisesRegex(ConfigError, "cannot be written"):
            AuditLog(inside, reactor=reactor, clock=lambda: NOW)
