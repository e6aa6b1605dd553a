"""The database held by another process, calls in their order, a store that is closed or could not be opened."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from twisted.internet.defer import Deferred

from engine.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull
from engine.message import Status
from engine.store import schema
from engine.store.contract import Plan, Query, Setback, Settlement
from engine.store.sqlite import SqliteStore
from tests.support.store import Site, message, queued, quick_retries

WAIT = 0.3
"""Seconds that a test's store waits for a lock: long enough to be counted, short enough to be waited for."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    with mock.patch.object(schema, "BUSY_SECONDS", WAIT):
        yield site
        for store in list(site.opened):
            site.close(store)


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """What another process does that has begun to write and does not end."""
    with closing(sqlite3.connect(site.folder / "meridian.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def failure(site: Site, call: Deferred[object]) -> StoreError | None:
    try:
        site.wait(call)
    except StoreError as error:
        return error
    return None


def test_a_locked_database_refuses_all_of_a_group_after_one_wait(site: Site) -> None:
    """Senders hear that it is unavailable; nobody waits for the others' turns."""
    store = site.open()
    site.wait(store.accept(message("0")))
    began = time.monotonic()
    with locked(site):
        calls = [store.accept(message(str(number))) for number in range(1, 20)]
        errors = [failure(site, call) for call in calls]
        waited = time.monotonic() - began
    assert all(isinstance(error, StoreBusy) for error in errors)
    assert waited < 5 * WAIT
    site.wait(store.accept(message("again")))
    assert [line.control_id for line in site.wait(store.search(Query()))] == ["again", "0"]


def test_settlements_outlive_a_locked_database(site: Site) -> None:
    """What was delivered is not forgotten: it is stored when the other process is done."""
    store = site.open()
    for control_id in "12":
        site.wait(store.accept(message(control_id, plan=queued("a"))))
    with quick_retries():
        with locked(site):
            settled = store.settle("c", "a", [Settlement(1, 1, Status.SENT, 1)])
            set_back = store.set_back("c", "a", [Setback(2, 1, 9, "busy", "code")])
            assert isinstance(failure(site, store.accept(message("3"))), StoreBusy)
            assert isinstance(failure(site, store.hold("c", "a", True)), StoreBusy)
            assert not settled.called
            assert not set_back.called
        site.wait(settled)
        site.wait(set_back)
    assert [site.wait(store.show(number)).found.status for number in (1, 2)] == [Status.SENT, Status.PENDING]


def test_reading_goes_on_beside_a_lock(site: Site) -> None:
    """Also for the command line, which opens the store meanwhile."""
    node = site.open()
    site.wait(node.accept(message("1")))
    with locked(site):
        beside = site.open(exclusive=False)
        assert len(site.wait(beside.search(Query()))) == 1


def test_effects_are_in_the_order_of_the_calls(site: Site) -> None:
    """In one group: a dead letter is resent after it died, a release follows its hold, an end follows its setback."""
    store = site.open()
    for control_id in "12":
        site.wait(store.accept(message(control_id, plan=queued("a"))))
    with site.one_group(store):
        calls = [
            store.settle("c", "a", [Settlement(2, 2, Status.SENT, 1)]),
            store.set_back("c", "a", [Setback(1, 1, 9, "busy", "code")]),
            store.settle("c", "a", [Settlement(1, 1, Status.ERROR, 2, reason="no", error_code="x")]),
            store.hold("c", "a", True),
            store.resend([1]),
            store.hold("c", "a", False),
            store.settle("c", "a", [Settlement(3, 1, Status.ERROR, 1, reason="never", error_code="x")]),
        ]
    fired: list[int] = []
    for index, call in enumerate(calls):
        call.addCallback(lambda result, index: fired.append(index) or result, index)  # type: ignore[func-returns-value]
    assert [site.wait(call) for call in calls][4] == 1
    assert fired == list(range(7))
    (line,) = site.wait(store.queues())
    assert (line.dead, line.hold) == (1, False)
    assert site.wait(store.show(1)).found.reason == "never"


def test_a_repetition_hears_the_answer_that_was_stored_before_it(site: Site) -> None:
    """Although accepts of one group are carried out together."""
    store = site.open()
    first = replace(message("1", plan=queued("a"), idempotency_key="k", content_digest=b"d"), answer=b"")
    site.wait(store.accept(first))
    with site.one_group(store):
        store.accept(message("2"))
        store.settle("c", "a", [Settlement(1, 1, Status.SENT, 1, "", b"said")])
        again = store.accept(first)
    assert site.wait(again).answer == b"said"


def test_a_parcels_setback_does_not_follow_its_end(site: Site) -> None:
    """Both ride along in one group, behind another parcel's settlement."""
    store = site.open()
    for control_id in "12":
        site.wait(store.accept(message(control_id, plan=queued("a"))))
    with site.one_group(store):
        store.settle("c", "a", [Settlement(2, 2, Status.SENT, 1)])
        store.set_back("c", "a", [Setback(1, 1, 9, "busy", "code")])
        store.settle("c", "a", [Settlement(1, 1, Status.ERROR, 2, reason="no", error_code="x")])
    site.wait(store.changed_elsewhere())
    assert site.wait(store.show(1)).found.reason == "no"


def test_a_closed_store_answers_every_call(site: Site) -> None:
    """With a StoreError, at once, from the moment that it begins to close; closing it again is harmless."""
    store = site.open()
    site.wait(store.accept(message("1")))
    site.opened.remove(store)
    closing_now = store.close()
    for _ in range(2):
        for call in every_call(store):
            assert isinstance(failure(site, call), StoreError)
        with pytest.raises(StoreError):
            store.spool()
        site.wait(closing_now)
        site.wait(store.close())


def every_call(store: SqliteStore) -> list[Deferred[object]]:
    writes = [
        store.accept(message("2")),
        store.plan("c", [(1, Plan(Status.FILTERED))]),
        store.settle("c", "a", []),
        store.set_back("c", "a", []),
        store.hold("c", "a", True),
        store.resend([1]),
        store.reprocess([1]),
        store.purge(1, 1),
        store.sweep(1),
        store.changed_elsewhere(),
    ]
    reads = [store.claim("c", "a", 0, 1), store.waiting("c", 0, 1), store.search(Query()), store.show(1), store.ledger(), store.queues()]
    return [*writes, *reads]  # type: ignore[list-item]


def test_a_store_that_was_never_opened_answers_too(site: Site) -> None:
    store = SqliteStore(site.folder, reactor=site.reactor, clock=lambda: 1, min_free=0)
    assert isinstance(failure(site, store.accept(message())), StoreError)
    site.wait(store.close())


@pytest.mark.parametrize("damage", ["no database", "newer", "no folder"])
def test_a_failed_open_holds_nothing(site: Site, damage: str) -> None:
    """No file stays open and no lock is held, so that it can be tried again once the cause is gone."""
    site.close(site.open())
    database = site.folder / "meridian.db"
    good = database.read_bytes()
    folder = site.folder
    if damage == "newer":
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA user_version = 99")
    elif damage == "no folder":
        folder = database / "below"
    else:
        database.write_bytes(b"no database" * 1000)
    before = len(os.listdir("/proc/self/fd"))
    store = SqliteStore(folder, reactor=site.reactor, clock=lambda: 1)
    with pytest.raises(StoreFull if damage == "no folder" else StoreCorrupt):
        site.wait(store.open())
    assert len(os.listdir("/proc/self/fd")) == before
    database.write_bytes(good)
    assert site.wait(site.open().queues()) == []


def test_a_disk_that_cannot_be_asked_refuses(site: Site) -> None:
    """An unmounted disk is no reason for an exception that nobody expects."""
    store = site.open()
    with mock.patch("os.statvfs", side_effect=OSError(5, "Input/output error")):
        assert isinstance(failure(site, store.accept(message())), StoreFull)


def test_nobody_else_may_read_the_files(site: Site) -> None:
    """Patients' data: 0600 for files, 0700 for folders, whatever the umask."""
    before = os.umask(0)
    try:
        store = site.open()
        site.wait(store.accept(message(body=b"x" * 500)))
    finally:
        os.umask(before)
    for path in (site.folder, *site.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
