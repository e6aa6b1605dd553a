"""What the engine asks of a store. SQLite is the embedded default (engine.store.sqlite).

Invariants, checked by tests/contracts/store_contract.py for every implementation:

1. A Deferred fires only after what it stands for is on disk (fsync). Writes take effect and fire in the order of the calls, as far
   as they concern the same things; settle and set_back that meet a full disk or a lock are kept, tried again and fire then.
2. A message has a row from its accept until retention removes it; its body is never altered.
3. Every accepted message is, at any moment, exactly one of: in the inbox (not planned yet), in at least one
   queue, or settled (every destination SENT or dead-lettered; or FILTERED; or ERROR). What an operator resends may be in the
   inbox for one destination while it waits in the queue of another.
4. `accept` with a plan, and `plan`, are atomic: the inbox entry goes and all the queue rows come, or neither.
5. After StoreFull (no room) or StoreBusy (another process holds the database) nothing of the failed call is kept, and later calls
   succeed once that is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from engine.message import BodyRef, Envelope, Judgement, Parcel, Status
from engine.values import value

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

CLAIM_BYTES: Final = 16 << 20
"""A claim ends with the parcel that brings its bodies in memory to this many bytes."""


@value(frozen=True, slots=True)
class Routed:
    """One destination's share of a plan. `body` None: the raw body as it was received goes out."""

    destination: str
    body: bytes | None = None
    content_type: str = ""
    message_type: str = ""
    order_key: str = ""


@value(frozen=True, slots=True)
class Plan:
    """What is to become of a message: QUEUED with `routed`, or settled as FILTERED or ERROR with a reason (never payload). QUEUED without
    a destination settles as FILTERED. `unmapped` codes are counted, not stored."""

    status: Status
    routed: tuple[Routed, ...] = ()
    reason: str = ""
    error_code: str = ""
    unmapped: int = 0


@value(frozen=True, slots=True)
class Arrival:
    """A message to commit. Without a `plan` an ACCEPTED message waits in the inbox; REFUSED settles as FILTERED,
    INVALID as ERROR, each with the judgement's reason. `answer` is stored for duplicates. `duplicate_window` in
    microseconds: how far back a same idempotency key counts as the same message (0 = no check)."""

    channel: str
    envelope: Envelope
    judgement: Judgement
    answer: bytes
    plan: Plan | None = None
    duplicate_window: int = 0


@value(frozen=True, slots=True)
class Accepted:
    """`message_id` of the row; for a duplicate that of the first one, with its `answer` and `judgement`, and
    `same_content` False where the key was used for other content (nothing was kept in either case: the caller
    decides and may accept again with another key). `seqs`: the queue numbers, in the order of `plan.routed`."""

    message_id: int
    seqs: tuple[int, ...] = ()
    duplicate: bool = False
    same_content: bool = True
    answer: bytes = b""
    judgement: Judgement | None = None


@value(frozen=True, slots=True)
class Settlement:
    """The end of one parcel: SENT with a receipt, or ERROR (dead letter: the queue row is kept, dead, with its reason).

    An `answer` that is not empty replaces the message's stored answer, so that a duplicate hears it too.
    """

    seq: int
    message_id: int
    status: Status
    attempts: int
    reference: str = ""
    answer: bytes = b""
    reason: str = ""
    error_code: str = ""


@value(frozen=True, slots=True)
class Setback:
    """A failed attempt that will be repeated: `next_attempt_at` in microseconds UTC."""

    seq: int
    attempts: int
    next_attempt_at: int
    reason: str
    error_code: str


@value(frozen=True, slots=True)
class Query:
    """A search. Empty fields do not restrict; times in microseconds UTC, `since` <= received_at < `until`. Highest number first, whatever
    the clock did; `before_id` gives the next page. `status` finds exactly those that are shown with it."""

    control_id: str = ""
    patient_id: str = ""
    channel: str = ""
    destination: str = ""
    status: Status | None = None
    message_type: str = ""
    sender: str = ""
    since: int = 0
    until: int = 0
    before_id: int = 0
    limit: int = 100


@value(frozen=True, slots=True)
class Found:
    """One line of a search."""

    message_id: int
    channel: str
    received_at: int
    message_type: str
    control_id: str
    sender: str
    peer: str
    status: Status
    size: int
    reason: str = ""


@value(frozen=True, slots=True)
class Step:
    """One event in a message's life, for `messages trace`: RECEIVED, QUEUED, PENDING, SENT, ERROR …, with where and why."""

    at: int
    status: Status
    destination: str = ""
    attempts: int = 0
    reference: str = ""
    reason: str = ""
    answer: bytes = b""


@value(frozen=True, slots=True)
class Kept:
    """All that is kept of a message: `envelope` as received, the `answer` it got, its `steps`."""

    found: Found
    envelope: Envelope
    judgement: Judgement
    answer: bytes
    steps: tuple[Step, ...]


@value(frozen=True, slots=True)
class LedgerLine:
    """One channel (destination "") or one of its destinations. Closes when nothing is unaccounted for.

    For a channel `received` counts committed messages, each once; it is delivered when every destination has it, dead-lettered
    when it ended in error anywhere, in flight while anything is still to be done. For a destination `received` counts what was queued
    for it. `resent` counts what an operator had it sent once more: not in `received`, but in one of the columns of the destination's
    line. `unaccounted` names control ids (or ``#id`` where there is none) that are in none of the columns.
    """

    channel: str
    destination: str
    received: int
    delivered: int
    filtered: int
    dead_lettered: int
    in_flight: int
    unaccounted: tuple[str, ...] = ()
    resent: int = 0

    @property
    def closes(self) -> bool:
        ended = self.delivered + self.filtered + self.dead_lettered + self.in_flight
        return not self.unaccounted and self.received + (self.resent if self.destination else 0) == ended


