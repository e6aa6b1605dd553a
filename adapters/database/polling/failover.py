"""Whether what answers is still the table that was read: failover, an empty standby, a table that was emptied or put back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from adapters.database.polling.rounds import Halted, Notice
from adapters.database.polling.window import Position

if TYPE_CHECKING:
    from engine.options import Settings

_LONG_AGO: Final = timedelta(days=1)


class ServerWatch:
    """`server` is which one answered last, "" where that is not known. Of a select (`of_table` False) the highest watermark is unknown."""

    def __init__(self, options: Settings, *, of_table: bool) -> None:
        self._mark, self._confirmed, self._of_table = options.watermark, options.server, of_table
        self.server = ""
        self.said: list[Notice] = []
        self._back = False

    def check(self, server: str, highest: Any, front: Position | None, table: str, there: Callable[[], Any]) -> bool:
        """Whether to begin anew, as an operator has confirmed. Raises Halted where going on would skip or repeat. `there` gives the
        highest watermark, or that of a row at the front or after it; None where there is none."""
        anew = False
        if self.server and server and server != self.server:
            anew = self._meet(server, front, table, there)
        elif front is not None and self._of_table and not self._mark.purged and self._confirmed != server:
            self._look_back(highest, front.mark, table)
        self.server = server or self.server
        return anew

    def _look_back(self, highest: Any, front: Any, table: str) -> None:
        """The same server: its table may have been emptied, or put back to what it was earlier."""
        if highest is None or (isinstance(front, date) and highest < front - _LONG_AGO):
            state = "is empty" if highest is None else "ends long before what was read of it"
            raise Halted(
                f"{table} {state}: this is not the table that was read until now, or its rows were deleted. "
                "Nothing is read until they are back; where rows are deleted on purpose, say watermark: {purged: true}"
            )
        if (back := highest < front) != self._back:
            self._back = back
            if back:
                text = f"the newest rows of {table} are gone: they were deleted, or the table was put back"
                self.said.append(Notice("database.rows_gone", text, facts={"table": table}))

    def _meet(self, server: str, front: Position | None, table: str, there: Callable[[], Any]) -> bool:
        highest = there()
        confirmed = self._confirmed == server
        lost = front is not None and (highest is None or highest < front.mark)
        if lost and not confirmed:
            raise Halted(
                f"another server answers ({server}), and {table} lacks rows there that were read before: it is an empty or older copy. "
                f"Nothing is read until the rows are back; to go on with it as it is, say server: {server!r}"
            )
        facts = {"table": table, "before": self.server, "server": server}
        self.said.append(Notice("database.server_changed", "another server answers; the table goes on where it was", facts=facts))
        return confirmed and self._mark.start is not None
