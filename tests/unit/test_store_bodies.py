"""Body files and the rows that refer to them: never a row without its file, and no file for ever without a row."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import StoreCorrupt, StoreError, StoreFull
from engine.message import BodyRef, Excerpt, Status
from engine.store.contract import Plan, Query, Settlement
from engine.store.sqlite import SqliteStore
from tests.support.store import Site, failing_fsync, message, power_cut, queued

BIG = b"x" * 500
SETTLED = Plan(Status.FILTERED, reason="rule")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    for store in list(site.opened):
        site.close(store)


def spooled(store: SqliteStore, body: bytes = BIG) -> BodyRef:
    spool = store.spool()
    spool.write(body)
    return spool.finish()


def readable(site: Site, store: SqliteStore, number: int) -> bool:
    body = site.wait(store.show(number)).envelope.body
    return bool(site.wait(store.read_body(body)) == BIG)


def test_a_spooled_body_survives_the_purge_of_its_twin(site: Site) -> None:
    """Its row is not there yet, and its file has the name of the one that goes."""
    store = site.open()
    site.wait(store.accept(message("1", BIG, SETTLED)))
    ref = spooled(store)
    assert site.wait(store.purge(2_000_000, 10)) == 1
    kept = site.wait(store.accept(message("2", ref)))  # type: ignore[arg-type]
    assert readable(site, store, kept.message_id)


def test_a_body_that_comes_again_in_the_purges_own_group_stays(site: Site) -> None:
    """Spooled before, kept by the same transaction, or kept right after the rows went: it is read back each time."""
    store = site.open()
    for number in range(0, 30, 3):
        site.wait(store.accept(message("old", BIG, SETTLED)))
        ref = spooled(store)
        with site.one_group(store):
            calls = [store.accept(message("a", BIG)), store.purge(2_000_000, 10), store.accept(message("b", BIG))]
            calls += [store.accept(message("c", ref)), store.sweep(100)]  # type: ignore[arg-type]
        first, gone, second, third, swept = [site.wait(call) for call in calls]
        assert (gone, swept) == (1, 0), number
        for kept in (first, second, third):
            assert readable(site, store, kept.message_id)
            site.wait(store.plan("c", [(kept.message_id, SETTLED)]))
        site.wait(store.purge(2_000_000, 10))


def test_a_purge_that_is_rolled_back_keeps_the_file(site: Site) -> None:
    """Two messages of one content are purged in steps; where the second step fails its row must still be readable."""
    store = site.open()
    for control_id, at in (("1", 1), ("2", 5)):
        site.wait(store.accept(message(control_id, BIG, SETTLED, received_at=at)))
    for after in range(40):
        with site.one_group(store):
            first, second = store.purge(2, 10), store.purge(9, 10)
            site.faults.arm(after + 1)  # the commit of what holds the group up is to pass
        for purge in (first, second):
            try:
                site.wait(purge)
            except StoreError:
                continue
        site.faults.armed = None
        for line in site.wait(store.search(Query())):
            assert readable(site, store, line.message_id), after


def test_a_body_that_is_not_there_is_refused(site: Site) -> None:
    """Never a positive answer for what cannot be read back; the others of its group are kept."""
    store = site.open()
    with site.one_group(store):
        good, bad, short = (
            store.accept(message("1")),
            store.accept(message("2", BodyRef("ab" * 32, 500))),  # type: ignore[arg-type]
            store.accept(message("3", BodyRef(spooled(store).digest, 499))),  # type: ignore[arg-type]
        )
    site.wait(good)
    for call in (bad, short):
        with pytest.raises(StoreError, match="not in the store"):
            site.wait(call)
    assert [line.control_id for line in site.wait(store.search(Query()))] == ["1"]
    assert all(line.closes for line in site.wait(store.ledger()))


def test_the_sweep_takes_what_no_row_refers_to(site: Site, tmp_path: Path) -> None:
    """A rendition that was sent, a message that could not be kept, a spooled one whose node died: gone, in small steps."""
    store = site.open()
    site.wait(store.accept(message("1", b"k" * 500, queued("a", body=b"m" * 500))))
    site.wait(store.settle("c", "a", [Settlement(1, 1, Status.SENT, 1)]))
    site.faults.arm(3)
    with pytest.raises(StoreFull):
        site.wait(store.accept(message("2", b"f" * 500)))
    with failing_fsync(), pytest.raises(StoreFull):
        site.wait(store.accept(message("3", b"g" * 500)))
    ref = spooled(store)
    assert len(site.files()) == 5
    assert sum(site.wait(store.sweep(1)) for _ in range(7)) == 3
    assert store._bodies.has(ref)
    site.close(store)
    site.folder = power_cut(site.folder, tmp_path / "cut")
    store = site.open(site.folder)
    assert len(site.files()) == 2
    assert sum(site.wait(store.sweep(10)) for _ in range(2)) == 1
    (left,) = site.files()
    assert left.read_bytes() == b"k" * 500


def test_a_file_that_a_crash_left_incomplete_is_replaced(site: Site) -> None:
    """Its name was there before its content: who spools the same content again must not trust it."""
    store = site.open()
    ref = spooled(store)
    path = store._bodies.path(ref.digest)
    path.write_bytes(bytes(len(BIG)))
    kept = site.wait(store.accept(message("1", spooled(store))))  # type: ignore[arg-type]
    assert readable(site, store, kept.message_id)


def test_the_file_of_a_row_is_never_replaced_by_one_that_is_not_on_the_disk(site: Site) -> None:
    """The same content spooled again: the new file is fsynced before it takes the name."""
    store = site.open()
    kept = site.wait(store.accept(message("1", spooled(store))))  # type: ignore[arg-type]
    with failing_fsync(), pytest.raises(StoreFull):
        spooled(store)
    assert readable(site, store, kept.message_id)


def test_a_spool_that_fails_leaves_no_pin(site: Site) -> None:
    """Or what it has begun could never be swept."""
    store = site.open()
    spool = store.spool()
    spool.write(BIG)
    with failing_fsync(), pytest.raises(StoreFull):
        spool.finish()
    assert not store._bodies._pinned


def test_a_refused_spooled_body_is_swept(site: Site) -> None:
    """The pin ends with the accept, however it ends."""
    store = site.open()
    site.wait(store.accept(message("1", idempotency_key="k", content_digest=b"d")))
    again = site.wait(store.accept(message("1", spooled(store), idempotency_key="k", content_digest=b"d")))  # type: ignore[arg-type]
    assert again.duplicate
    assert sum(site.wait(store.sweep(10)) for _ in range(2)) == 1


def test_a_spooled_body_that_goes_to_no_accept_is_swept(site: Site) -> None:
    """When it is said that it does not, and only as often: another that spooled the same content keeps its own."""
    store = site.open()
    refused, kept = spooled(store), spooled(store)
    assert refused == kept
    assert sum(site.wait(store.sweep(10)) for _ in range(2)) == 0
    store.unspool(refused)
    assert sum(site.wait(store.sweep(10)) for _ in range(2)) == 0
    store.unspool(kept)
    assert sum(site.wait(store.sweep(10)) for _ in range(2)) == 1


def test_a_body_can_be_looked_at_before_it_is_finished(site: Site) -> None:
    """All of it that came so far; who does not want it leaves nothing, and who does has a file of that content."""
    store = site.open()
    for wanted in (False, True):
        spool = store.spool()
        spool.write(BIG[:300])
        spool.write(BIG[300:])
        path = spool.peek()
        assert path.read_bytes() == BIG
        if wanted:
            assert store.body_file(spool.finish()).read_bytes() == BIG
        else:
            spool.abort()
        assert not path.exists()


def test_no_room_for_a_spool_is_said_in_our_words(site: Site) -> None:
    """The first file operation of a spool can fail as well as its last."""
    store = site.open()
    (site.folder / "bodies" / "spool").rmdir()
    with pytest.raises(StoreFull):
        store.spool()


def test_a_damaged_body_does_not_block_its_queue(site: Site) -> None:
    """A claim gives references: what cannot be read is found out by who sends it, parcel by parcel."""
    store = site.open()
    for body in (b"a" * 500, b"b" * 500, b"small"):
        site.wait(store.accept(message(body=body, plan=queued("a"))))
    first = site.wait(store.show(1)).envelope.body
    store._bodies.path(first.digest).unlink()
    claimed = [parcel.body for parcel, _ in site.wait(store.claim("c", "a", 0, 10))]
    with pytest.raises(StoreCorrupt):
        site.wait(store.read_body(claimed[0]))
    assert site.wait(store.read_body(claimed[1])) == b"b" * 500
    assert claimed[2] == b"small"


def test_the_beginning_of_a_body_can_be_read(site: Site) -> None:
    """Of a longer one an Excerpt, with the digest of all of it; a shorter one comes whole. Both travel to another process."""
    store = site.open()
    ref = spooled(store)
    begin = pickle.loads(pickle.dumps(site.wait(store.read_body(ref, 15))))
    assert isinstance(begin, Excerpt)
    assert (begin, begin.digest) == (BIG[:15], ref.digest)
    whole = site.wait(store.read_body(ref, len(BIG)))
    assert (whole, isinstance(whole, Excerpt)) == (BIG, False)
