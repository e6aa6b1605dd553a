"""asyncio's loop, which asyncssh needs, in a thread of its own: one for all the places and servers of a node."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

ResultT = TypeVar("ResultT")
_SHARED: Final = "file.ssh"
_LOCK: Final = threading.Lock()


class Loop:
    """`take` and `give_back` are counted: the thread lives while somebody has it."""

    def __init__(self) -> None:
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        with _LOCK:
            self._users += 1
            if self._users == 1:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True)
                self._thread.start()

    def give_back(self) -> None:
        """The last one ends the thread, with what is still under way in it."""
        with _LOCK:
            self._users -= 1
            loop, thread = self._loop, self._thread
            if self._users or loop is None or thread is None:
                return
            self._loop = self._thread = None
        asyncio.run_coroutine_threadsafe(_finish(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def run(self, work: Awaitable[ResultT], seconds: float | None = None) -> ResultT:
        """Wait in the calling thread. Raises TimeoutError where it takes longer than `seconds`: then it is cancelled."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result(seconds)
        except concurrent.futures.TimeoutError:  # the same class as TimeoutError, which the work itself may have raised too
            future.cancel()
            raise
        except concurrent.futures.CancelledError:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the node stops") from None

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call it there, soon; nobody waits."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function, *arguments)


async def _awaited(work: Awaitable[ResultT]) -> ResultT:
    """asyncssh gives more than coroutines."""
    return await work


async def _finish() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def shared_loop(shared: dict[str, Any]) -> Loop:
    """The node's (engine.contracts.Context.shared)."""
    loop: Loop = shared.setdefault(_SHARED, Loop())
    return loop
