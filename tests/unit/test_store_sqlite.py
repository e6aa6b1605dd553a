"""What is particular to the SQLite store: a full disk, damage, versions, locks, files, retention, indexes."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import StoreCorrupt, StoreError, StoreFull
from engine.message import BodyRef, Status
from engine.store.contract import Arrival, Plan, Query, Settlement
from engine.store.sqlite import SqliteStore
from tests.support.store import Site, failing_fsync, message, power_cut, queued, quick_retries


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    for store in list(site.opened):
        site.close(store)


def test_a_full_disk_keeps_nothing_and_then_goes_on(site: Site) -> None:
    """Wherever in the transaction it comes: StoreFull, no trace of the message, and the next one has the next number."""
    store = site.open()
    site.wait(store.accept(message("0", plan=queued("a"))))
    refused = 0
    for after in range(12):
        site.faults.arm(after)
        try:
            site.wait(store.accept(message(f"x{after}", plan=queued("a"))))
        except StoreFull:
            refused += 1
        site.faults.armed = None
    kept = site.wait(store.accept(message("last", plan=queued("a"))))
    assert refused > 5
    assert kept.message_id == kept.seqs[0] == 12 - refused + 2
    assert all(line.closes for line in site.wait(store.ledger()))


def fill(site: Site, store: SqliteStore) -> None:
    """Accept until it fails; 64 MB are more than any test has room for."""
    for number in range(1000):
        site.wait(store.accept(message(str(number), b"x" * (64 << 10), queued("a"))))


def test_the_real_limit_of_a_database_refuses_and_recovers(site: Site) -> None:
    """SQLite's own SQLITE_FULL, from max_page_count; settling is done by the store when there is room again."""
    store = site.open()
    first = site.wait(store.accept(message("0", plan=queued("a"))))
    writer = store._writes._db
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(StoreFull):
        fill(site, store)
    before = site.wait(store.queues())[0].ready
    writer.execute("PRAGMA max_page_count = 1000000")
    site.wait(store.settle("c", "a", [Settlement(1, first.message_id, Status.SENT, 1)]))
    site.wait(store.accept(message("again", plan=queued("a"))))
    assert site.wait(store.queues())[0].ready == before
    assert all(line.closes for line in site.wait(store.ledger()))


