"""The audit log: who connected, who was refused, who read and changed what. Append-only, hash-chained, without patient data.

On disk: ``YYYY-MM-DD.jsonl`` (UTC), one record a line: seq, time, event, facts, prev, hash; `hash` is the SHA-256 of the record without
itself, `prev` the hash of the record before it, across files. Where a clock was set back the newest file goes on, so that the order of
the names is that of the records. ``head.json`` holds the last seq and hash. The node and the command line append under one lock
(``.lock``); each looks first whether the log still ends where the head says, and writes down what it finds as ``audit.damaged``.

The verifier finds an edited, deleted, inserted or reordered record by the chain, a cut-off end by the head, and one that was cut off
before a restart by the record of it. Who can rewrite the log and head.json alike is found only by a copy of head.json kept elsewhere.

chain      the format: records, search, verify     (reads only)
writing    appends, under the lock
log        the node's side: buffered, off the reactor thread, nothing is dropped in silence
"""

from engine.audit.chain import Record, digest, records, search, verify
from engine.audit.log import FLUSH_SECONDS, RETRY_SECONDS, AuditLog
from engine.audit.writing import Entry, append

__all__ = ["FLUSH_SECONDS", "RETRY_SECONDS", "AuditLog", "Entry", "Record", "append", "digest", "records", "search", "verify"]
