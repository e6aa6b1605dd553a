"""One capture, in its thread: the first state, then the log; or the log, the rest of the first state, and the log again.

A first state that was interrupted is gone on with in a later transaction: the log is read up to that moment first, and all of it is
handed in, also for rows that come only then. So nothing is missing and no row ever goes back to an older state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from adapters.database.capture.changes import Change, Page, Wording
from adapters.database.capture.log import Behind, Log
from adapters.database.capture.snapshots import Rows
from adapters.database.capture.state import CHECKPOINT, Mark, State, Unreadable, state_of, way_back
from adapters.database.errors import source_error
from adapters.database.polling.rounds import Halted, Notice
from adapters.database.polling.subject import Unusable

if TYPE_CHECKING:
    from engine.options import Settings

_WAIT: Final = 1.0


class Capture:
    """`clock` gives microseconds UTC, `monotonic` seconds; `at_end` is called when all is over."""

    def __init__(
        self,
        options: Settings,
        log: Log,
        wording: Wording,
        mark: Mark,
        clock: Callable[[], int],
        monotonic: Callable[[], float],
        at_end: Callable[[], None],
    ) -> None:
        self._options, self._log, self._wording, self._mark = options, log, wording, mark
        self._clock, self._monotonic, self._at_end = clock, monotonic, at_end
        self._kept: State | None = None  # what is kept, and on disk
        self._state: State | None = None  # how far was read
        self._checkpoint = ""
        self._rows: Rows | None = None
        self._marked = self._looked = 0.0

    def resume(self, checkpoints: dict[str, str]) -> None:
        """With what the store knows. Before anything else."""
        self._checkpoint = checkpoints.get(CHECKPOINT, "")
        self._kept = state_of(self._checkpoint) if self._checkpoint else None
        self._kept = self._mark.read(self._checkpoint) or self._kept

    def open(self) -> None:
        """Raises Unusable, Halted, DatabaseError."""
        if self._state is not None:
            return
        again = self._kept is not None and self._options.begin_again == self._kept.at
        with self._failing():
            state = self._log.open(self._kept, again=again)
            if self._kept is None or again:
                self._note(state)  # so that a slot that is lost before the first message is missed, too
            self._state = state

    def page(self) -> Page:
        """The next messages. Raises Halted, DatabaseError; it is opened again then."""
        try:
            self.open()
            with self._failing():
                return self._page()
        except Unusable as error:
            raise Halted(error.text) from None

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Whatever is raised closes the log: it is opened again from what is kept."""
        try:
            yield
        except self._log.errors as error:
            self.close()
            raise source_error(error) from None
        except Unreadable as error:
            self.close()
            assert self._kept is not None
            raise Halted(way_back(self._kept, str(error))) from None
        except Exception:
            self.close()
            raise

    def _page(self) -> Page:
        assert self._state is not None
        self._let_go()
        if self._state.snapshot is None:
            return self._of_log("")
        if self._rows is None:
            first = self._log.first()
            page = self._of_log(first.at)
            if page.items or not self._reached:
                return page
            self._log.rest()
            self._rows = Rows(first.connection, self._log.subjects)
        return self._of_rows(self._rows)

    def _of_log(self, until: str) -> Page:
        assert self._state is not None
        batch = self._log.read(self._state, self._options.limit, _WAIT / 10 if self._state.snapshot else _WAIT, until)
        self._state, self._reached = batch.state, batch.reached
        wanted = [change for change in batch.changes if change.kind in self._options.operations and self._begun(change)]
        now = self._clock()
        items = [self._wording.item(change, batch.state.server, now) for change in wanted]
        return Page(items, batch.state, bool(items) or batch.more or bool(until))

    def _begun(self, change: Change) -> bool:
        """Whether rows of its table were handed in; otherwise its first state is still to come, and has this change in it."""
        snapshot = self._state.snapshot if self._state is not None else None
        return snapshot is None or change.subject.name in (*snapshot.done, snapshot.table)

    def _of_rows(self, rows: Rows) -> Page:
        assert self._state is not None
        changes, self._state = rows.page(self._state, self._options.limit)
        if self._state.snapshot is None:
            self._rows = None
            self._log.seen()
        now = self._clock()
        items = [self._wording.item(change, self._state.server, now) for change in changes]
        return Page(items, self._state, True)

    # --- what is kept --------------------------------------------------------------------------------

    def kept(self, page: Page, checkpoint: str) -> None:
        """All of a page is kept; its checkpoint with it, "" where it had no message. Raises DatabaseError."""
        if not checkpoint:
            return
        self._checkpoint, self._kept = checkpoint, page.state
        with self._failing():
            self._confirm()

    def _let_go(self) -> None:
        """Nothing is under way: what was read without a message is kept, too."""
        state, kept, now = self._state, self._kept, self._monotonic()
        assert state is not None
        waiting = state.snapshot is not None or (kept is not None and kept.snapshot is not None)
        if now < self._marked + self._options.heartbeat and not waiting and not self._log.asked:
            return
        self._marked = now
        if state != kept:
            self._note(state)
        self._confirm()

    def _note(self, state: State) -> None:
        self._mark.write(self._checkpoint, state)
        self._kept = state

    def _confirm(self) -> None:
        if self._state is not None and self._kept is not None:
            self._log.confirm(self._kept)

    def behind(self) -> Behind | None:
        """Every heartbeat; None in between. Raises Halted, DatabaseError."""
        now = self._monotonic()
        if self._state is None or self._kept is None or (self._looked and now < self._looked + self._options.heartbeat):
            return None
        self._looked = now
        with self._failing():
            return self._log.behind(self._kept)

    def notices(self) -> list[Notice]:
        found, self._log.said = self._log.said, []
        return found

    def close(self) -> None:
        """What was read and is not kept comes again."""
        self._state = self._rows = None
        self._log.close()

    def dispose(self) -> None:
        """For good."""
        self.close()
        self._at_end()