@value(frozen=True, slots=True)
class QueueLine:
    """One destination's queue as `meridian queue ls` shows it. `oldest_at` is 0 for an empty queue."""

    channel: str
    destination: str
    ready: int
    pending: int
    held: int
    dead: int
    oldest_at: int
    hold: bool
    last_error: str = ""


@value(frozen=True, slots=True)
class Waiting:
    """A message of the inbox, to be planned again after a restart."""

    message_id: int
    envelope: Envelope
    extra: dict[str, str] = field(default_factory=dict)


class Spool(Protocol):
    """A body that is being received in pieces, for messages too big for memory. Once finished it is safe from removal until the
    `accept` that refers to it has fired, it is unspooled, or the node ends. `write` and `finish` may be called in a thread, one at a
    time."""

    def write(self, data: bytes | memoryview) -> None: ...

    def peek(self) -> Path:
        """The file with what was written so far: there until `finish` or `abort`. Who looks before may refuse it without a trace."""

    def finish(self) -> BodyRef:
        """Fsync and give the reference to put into an Envelope. Raises StoreFull."""

    def abort(self) -> None: ...


class Store(Protocol):
    """All methods may be called from the reactor thread only; the Deferreds fail with StoreError kinds, after `close` at once.

    Reads see what was committed before them; they do not wait for writes that are under way."""

    def parcel_key(self, channel: str, destination: str, seq: int) -> str:
        """The idempotency key of a parcel: the same that `claim` gives, at every attempt and after every restart. Pure and fast."""

    def open(self) -> Deferred[None]:
        """Create or migrate, recover, begin. Fails with StoreCorrupt (integrity, unknown newer schema)."""

    def close(self) -> Deferred[None]:
        """Commit what was asked for, then close."""

    def accept(self, arrival: Arrival) -> Deferred[Accepted]:
        """Keep a message. Fails with StoreFull or StoreBusy when it cannot be kept now, and with StoreError for a BodyRef whose body is
        not in the store: spool it again."""

    def plan(self, channel: str, plans: Sequence[tuple[int, Plan]]) -> Deferred[list[tuple[int, ...]]]:
        """Settle or queue messages of the inbox; gives each one's queue numbers, in the order of `routed`. A message no longer in the
        inbox gives (); a destination that a resend left out has the number 0."""

    def settle(self, channel: str, destination: str, settlements: Sequence[Settlement]) -> Deferred[None]:
        """May wait a few milliseconds to ride along with other commits."""

    def set_back(self, channel: str, destination: str, setbacks: Sequence[Setback]) -> Deferred[None]: ...

    def claim(
        self, channel: str, destination: str, after: int, limit: int, order_key: str | None = None, until: int | None = None
    ) -> Deferred[list[tuple[Parcel, int]]]:
        """Ready parcels with `after` < seq <= `until`, lowest first, each with its next_attempt_at (0 = at once); not held, not dead.
        `order_key` restricts to one key. `Parcel.attempt` is attempts so far + 1. At most `limit`, and stops early once 16 MB
        of bodies are gathered. A body that is a file comes as BodyRef and weighs nothing: who sends it reads it, one at a time, so that
        a damaged one harms its own parcel only."""

    def waiting(self, channel: str, after: int, limit: int) -> Deferred[list[Waiting]]:
        """Messages of the inbox with id > `after`, oldest first."""

    def hold(self, channel: str, destination: str, hold: bool) -> Deferred[None]:
        """Stop or restart a destination's deliveries; survives a restart."""

    def resend(self, message_ids: Sequence[int], destination: str = "") -> Deferred[int]:
        """Queue again what was sent or dead-lettered, under the order key it had; what still waits for a destination is left there.
        What was sent mapped goes back to the inbox of its channel, for the destinations that had it. Gives how many parcels will go out."""

    def reprocess(self, message_ids: Sequence[int]) -> Deferred[int]:
        """Put messages back into the inbox, to be decoded, routed and mapped again from the raw bytes."""

    def search(self, query: Query) -> Deferred[list[Found]]: ...

    def show(self, message_id: int) -> Deferred[Kept | None]: ...

    def ledger(self) -> Deferred[list[LedgerLine]]: ...

    def queues(self) -> Deferred[list[QueueLine]]: ...

    def purge(self, before: int, limit: int) -> Deferred[int]:
        """Remove at most `limit` settled messages received before that time, with their bodies; never what is in flight or
        in error. The ledger keeps their counts. Gives how many went."""

    def sweep(self, limit: int) -> Deferred[int]:
        """Look at the next `limit` body files, round and round, and remove those that no row refers to and that are not spooled for an
        accept to come. Gives how many went."""

    def spool(self) -> Spool:
        """Begin a body that comes in pieces; may be called in a thread. Raises StoreFull, and StoreError when closed."""

    def unspool(self, ref: BodyRef) -> None:
        """What was spooled and finished goes to no accept after all: once for each, instead of the accept. `sweep` removes it."""

    def body_file(self, ref: BodyRef) -> Path:
        """The file with a body: complete, never altered, and there as long as a message or parcel that refers to it is not settled.
        Who wants it for longer makes a hard link."""

    def checkpoints(self, channel: str) -> Deferred[dict[str, str]]:
        """The last value of each checkpoint that came with a message of this channel, a repeated one too."""

    def read_body(self, ref: BodyRef, most: int = 0) -> Deferred[bytes]:
        """The whole body; of one of more than `most` bytes an Excerpt of the first `most`, unchecked. Fails with StoreCorrupt where it
        is damaged or gone: that message's fault only, and not to be tried again; with another StoreError where it may be tried again."""

    def changed_elsewhere(self) -> Deferred[bool]:
        """Whether another process (the command line) has written since the last call."""
