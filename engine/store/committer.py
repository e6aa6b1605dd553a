"""The process that writes a node's store: ``python -m engine.store.committer FOLDER INLINE_LIMIT STARTS``, see engine.store.commit_process.

Groups of calls come through one pipe, outcomes go through the other, and it ends when the first is closed.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.blocks import block, outlive_signals, read_block
from engine.store.bodies import Bodies
from engine.store.schema import connect
from engine.store.transactions import Call, Transactor
from engine.store.writes import Writes

CALLS: Final = 3
OUTCOMES: Final = 4
LOCK: Final = 5
"""File descriptors. The node's lock is only held: no other node may begin before this process has ended too."""


def serve(writes: Writes) -> None:
    """Group after group until the pipe is closed. Each is answered by its outcomes and the destination ids that are new in it."""
    transactor, known = Transactor(writes), 0
    with os.fdopen(CALLS, "rb") as calls, os.fdopen(OUTCOMES, "wb") as outcomes, suppress(EOFError, BrokenPipeError):
        while True:
            results = transactor.run([Call(*call) for call in read_block(calls)])
            ids = dict(writes.committed_ids) if len(writes.committed_ids) > known else {}
            known = len(writes.committed_ids)
            outcomes.write(block((results, ids)))
            outcomes.flush()


def main(folder: Path, inline_limit: int, starts: int) -> None:
    """`starts`: how often such a process was started before; what the one before had written is then news to the node."""
    outlive_signals()
    writes = Writes(connect(folder), Bodies(folder / "bodies"), lambda: time.time_ns() // 1000, inline_limit)
    writes.foreign_change = starts > 0
    serve(writes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
