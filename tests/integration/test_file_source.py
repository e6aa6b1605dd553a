"""The source `file` on a real folder: what is kept, what is moved where, and what a second life of the node makes of the rest."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from adapters.file import reading, source
from adapters.file.local_folder import LocalFolder
from adapters.file.options import SOURCE
from adapters.file.source import FileSource
from engine.formats.files import labelled
from engine.formats.rows import read
from engine.message import FILE, ROWS, BodyRef
from tests.support.files import Kept, Taking
from tests.unit.test_file_archives import zipped

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJuqjSG4xUm5wlmYQBQD9qfB2kcHDlCnS2Wq9fGvzcJX"
PDF = b"%PDF-1.7\n" + b"x" * 100 + b"\n%%EOF\n"


class FileSourceTests(TestCase):
    """One folder, a store in memory."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.kept = Kept()
        self._lives: list[Taking] = []

    @inlineCallbacks
    def tearDown(self) -> Any:
        for life in self._lives:
            yield life.stop()

    def taking(self, **options: Any) -> Taking:
        return Taking(self.folder, self.kept, **options)

    def begin(self, taking: Taking) -> Deferred[None]:
        self._lives.append(taking)
        return taking.start()

    def end(self, taking: Taking) -> Deferred[None]:
        self._lives.remove(taking)
        return taking.stop()

    @inlineCallbacks
    def test_rows_are_messages_and_a_bad_one_does_not_stop_the_rest(self) -> Any:
        """The bad row is kept as it stands, with file and line; the file lies in faulty with a report that holds no content."""
        taking = self.taking(format="csv", rows={"table": "orders", "key": ["no"], "patient_ids": ["patient"]})
        taking.put("orders.csv", b"no,patient\n1,P1\nsecret\n3,P3\n")
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual([read(one.body).row["no"] for one in self.kept.envelopes], ["1", "3"])
        first = self.kept.envelopes[0]
        self.assertEqual((first.content_type, first.message_type, first.control_id, first.patient_ids), (ROWS, "orders", "1", ("P1",)))
        self.assertEqual(dict(first.facts), {"file": "orders.csv", "part": "1", "line": "2", "offset": "11"})
        self.assertEqual(self.kept.bad[0].body, b"secret\n")
        self.assertEqual(self.kept.invalid[0].reason, "orders.csv:3: has 1 cells; the heading names 2")
        self.assertEqual(taking.tree(), ["faulty/orders.csv", "faulty/orders.csv.errors.csv"])
        report = (taking.folder / "faulty/orders.csv.errors.csv").read_text("utf-8-sig")
        self.assertEqual(report.splitlines(), ["file,line,part,reason", "orders.csv,3,2,has 1 cells; the heading names 2"])
        self.assertEqual(taking.events[0][1]["faults"], 1)

    @inlineCallbacks
    def test_a_good_file_goes_to_done_and_never_over_another(self) -> Any:
        """The second file of a name gets a number; each is committed before it moves."""
        taking = self.taking(format="csv")
        taking.put("a.csv", b"x\n1\n")
        yield self.begin(taking)
        yield taking.taken()
        taking.put("a.csv", b"x\n2\n")
        yield taking.taken(2)
        self.assertEqual(taking.tree(), ["done/a.2.csv", "done/a.csv"])

    @inlineCallbacks
    def test_pages_and_a_store_that_is_full_for_a_while(self) -> Any:
        """Nothing moves before all is kept; what was kept of a page is told as a repetition, and no row is lost or doubled."""
        taking = self.taking(format="csv")
        self.kept.refuse = lambda number: number in (1, 250, 700, 1300)
        taking.put("a.csv", b"x\n" + b"".join(b"%d\n" % number for number in range(1200)))
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual([read(one.body).row["x"] for one in sorted(self.kept.envelopes, key=_row)], [str(n) for n in range(1200)])
        self.assertEqual(taking.tree(), ["done/a.csv"])

    @inlineCallbacks
    def test_a_second_life_goes_on_where_the_first_was_ended(self) -> Any:
        """The claim is found again, and what the checkpoint covers is not handed in again."""
        body = b"x\n" + b"".join(b"%d\n" % number for number in range(1600))
        first = self.taking(format="csv")
        first.put("a.csv", body)
        self.kept.refuse = lambda number: number > 1100
        yield self.begin(first)
        yield self.kept.after(1101)
        yield self.end(first)
        self.assertEqual(next(one for one in first.tree() if one.endswith("a.csv")).split("/")[0], ".claimed")
        self.kept.refuse = lambda _: False
        before = self.kept.arrived
        second = self.taking(format="csv")
        yield self.begin(second)
        yield second.taken()
        self.assertEqual(len(self.kept.envelopes), 1600)
        self.assertEqual(self.kept.arrived - before, 600)
        self.assertEqual(second.tree(), ["done/a.csv"])

    @inlineCallbacks
    def test_killed_between_the_last_commit_and_the_move(self) -> Any:
        """All is kept, the file is still claimed: it is moved, and nothing comes twice."""
        first = self.taking(format="csv")
        first.put("a.csv", b"x\n1\n2\nbad,bad\n")
        yield self.begin(first)
        yield first.taken()
        yield self.end(first)
        (claims,) = (first.folder / ".claimed").iterdir()
        (first.folder / "faulty/a.csv").rename(claims / "a.csv")
        second = self.taking(format="csv")
        yield self.begin(second)
        yield second.taken()
        self.assertEqual((len(self.kept.envelopes), len(self.kept.bad), self.kept.repeated), (2, 1, 0))
        self.assertEqual(second.tree(), ["faulty/a.csv", "faulty/a.csv.errors.csv"])

    @inlineCallbacks
    def test_what_cannot_be_cut_is_one_invalid_message(self) -> Any:
        """The whole file is kept, its reason says why; the next file goes on."""
        taking = self.taking(format="csv")
        taking.put("1.csv", b"a,a\n1,2\n")
        taking.put("2.csv", b"a\n1\n")
        yield self.begin(taking)
        yield taking.taken(2)
        self.assertEqual([one.reason for one in self.kept.invalid], ["1.csv: line 1: the heading has the column 'a' twice"])
        self.assertEqual(self.kept.bad[0].body, b"a,a\n1,2\n")
        self.assertEqual(taking.tree(), ["done/2.csv", "faulty/1.csv", "faulty/1.csv.errors.csv"])

    @inlineCallbacks
    def test_an_empty_file_is_said(self) -> Any:
        """Of every format: its sender was most likely interrupted."""
        taking = self.taking(format="ndjson")
        taking.put("a.ndjson", b"")
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual([one.reason for one in self.kept.invalid], ["a.ndjson: the file is empty"])
        self.assertEqual(taking.tree(), ["faulty/a.ndjson", "faulty/a.ndjson.errors.csv"])

    @inlineCallbacks
    def test_a_file_full_of_bad_rows_is_given_up(self) -> Any:
        """After the stated number, and that is said."""
        taking = self.taking(format="csv", most_faults=3)
        taking.put("a.csv", b"a\n" + b"1,2\n" * 100)
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual(len(self.kept.invalid), 4)
        self.assertIn("the rest of the file was not read", self.kept.invalid[-1].reason)

    @inlineCallbacks
    def test_pdf_with_its_label(self) -> Any:
        """What its name says is a fact and in the label; a big one is a body file; one that breaks off, or whose name does not fit, is not."""
        taking = self.taking(format="pdf", name_pattern=r"(?P<patient>[A-Z0-9]+)_(?P<type>\w+?)_(?P<date>\d{8})\.pdf")
        big = b"%PDF-1.7\n" + bytes(300_000) + b"\n%%EOF\n"
        for name, content in (
            ("P1_discharge_20260131.pdf", PDF),
            ("P2_lab_20260131.pdf", big),
            ("P3_lab_20260131.pdf", PDF[:-8]),
            ("x.pdf", PDF + b" "),
        ):
            taking.put(name, content)
        yield self.begin(taking)
        yield taking.taken(4)
        small, large = self.kept.envelopes
        self.assertEqual((small.content_type, small.message_type, small.patient_ids), (FILE, "discharge", ("P1",)))
        self.assertIsInstance(large.body, BodyRef)
        for envelope, content in ((small, PDF), (large, big)):
            body = taking.body(envelope)
            label, begin = labelled.read(body)
            self.assertEqual((label.size, label.facts["date"], body[begin:]), (len(content), "20260131", content))
        reasons = [one.reason for one in self.kept.invalid]
        self.assertIn("not complete", reasons[0])
        self.assertIn("does not fit name_pattern", reasons[1])

    @inlineCallbacks
    def test_an_archive(self) -> Any:
        """Its files are cut as if they lay there; a bad row names archive, file and line; a broken archive is taken not even in part."""
        taking = self.taking(format="csv")
        body = zipped(**{"one.csv": b"a\n1\nx,y\n", "two.csv": b"a\n2\n"})
        taking.put("night.zip", body)
        taking.put("broken.zip", body[: len(body) // 2])
        taking.put("three.csv.gz", gzip.compress(b"a\n3\n"))
        yield self.begin(taking)
        yield taking.taken(3)
        self.assertEqual([read(one.body).row["a"] for one in self.kept.envelopes], ["1", "2", "3"])
        self.assertEqual(self.kept.envelopes[1].facts["member"], "two.csv")
        self.assertIn("broken.zip: the zip archive is not complete", self.kept.invalid[0].reason)
        self.assertEqual(self.kept.invalid[1].reason, "night.zip/one.csv:3: has 2 cells; the heading names 1")
        self.assertEqual(taking.tree()[0], "done/three.csv.gz")

    @inlineCallbacks
    def test_what_nobody_has_foreseen_in_a_file_loses_none(self) -> Any:
        """A fault of a library while a file is cut makes it a faulty one, said and kept whole; it is never taken for its end."""
        taking = self.taking(format="csv")
        taking.put("1.csv", b"x\n1\n2\n")
        taking.put("2.csv", b"x\n3\n")
        original = reading.parts

        def cutting(stream: Any, size: int, name: str, options: Any) -> Any:
            for number, part in enumerate(original(stream, size, name, options)):
                if number == 1:
                    raise IndexError("P1001")
                yield part

        self.patch(reading, "parts", cutting)
        yield self.begin(taking)
        yield taking.taken(2)
        self.assertEqual([read(one.body).row["x"] for one in self.kept.envelopes], ["1", "3"])
        self.assertEqual([one.reason for one in self.kept.invalid], ["1.csv:2: the file cannot be cut: IndexError"])
        self.assertEqual(self.kept.bad[0].body, b"x\n1\n2\n")
        self.assertEqual(taking.tree(), ["done/2.csv", "faulty/1.csv", "faulty/1.csv.errors.csv"])

    @inlineCallbacks
    def test_a_file_that_cannot_be_moved_does_not_hold_up_the_others(self) -> Any:
        """All of it is kept: only the move is tried again, and nothing of it is handed in anew."""
        taking = self.taking(format="csv")
        taking.put("1.csv", b"x\n1\n2\n4,4\n")
        taking.put("2.csv", b"x\n3\n")
        (taking.folder / "faulty").write_bytes(b"no folder")
        self.patch(source, "_POSTPONED_SECONDS", 0.05)
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual(taking.tree()[1:], ["done/2.csv", "faulty"])
        (taking.folder / "faulty").unlink()
        yield taking.taken(2)
        self.assertEqual(taking.tree(), ["done/2.csv", "faulty/1.csv", "faulty/1.csv.errors.csv"])
        self.assertEqual((len(self.kept.envelopes), self.kept.repeated), (3, 0))

    @inlineCallbacks
    def test_the_place_hears_of_its_owner_while_a_long_file_is_read(self) -> Any:
        """Or another node would take the file over before the first row of it is handed in, and each would do so to the other."""
        taking = self.taking(format="csv")
        heard: list[int] = []
        original = LocalFolder.beat
        self.patch(LocalFolder, "beat", lambda place: heard.append(self.kept.arrived) or original(place))
        taking.put("a.csv", b"x\n" + (b" " * (1 << 20) + b"\n") * 10 + b"1\n")
        yield self.begin(taking)
        yield taking.taken()
        self.assertGreater(heard.count(0), 9)
        self.assertEqual(len(self.kept.envelopes), 1)

    @inlineCallbacks
    def test_a_stop_waits_for_no_long_file(self) -> Any:
        """Its reading is broken off, and nothing is said to be wrong; the next life takes it."""
        first = self.taking(format="csv")
        first.put("a.csv", b"x\n1\n")
        original, opened = LocalFolder.read, _Counting(b"x\n1\n")

        def opening(place: LocalFolder, name: str) -> Any:
            if first not in self._lives:
                return original(place, name)
            first.source.stopping = True
            return opened

        self.patch(LocalFolder, "read", opening)
        ended: Deferred[None] = Deferred()
        again = first.source._again
        self.patch(first.source, "_again", lambda result: (again(result), ended.callback(None))[0])
        yield self.begin(first)
        yield ended
        yield self.end(first)
        self.assertEqual((self.kept.arrived, first.files, opened.reads), (0, 0, 0))
        second = self.taking(format="csv")
        yield self.begin(second)
        yield second.taken()
        self.assertEqual(second.tree(), ["done/a.csv"])

    @inlineCallbacks
    def test_the_same_content_again(self) -> Any:
        """A repetition, unless the channel says that it is new; each time the file is moved away."""
        taking = self.taking(format="csv")
        taking.put("a.csv", b"x\n1\n")
        yield self.begin(taking)
        yield taking.taken()
        taking.put("b.csv", b"x\n1\n")
        yield taking.taken(2)
        self.assertEqual(len(self.kept.envelopes), 1)
        yield self.end(taking)
        again = self.taking(format="csv", same_content="again")
        again.put("c.csv", b"x\n1\n")
        yield self.begin(again)
        yield again.taken()
        self.assertEqual(len(self.kept.envelopes), 2)

    @inlineCallbacks
    def test_names_that_are_left_alone(self) -> Any:
        """Half-written by their names, hidden, not included, and a folder; a marker says that a file is whole, and goes with it."""
        taking = self.taking(format="csv", include=["*.csv", "*.TMP"], marker=".done", settled_for="1h")
        taking.put("b.csv.TMP.done", b"")
        for name in ("a.csv.part", "notes.txt", "half.csv", "B.TMP", "b.csv.TMP"):
            (taking.folder / name).write_bytes(b"x\n1\n")
        (taking.folder / "sub.csv").mkdir()
        taking.put("a.csv", b"x\n2\n")
        taking.put("a.csv.done", b"")
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual(
            taking.tree(), ["B.TMP", "a.csv.part", "b.csv.TMP", "b.csv.TMP.done", "done/a.csv", "done/a.csv.done", "half.csv", "notes.txt"]
        )
        self.assertEqual(len(self.kept.envelopes), 1)

    def test_what_a_sender_may_still_take_back_is_not_taken(self) -> None:
        """A channel with names of its own for what is half-written need not say them twice."""
        users = {"county": {"public_keys": [KEY]}}
        serve = {"listen": "127.0.0.1:0", "host_key": "h", "folder": "drop", "users": users, "half_written": ["*.uploading"]}
        said = SOURCE.defaults(format="csv", serve=serve, ignore=["*.bak"])
        made: Any = FileSource(said, self.taking(format="csv").context)
        wanted = {name: made._rule.wanted(name) for name in ("county/a.csv", "county/a.uploading", "county/a.Uploading", "a.bak")}
        self.assertEqual(list(wanted.values()), [True, False, False, False])

    @inlineCallbacks
    def test_a_folder_that_is_away_is_waited_for(self) -> Any:
        """It is said, and files come as soon as it is there again."""
        taking = self.taking(format="csv")
        taking.folder.rmdir()
        said: Deferred[Any] = Deferred()
        self.patch(taking.source, "cannot_read", lambda error: said.called or said.callback(error))
        yield self.begin(taking)
        self.assertIsInstance((yield said), FileNotFoundError)
        taking.folder.mkdir()
        taking.put("a.csv", b"x\n1\n")
        yield taking.taken()
        self.assertEqual(len(self.kept.envelopes), 1)

    @inlineCallbacks
    def test_a_file_that_cannot_be_read_does_not_hold_up_the_others(self) -> Any:
        """It stays claimed, and is tried again later."""
        taking = self.taking(format="csv")
        taking.put("1.csv", b"x\n1\n")
        taking.put("2.csv", b"x\n2\n")
        original = LocalFolder.read

        def reading(place: LocalFolder, name: str) -> Any:  # root may read everything, so the rights cannot be taken away
            if name.endswith("1.csv"):
                raise PermissionError(13, "Permission denied")
            return original(place, name)

        self.patch(LocalFolder, "read", reading)
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual([one.rpartition("/")[2] for one in taking.tree() if one.startswith(".claimed")], ["1.csv"])
        self.assertIn("done/2.csv", taking.tree())

    @inlineCallbacks
    def test_a_file_that_is_still_written_to_is_found_out(self) -> Any:
        """Its writer had paused for too long: what was read is kept, it is said, and the file is not taken for a good one."""
        taking = self.taking(format="csv")
        taking.put("a.csv", b"x\n1\n")
        with (taking.folder / "a.csv").open("ab", buffering=0) as writer:
            self.kept.refuse = lambda number: bool(number == 1 and writer.write(b"2\n") and False)
            yield self.begin(taking)
            yield taking.taken()
        self.assertEqual(len(self.kept.envelopes), 1)
        self.assertEqual(
            [one.reason for one in self.kept.invalid], ["a.csv:2: the file was changed while it was read: its sender had not been ready"]
        )
        self.assertEqual(taking.tree(), ["faulty/a.csv", "faulty/a.csv.errors.csv"])

    @inlineCallbacks
    def test_what_a_silent_node_had_claimed(self) -> Any:
        """Is taken over when it is of this channel's names; what is for another channel is laid back, and left to that."""
        taking = self.taking(format="csv", include=["*.csv"], take_over="1m")
        other = LocalFolder(taking.folder, "gone")
        for name in ("a.csv", "b.pdf"):
            taking.put(name, b"x\n1\n")
            other.claim(name)
        os.utime(taking.folder / ".claimed/gone/.alive", (0, 0))
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual(taking.tree(), ["b.pdf", "done/a.csv"])
        self.assertIn(("file.taken_over", {"channel": "files", "files": 1}), taking.events)

    @inlineCallbacks
    def test_a_place_that_is_not_here(self) -> Any:
        """Its files are fetched once, and the copy is gone when the file is moved."""
        self.patch(LocalFolder, "local", lambda *_: None)
        taking = self.taking(format="pdf", archives={"names": []}, label=False)
        big = b"%PDF-1.7\n" + bytes(300_000) + b"\n%%EOF\n"
        taking.put("a.pdf", PDF)
        taking.put("b.pdf", big)
        yield self.begin(taking)
        yield taking.taken(2)
        self.assertEqual([taking.body(one) for one in self.kept.envelopes], [PDF, big])
        self.assertEqual(list((taking.context.data / "files").iterdir()), [])

    @inlineCallbacks
    def test_a_server_that_gives_more_than_it_says(self) -> Any:
        """Does not fill the disk; its next file is taken."""
        self.patch(LocalFolder, "local", lambda *_: None)
        original = LocalFolder.read
        endless = b"x\n" * (2 << 20)
        self.patch(LocalFolder, "read", lambda place, name: io.BytesIO(endless) if name.endswith("1.csv") else original(place, name))
        taking = self.taking(format="csv", most_size="1MB")
        taking.put("1.csv", b"x\n1\n")
        taking.put("2.csv", b"x\n2\n")
        yield self.begin(taking)
        yield taking.taken()
        self.assertEqual([read(one.body).row["x"] for one in self.kept.envelopes], ["2"])
        self.assertIn("done/2.csv", taking.tree())

    def test_no_answer_is_lost_at_the_stop(self) -> Deferred[None]:
        """Stopped before the first round has ended."""
        taking = self.taking(format="csv")
        taking.put("a.csv", b"x\n1\n")
        started = taking.start()
        return started.addCallback(lambda _: taking.stop())


class _Counting(io.BytesIO):
    """A file that counts how often it is read from."""

    reads = 0

    def readinto(self, buffer: Any) -> int:
        self.reads += 1
        return super().readinto(buffer)


def _row(envelope: Any) -> int:
    return int(read(envelope.body).row["x"])
