"""Opens a site's store for one command: a short run of the reactor around the store's Deferreds."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks

from engine.errors import ConfigError
from engine.store.contract import Store
from engine.store.sqlite import SqliteStore

ResultT = TypeVar("ResultT")


def now() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def with_store(site: Path, work: Callable[[Store], Deferred[ResultT]]) -> ResultT:
    """Run `work` on the store of `site` beside the node that may be running. Raises what it raises, ConfigError without a store."""
    from channels import data_folder

    data = data_folder(site)
    if not data.is_dir():
        raise ConfigError(f"{data} does not exist: the node of this site has not run yet")

    @inlineCallbacks
    def session() -> Generator[Deferred[Any], Any, Any]:
        store = SqliteStore(data, reactor=reactor, clock=now, exclusive=False)
        yield store.open()
        try:
            return (yield work(store))
        finally:
            yield store.close()

    return run(session)  # type: ignore[no-any-return]


def run(work: Callable[[], Deferred[ResultT]]) -> ResultT:
    """Run the reactor until `work` has fired; gives its result or raises its failure. Once per process."""
    outcome: list[Any] = []

    def begin() -> None:
        work().addBoth(outcome.append).addBoth(lambda _: reactor.stop())  # type: ignore[attr-defined]

    reactor.callWhenRunning(begin)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    result = outcome[0] if outcome else None
    raise_exception = getattr(result, "raiseException", None)
    if raise_exception is not None:
        raise_exception()
    return result  # type: ignore[no-any-return]
