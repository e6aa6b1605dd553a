"""Opens a site's store for one command: a short run of the reactor around the store's Deferreds."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from engine.errors import ConfigError
from engine.store.contract import Store
from engine.store.sqlite import SqliteStore

reactor: Any = _reactor
ResultT = TypeVar("ResultT")


def now() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


def data_of(site: Path) -> Path:
    """The site's data folder. Raises ConfigError where there is none yet."""
    from channels.model import data_folder

    data = data_folder(site)
    if not data.is_dir():
        raise ConfigError(f"{data} does not exist: the node of this site has not run yet")
    return data


def with_store(site: Path, work: Callable[[Store], Deferred[ResultT]]) -> ResultT:
    """Run `work` on the store of `site` beside the node that may be running. Raises what it raises, ConfigError without a store."""
    data = data_of(site)

    @inlineCallbacks
    def session() -> Generator[Deferred[Any], Any, Any]:
        store = SqliteStore(data, reactor=reactor, clock=now, exclusive=False)
        yield store.open()
        try:
            return (yield work(store))
        finally:
            yield store.close()

    return run(session)  # type: ignore[no-any-return]


def run(work: Callable[[], Deferred[Any]]) -> Any:
    """Run the reactor until `work` has fired; gives its result or raises its failure. Once per process."""
    outcome: list[Any] = []

    def end(result: Any) -> None:
        outcome.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: maybeDeferred(work).addBoth(end))
    reactor.run()
    result = outcome[0] if outcome else None
    if isinstance(result, Failure):
        result.raiseException()
    return result
