"""Both stores keep the contract."""

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from engine.store.sqlite import SqliteStore
from tests.contracts.store_contract import StoreContract
from tests.support.memory_store import MemoryStore


class MemoryStoreTests(StoreContract, TestCase):
    def make(self) -> MemoryStore:
        return MemoryStore()


class SqliteStoreTests(StoreContract, TestCase):
    timeout = 60

    def make(self) -> SqliteStore:
        self.folder = getattr(self, "folder", None) or Path(self.mktemp())
        return SqliteStore(self.folder, reactor=reactor, clock=lambda: 5_000_000, inline_limit=1000, min_free=0)


class CommitProcessTests(SqliteStoreTests):
    """The same with a process that writes."""

    def make(self) -> SqliteStore:
        self.folder = getattr(self, "folder", None) or Path(self.mktemp())
        return SqliteStore(self.folder, reactor=reactor, clock=lambda: 5_000_000, inline_limit=1000, min_free=0, process=True)
