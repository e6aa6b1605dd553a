"""The process that writes a node's store: ``python -m engine.store.committer FOLDER INLINE_LIMIT STARTS``, see engine.store.commit_process.

Groups of calls come through one pipe, outcomes go through the other, and it ends when the first is closed.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import Final

from engine.blocks import Parent
from engine.store.bodies import Bodies
from engine.store.schema import connect
from engine.store.transactions import Call, Transactor
from engine.store.writes import Writes

LOCK: Final = 5
"""The descriptor of the node's lock. It is only held: no other node may begin before this process has ended too."""


def main(folder: Path, inline_limit: int, starts: int) -> None:
    """Each group is answered by its outcomes and the destination ids that are new in it. `starts`: how often such a process was started
    before; what the one before had written is then news to the node."""
    parent = Parent()
    writes = Writes(connect(folder), Bodies(folder / "bodies"), lambda: time.time_ns() // 1000, inline_limit)
    writes.foreign_change = starts > 0
    transactor, known = Transactor(writes), 0
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # calls and outcomes are many objects, and no cycles
    for group in parent:
        outcomes = transactor.run([Call(*call) for call in group])
        ids = dict(writes.committed_ids) if len(writes.committed_ids) > known else {}
        known = len(writes.committed_ids)
        parent.send((outcomes, ids))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