def test_a_disk_that_is_really_full(site: Site) -> None:
    """A file system of 6 MB: refused when it is full, nothing half kept, and accepted again when there is room."""
    site.folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(site.folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        other = site.folder / "other"
        other.write_bytes(b"x" * (2 << 20))
        store = site.open(inline_limit=1 << 20)
        with pytest.raises(StoreFull):
            fill(site, store)
        kept = len(site.wait(store.search(Query(limit=1000))))
        assert all(line.closes for line in site.wait(store.ledger()))
        other.unlink()
        site.wait(store.accept(message("again", plan=queued("a"))))
        assert len(site.wait(store.search(Query(limit=1000)))) == kept + 1
        assert all(line.closes for line in site.wait(store.ledger()))
        site.close(store)
    finally:
        subprocess.run(["umount", str(site.folder)], check=True)


def test_a_settlement_outlives_a_full_disk(site: Site) -> None:
    """What was delivered is not forgotten: the store tries again until it can be written."""
    store = site.open()
    site.wait(store.accept(message(plan=queued("a"))))
    with quick_retries():
        site.faults.arm(1)
        site.wait(store.settle("c", "a", [Settlement(1, 1, Status.SENT, 1)]))
    assert site.faults.hits == 1
    assert site.wait(store.show(1)).found.status is Status.SENT


def test_too_little_room_refuses_early(site: Site) -> None:
    """Below min_free messages are refused while settling still goes on."""
    store = site.open()
    site.wait(store.accept(message(plan=queued("a"))))
    site.close(store)
    store = site.open(min_free=1 << 60)
    with pytest.raises(StoreFull):
        site.wait(store.accept(message("2")))
    site.wait(store.settle("c", "a", [Settlement(1, 1, Status.SENT, 1)]))
    assert site.wait(store.show(1)).found.status is Status.SENT


def test_one_bad_call_of_a_group_fails_alone(site: Site) -> None:
    """What SQLite cannot keep (a lone surrogate is no UTF-8) does not take the others with it."""
    store = site.open()
    calls = [store.accept(message(control_id)) for control_id in ("1", "2", "\ud800", "4")]
    outcomes = []
    for call in calls:
        try:
            outcomes.append(site.wait(call).message_id > 0)
        except StoreError as error:
            assert not isinstance(error, StoreFull | StoreCorrupt)
            outcomes.append(False)
    assert outcomes == [True, True, False, True]
    assert len(site.wait(store.search(Query()))) == 3


def test_damage_stops_accepting(site: Site) -> None:
    """After SQLITE_CORRUPT nothing is accepted any more."""
    store = site.open()
    site.faults.arm(2, sqlite3.SQLITE_CORRUPT)
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            site.wait(store.accept(message()))


def test_a_file_that_is_no_database_is_said_to_be_damaged(site: Site) -> None:
    """Opening it fails with StoreCorrupt rather than with whatever SQLite raises."""
    site.folder.mkdir()
    (site.folder / "meridian.db").write_bytes(b"no database" * 1000)
    store = SqliteStore(site.folder, reactor=site.reactor, clock=lambda: 1)
    with pytest.raises(StoreCorrupt):
        site.wait(store.open())


def test_a_second_node_is_refused_and_the_command_line_is_not(site: Site) -> None:
    """One node per store; what the command line writes is noticed, and its numbers are not used twice."""
    node = site.open()
    site.wait(node.accept(message("1", plan=queued("a"))))
    second = SqliteStore(site.folder, reactor=site.reactor, clock=lambda: 1)
    with pytest.raises(StoreError, match="another node"):
        site.wait(second.open())
    site.wait(node.changed_elsewhere())
    assert not site.wait(node.changed_elsewhere())
    beside = site.open(exclusive=False)
    assert site.wait(beside.accept(message("2", plan=queued("a")))).seqs == (2,)
    assert site.wait(node.changed_elsewhere())
    assert site.wait(node.accept(message("3", plan=queued("a")))).seqs == (3,)


def test_numbers_are_never_used_again(site: Site) -> None:
    """Also when retention has emptied the store and it was started again."""
    store = site.open()
    first = site.wait(store.accept(message(plan=queued("a"))))
    site.wait(store.settle("c", "a", [Settlement(1, 1, Status.SENT, 1)]))
    assert site.wait(store.purge(2_000_000, 10)) == 1
    site.close(store)
    store = site.open()
    second = site.wait(store.accept(message(plan=queued("a"))))
    assert (first.message_id, first.seqs, second.message_id, second.seqs) == (1, (1,), 2, (2,))
    (channel, destination) = site.wait(store.ledger())
    assert (channel.received, channel.delivered, channel.in_flight) == (2, 1, 1)
    assert channel.closes
    assert destination.closes


def settled(control_id: str, status: Status, received_at: int, body: bytes = b"body") -> Arrival:
    return message(control_id, body, Plan(status, reason="rule"), received_at=received_at)


def test_retention_takes_only_what_is_settled_well_and_old(site: Site) -> None:
    """In error, waiting, in the inbox or younger: it stays."""
    store = site.open()
    for arrival in (
        settled("filtered", Status.FILTERED, 1),
        settled("error", Status.ERROR, 1),
        settled("young", Status.FILTERED, 10),
        message("inbox", received_at=1),
        message("queued", plan=queued("a"), received_at=1),
        message("dead", plan=queued("b"), received_at=1),
    ):
        site.wait(store.accept(arrival))
    site.wait(store.settle("c", "b", [Settlement(1, 6, Status.ERROR, 1, reason="no")]))
    assert site.wait(store.purge(10, 100)) == 1
    left = {line.control_id for line in site.wait(store.search(Query()))}
    assert left == {"error", "young", "inbox", "queued", "dead"}
    assert all(line.closes for line in site.wait(store.ledger()))


def test_big_bodies_are_files_once_and_go_with_their_last_row(site: Site) -> None:
    """The same content is stored once; retention removes the file when the last message that has it goes."""
    store = site.open()
    for control_id, at in (("1", 1), ("2", 5)):
        site.wait(store.accept(settled(control_id, Status.FILTERED, at, b"x" * 500)))
    (file,) = site.files()
    assert file.read_bytes() == b"x" * 500
    site.wait(store.purge(2, 100))
    assert site.files() == [file]
    site.wait(store.purge(9, 100))
    assert site.files() == []


def test_a_body_that_has_changed_on_disk_is_not_given_out(site: Site) -> None:
    """The digest is checked at every reading."""
    store = site.open()
    site.wait(store.accept(message(body=b"x" * 500)))
    site.files()[0].write_bytes(b"y" * 500)
    body = site.wait(store.show(1)).envelope.body
    assert isinstance(body, BodyRef)
    with pytest.raises(StoreCorrupt):
        site.wait(store.read_body(body))


def test_a_body_that_does_not_fit_refuses_the_message(site: Site) -> None:
    """The file is fsynced before the row, so a failing fsync is a StoreFull and no row."""
    store = site.open()
    with failing_fsync(), pytest.raises(StoreFull):
        site.wait(store.accept(message(body=b"x" * 500)))
    assert site.wait(store.search(Query())) == []


def test_a_spooled_body_is_accepted_and_an_aborted_one_leaves_nothing(site: Site) -> None:
    """A body that comes in pieces has the digest of the whole."""
    store = site.open()
    spool = store.spool()
    for piece in (b"a" * 300, b"b" * 300):
        spool.write(piece)
    ref = spool.finish()
    site.wait(store.accept(message(body=ref)))  # type: ignore[arg-type]
    other = store.spool()
    other.write(b"c")
    other.abort()
    assert site.wait(store.read_body(ref)) == b"a" * 300 + b"b" * 300
    assert len(site.files()) == 1


def test_half_written_bodies_are_gone_after_a_power_cut(site: Site, tmp_path: Path) -> None:
    """The spool is empty after the next start."""
    store = site.open()
    spool = store.spool()
    spool.write(b"half")
    copy = power_cut(site.folder, tmp_path / "cut")
    spool.abort()
    site.close(store)
    site.open(copy)
    assert list((copy / "bodies" / "spool").iterdir()) == []


def test_a_newer_schema_is_refused(site: Site) -> None:
    """An older version must not write into it; the text says why."""
    site.close(site.open())
    connection = sqlite3.connect(site.folder / "meridian.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = SqliteStore(site.folder, reactor=site.reactor, clock=lambda: 1)
    with pytest.raises(StoreCorrupt, match="newer Meridian"):
        site.wait(store.open())


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(control_id="1"), "message_control_id"),
        (Query(patient_id="P"), "patient=?"),
        (Query(channel="c"), "message_channel"),
        (Query(control_id="1", channel="c", since=1), "message_control_id"),
        (Query(status=Status.FILTERED), "outcome_status"),
        (Query(status=Status.FILTERED, channel="c"), "outcome_status"),
        (Query(status=Status.QUEUED), "queue_message"),
    ],
    ids=str,
)
def test_searches_use_their_index(site: Site, query: Query, index: str) -> None:
    """The plan of the search names the index and neither sorts nor scans the messages."""
    store = site.open()
    site.wait(store.accept(message(plan=queued("a"), patient_ids=("P",))))
    plans = explained(site, store, query)
    assert any(index in line for line in plans), plans
    assert not any("USE TEMP B-TREE FOR ORDER BY" in line or line == "SCAN m" for line in plans), plans


def explained(site: Site, store: SqliteStore, query: Query) -> list[str]:
    """The query plan of every statement that a search runs."""
    with sqlite3.connect(site.folder / "meridian.db") as connection:
        texts: list[str] = []
        readers = [link for link in store._connections if link.execute("PRAGMA query_only").fetchone()[0]]
        for reader in readers:
            reader.set_trace_callback(texts.append)
        site.wait(store.search(query))
        for reader in readers:
            reader.set_trace_callback(None)
        searches = [text for text in texts if "ORDER BY" in text and text.split("LIMIT")[-1].strip() == str(query.limit)]
        assert searches
        plans = [row[3] for text in searches for row in connection.execute(f"EXPLAIN QUERY PLAN {text}")]
    connection.close()
    return plans
